"""Plan a recipe and run what the ledger lacks. Killed at any moment, the same command goes on where
it stopped."""

import functools
import importlib
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from onmodel.engine.attempt import recorded
from onmodel.engine.project import Project
from onmodel.engine.tracking import journal
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import hash_json, write_json
from onmodel.ledger import versions
from onmodel.ledger.lineage import Lineage
from onmodel.ledger.store import RunStart
from onmodel.paths import folded
from onmodel.processes import ALONE, Processes
from onmodel.recipe import Recipe, refuse_unknown
from onmodel.records import Artifact
from onmodel.stages import VERBS
from onmodel.stages.base import Context, Inputs, Plan, StageSettings
from onmodel.version import __version__

if TYPE_CHECKING:
    from onmodel.families.protocol import Family, Outline
    from onmodel.stages import train
    from onmodel.train.memory import Forecast

# Seconds per unit on two cores with the toon base, measured with recipes/release_2.toml; unknown
# for another base.
TOON_RATES = {"step": 0.16, "picture": 0.14, "stage": 2.0}
# More than any recipe means: a hundred times what the largest LoRA trainings take.
MOST_STEPS = 10_000_000
MOST_PICTURES = 10_000_000
# What a training's memory and files follow from, beside its pictures.
FORECAST = {
    "network",
    "rank",
    "alpha",
    "ranks",
    "targets",
    "lokr_factor",
    "batch",
    "precision",
    "save_precision",
    "ema",
    "optimizer",
}


@dataclass(frozen=True)
class Step:
    """One stage of a plan. `seconds` is None on a base that was never measured."""

    name: str
    verb: str
    settings: StageSettings
    plan: Plan
    seconds: float | None


def stage_module(verb: str) -> ModuleType:
    """The file of a verb, imported when first needed."""
    return importlib.import_module(VERBS[verb])


def make_plan(recipe: Recipe) -> list[Step]:
    """Check every setting and reference of a recipe and say what each stage will cost. Writes
    nothing."""
    steps: list[Step] = []
    plans: dict[str, Plan] = {}
    per = TOON_RATES if recipe.base_name == "toon" else None
    released: list[str] = []
    for name, table in recipe.stages.items():
        module = stage_module(table["do"])
        settings = _settings(name, table, module.Settings)
        for reference in settings.needs():
            stage = reference.partition("@")[0]
            if stage not in plans:
                remedy = f"no such stage; before this one: {', '.join(plans) or 'none yet'}"
                if stage in recipe.stages:
                    remedy = "stands later in the recipe; move it up"
                raise InputError(f"stages.{name}", reference, remedy)
        if table["do"] == "release":  # not after hours of training
            module.check_licence(settings, recipe.base_name, recipe.character)
            if folded(table["file_name"]) in released:
                remedy = "names another release's folder; give each a name of its own"
                raise InputError(f"stages.{name}.file_name", table["file_name"], remedy)
            released.append(folded(table["file_name"]))
        plan = module.estimate(settings, plans)
        _check_cost(name, plan)
        plans[name] = plan
        seconds = (
            None
            if per is None
            else plan.steps * per["step"] + plan.pictures * per["picture"] + per["stage"]
        )
        steps.append(Step(name, table["do"], settings, plan, seconds))
    return steps


def _check_cost(name: str, plan: Plan) -> None:
    if plan.steps > MOST_STEPS:
        raise InputError(
            f"stages.{name}",
            f"{plan.steps} steps",
            f"at most {MOST_STEPS}; lower epochs or repeats",
        )
    if plan.pictures > MOST_PICTURES:
        remedy = f"at most {MOST_PICTURES}; lower count, seeds or the number of models"
        raise InputError(f"stages.{name}", f"{plan.pictures} pictures", remedy)


@dataclass
class Result:
    """What a run made: artifacts and seconds by stage name, in order."""

    artifacts: dict[str, Artifact]
    seconds: dict[str, float]


