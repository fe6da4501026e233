"""Run the cells of a plan in this process, those that the ledger lacks. Killed at any moment, the
same command goes on where it stopped."""

import functools
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from onmodel.devices import find_device
from onmodel.engine.attempt import recorded
from onmodel.engine.plan import Cell, base_of, cell_of, make_plan, needed
from onmodel.engine.project import Project
from onmodel.engine.tracking import journal
from onmodel.events import Events
from onmodel.families.registry import parse_base
from onmodel.hashing import write_json
from onmodel.ledger.lineage import Lineage
from onmodel.ledger.store import RunStart
from onmodel.processes import ALONE, Processes
from onmodel.recipe import Recipe
from onmodel.records import Artifact
from onmodel.stages import stage_module
from onmodel.stages.base import Context, TrainingSettings
from onmodel.version import __version__

if TYPE_CHECKING:
    from onmodel.families.protocol import Family


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
    find_device(parse_base(recipe.base).device, "base.device")
    family, base_sha256 = base_of(recipe, events)
    result = Result({}, {})
    steps = [step for step in steps if step.name in wanted]
    stages = {step.name: step.verb for step in steps}
    queue = project.ledger.queued(recipe.name, stages)
    with queue if processes.first else nullcontext(lambda name: None) as begin:
        for step in steps:
            begin(step.name)
            cell = cell_of(step, result.artifacts, recipe, base_sha256)
            if processes.agree(project.finished(cell.key) is None):
                gone = project.ledger.finished(cell.key) is not None
                again = " (made before; its object is gone)" if gone else ""
                events.note(f"{step.verb} {step.name}{again}", "title")
                _use_threads(recipe.threads)
                context = functools.partial(
                    _context, cell, recipe, project, events, processes, family, base_sha256
                )
                if processes.first:
                    _run_cell(cell, recipe, project, context(), tracker)
                elif processes.agree(True) and isinstance(step.settings, TrainingSettings):
                    cell.run(context())
                processes.wait()
            done = project.ledger.finished(cell.key)
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
    for cell in cells(recipe, project, events):
        step, done = cell.step, project.finished(cell.key)
        if done is not None and all(name in result.artifacts for name in step.needs):
            result.artifacts[step.name] = project.object(done.kind, done.artifact)
            result.seconds[step.name] = done.seconds
    return result


def cells(recipe: Recipe, project: Project, events: Events) -> Iterator[Cell]:
    """The cells whose inputs were made at some time. The objects may be gone since.

    Raises InputError when the recipe is wrong or its base's files are not there.
    """
    steps = make_plan(recipe)
    _, base_sha256 = base_of(recipe, events)
    made: dict[str, Artifact] = {}
    for step in steps:
        if not all(name in made for name in step.needs):
            continue
        cell = cell_of(step, made, recipe, base_sha256)
        yield cell
        done = project.ledger.finished(cell.key)
        if done is not None:
            made[step.name] = Artifact(done.kind, done.artifact, project.place(done.artifact))


def _context(
    cell: Cell,
    recipe: Recipe,
    project: Project,
    events: Events,
    processes: Processes,
    family: "Callable[[], Family]",
    base_sha256: str,
) -> Context:
    step, scratch = cell.step, project.scratch(cell.key)

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


def _run_cell(
    cell: Cell, recipe: Recipe, project: Project, context: Context, tracker: str | None
) -> None:
    """Run one cell into the object store and record it; scratch of a killed attempt is taken up."""
    step, key = cell.step, cell.key
    settings = step.settings.model_dump(mode="json")
    hashes = {name: artifact.hash for name, artifact in cell.inputs.artifacts.items()}
    begun = RunStart(key, recipe.name, step.name, step.verb, settings, hashes, recipe.base)
    id = project.ledger.start(begun, environment(), _now())
    started = time.monotonic()
    artifact = project.committed(context.scratch)
    if context.processes.agree(artifact is None):
        with ExitStack() as stack:
            events = stack.enter_context(recorded(project.ledger, id, context.events))
            context = replace(context, events=events)
            if isinstance(step.settings, TrainingSettings):
                logs = project.folder / "logs"
                steps = stack.enter_context(
                    journal(project.ledger, key, step.name, logs, tracker, settings)
                )
                context = replace(context, record=steps.record)
            artifact = cell.run(context)
            _say_card_memory(context.events)
    assert artifact is not None
    project.ledger.finish(id, artifact.kind, artifact.hash, time.monotonic() - started, _now())
    shutil.rmtree(context.scratch)


def _say_card_memory(events: Events) -> None:
    """Note the most memory that the stage has allocated on a card."""
    import torch

    if torch.cuda.is_initialized():
        most = torch.cuda.max_memory_allocated() / 2**30
        events.note(f"largest allocation on the card: {most:.2f} GiB")
        torch.cuda.reset_peak_memory_stats()


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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