def run(
    recipe: Recipe,
    project: Project,
    events: Events,
    until: str | None = None,
    processes: Processes = ALONE,
    tracker: str | None = None,
) -> Result:
    """Run the stages in order, skipping what the ledger has; with `until`, only that stage and what
    it needs.

    Of several processes all train together; for every other stage they wait for the first.
    `tracker` is told the steps. Raises InputError before anything heavy when the recipe is wrong,
    and whatever a stage raises; what is done stays.
    """
    steps = make_plan(recipe)
    wanted = {step.name for step in steps} if until is None else needed(steps, until)
    for step in steps:
        if step.name in wanted and step.plan.missing:
            raise step.plan.missing[0]
    family, base_sha256 = base_of(recipe, events)
    result = Result({}, {})
    steps = [step for step in steps if step.name in wanted]
    stages = {step.name: step.verb for step in steps}
    queue = project.ledger.queued(recipe.name, stages)
    with queue if processes.first else nullcontext(lambda name: None) as begin:
        for step in steps:
            begin(step.name)
            inputs = Inputs({s: result.artifacts[s] for s in _stages(step.settings.needs())})
            key = _key(step, inputs, recipe, base_sha256)
            if processes.agree(project.finished(key) is None):
                again = " (made before; its object is gone)" if project.ledger.finished(key) else ""
                events.note(f"{step.verb} {step.name}{again}", "title")
                _use_threads(recipe.threads)
                context = functools.partial(
                    _context, step, key, recipe, project, events, processes, family, base_sha256
                )
                if processes.first:
                    _run_stage(step, inputs, key, recipe, project, context(), tracker)
                elif processes.agree(True) and step.verb == "train":
                    stage_module("train").run(inputs, step.settings, context())
                processes.wait()
            done = project.ledger.finished(key)
            assert done is not None
            result.artifacts[step.name] = project.object(done.kind, done.artifact)
            result.seconds[step.name] = done.seconds
    return result


def _use_threads(count: int) -> None:
    """Sums of floats depend on how many threads add them up, so the recipe sets the number before
    every stage: a stage computes the same whether its process ran the stages before it or found
    them done, whatever OMP_NUM_THREADS says.
    """
    import torch

    torch.set_num_threads(count)


def finished(recipe: Recipe, project: Project, events: Events) -> Result:
    """What the ledger has of a recipe, without running anything: stages that are not done, and all
    after, are left out.

    Raises InputError when the recipe is wrong or its base's files are not there.
    """
    result = Result({}, {})
    for step, key in keys(recipe, project, events):
        done = project.finished(key)
        if done is not None and all(
            name in result.artifacts for name in _stages(step.settings.needs())
        ):
            result.artifacts[step.name] = project.object(done.kind, done.artifact)
            result.seconds[step.name] = done.seconds
    return result


def keys(recipe: Recipe, project: Project, events: Events) -> Iterator[tuple[Step, str]]:
    """The stages whose inputs were made at some time, each with its key. The objects may be gone
    since.

    Raises InputError when the recipe is wrong or its base's files are not there.
    """
    steps = make_plan(recipe)
    _, base_sha256 = base_of(recipe, events)
    made: dict[str, Artifact] = {}
    for step in steps:
        needs = list(_stages(step.settings.needs()))
        if not all(name in made for name in needs):
            continue
        key = _key(step, Inputs({name: made[name] for name in needs}), recipe, base_sha256)
        yield step, key
        done = project.ledger.finished(key)
        if done is not None:
            made[step.name] = Artifact(done.kind, done.artifact, project.place(done.artifact))


def _key(step: Step, inputs: Inputs, recipe: Recipe, base_sha256: str) -> str:
    """The hash of all that decides what a stage makes."""
    reads = stage_module(step.verb).READS
    return hash_json(
        {
            "version": versions.VERBS[step.verb],
            "axes": versions.AXES if reads.axes else {},
            "name": step.name,
            "settings": step.settings.keyed(),
            "inputs": {name: artifact.hash for name, artifact in inputs.artifacts.items()},
            "head": reads.head_of(recipe),
            "sheet": reads.sheet_of(recipe.character),
            "base": [recipe.base_name, base_sha256] if reads.base else [],
        }
    )


def _context(
    step: Step,
    key: str,
    recipe: Recipe,
    project: Project,
    events: Events,
    processes: Processes,
    family: "Callable[[], Family]",
    base_sha256: str,
) -> Context:
    scratch = project.scratch(key)

    def commit(kind: str, lineage: Lineage) -> Artifact:
        write_json(scratch / "out" / "lineage.json", lineage)
        return project.commit(scratch, kind)

    return Context(
        name=step.name,
        seed=recipe.seed,
        date=recipe.date,
        character=recipe.character.only(stage_module(step.verb).READS.sheet),
        family=family,
        base_name=recipe.base_name,
        base_sha256=base_sha256,
        threads=recipe.threads,
        scratch=scratch,
        pictures=project.pictures,
        events=events,
        commit=commit,
        processes=processes,
    )


def _run_stage(
    step: Step,
    inputs: Inputs,
    key: str,
    recipe: Recipe,
    project: Project,
    context: Context,
    tracker: str | None,
) -> None:
    """Run one stage into the object store and record it; scratch of a killed attempt is taken
    up."""
    settings = step.settings.model_dump(mode="json")
    hashes = {name: artifact.hash for name, artifact in inputs.artifacts.items()}
    begun = RunStart(key, recipe.name, step.name, step.verb, settings, hashes, recipe.base)
    id = project.ledger.start(begun, environment(), _now())
    started = time.monotonic()
    artifact = project.committed(context.scratch)
    if context.processes.agree(artifact is None):
        with ExitStack() as stack:
            events = stack.enter_context(recorded(project.ledger, id, context.events))
            context = replace(context, events=events)
            if step.verb == "train":
                logs = project.folder / "logs"
                steps = stack.enter_context(
                    journal(project.ledger, key, step.name, logs, tracker, settings)
                )
                context = replace(context, record=steps.record)
            artifact = stage_module(step.verb).run(inputs, step.settings, context)
    assert artifact is not None
    project.ledger.finish(id, artifact.kind, artifact.hash, time.monotonic() - started, _now())
    shutil.rmtree(context.scratch)


def needed(steps: list[Step], until: str) -> set[str]:
    """The stage `until` and every stage that it reads, directly or not. Raises InputError for an
    unknown stage."""
    by_name = {step.name: step for step in steps}
    if until not in by_name:
        raise InputError(
            "stage", until, f"the recipe has no such stage; it has {', '.join(by_name)}"
        )
    wanted: set[str] = set()
    todo = [until]
    while todo:
        name = todo.pop()
        wanted.add(name)
        todo.extend(set(_stages(by_name[name].settings.needs())) - wanted)
    return wanted


def base_of(recipe: Recipe, events: Events) -> "tuple[Callable[[], Family], str]":
    """A function that loads the base once, and the SHA-256 that names it; checks that its files are
    there."""
    from onmodel.families.registry import base_sha256, load_base, parse_base

    settings = parse_base(recipe.base)
    sha256 = base_sha256(settings, events)
    return functools.cache(lambda: load_base(settings, sha256)), sha256


def forecasts(
    recipe: Recipe, steps: Sequence[Step], events: Events
) -> "tuple[Outline, dict[str, Forecast]]":
    """The base's outline and what each training of the plan takes. No weight is read, nothing is
    downloaded.

    A base whose `dtype` is "auto" is taken as bfloat16, as on a card. Raises InputError for files
    that do not fit.
    """
    import torch

    from onmodel.families.registry import outline, parse_base
    from onmodel.train.memory import forecast

    base = parse_base(recipe.base)
    dtype = torch.float32 if base.dtype == "float32" else torch.bfloat16
    shapes = outline(base)
    known: dict[
        str, Forecast
    ] = {}  # by what a forecast follows from: refining is often as large as the first training
    plans = {step.name: step.plan for step in steps}
    found = {}
    for step in steps:
        if step.verb == "train":
            settings: train.Settings = step.settings  # type: ignore[assignment]
            sides = {side for share in settings.shares(plans) for side in share.resolutions}
            key = hash_json([settings.model_dump(mode="json", include=FORECAST), sorted(sides)])
            if key not in known:
                known[key] = forecast(shapes, settings, sides, dtype, events)
            found[step.name] = known[key]
    return shapes, found


def environment() -> dict[str, str]:
    """Versions and platform: told in the ledger, no part of any key."""
    from importlib.metadata import version

    packages = ("torch", "diffusers", "transformers", "peft", "safetensors", "numpy")
    return {
        "onmodel": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: version(package) for package in packages},
    }


def _settings(name: str, table: Mapping[str, Any], kind: type[StageSettings]) -> StageSettings:
    """The stage's checked settings. Raises InputError for the first wrong field, with the nearest
    known name."""
    refuse_unknown(f"stages.{name}.", table, kind.model_fields)
    try:
        return kind.model_validate(dict(table))
    except ValidationError as error:
        raise InputError.of(error, f"stages.{name}") from error


def _stages(references: Iterable[str]) -> Iterator[str]:
    yield from dict.fromkeys(reference.partition("@")[0] for reference in references)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
