"""The plan of a recipe: what each stage makes and costs, what it refers to, and its key. Nothing is
run and nothing is written here."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.registry import parse_base
from onmodel.hashing import hash_json
from onmodel.ledger import versions
from onmodel.paths import folded
from onmodel.recipe import Recipe, refuse_unknown
from onmodel.records import Artifact
from onmodel.stages import stage_module
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    StageSettings,
)
from onmodel.toon.base import TOON_BASES

if TYPE_CHECKING:
    from onmodel.families.protocol import Family

# Seconds per unit on two cores with the toon base, measured with recipes/release_2.toml; unknown
# for another base.
TOON_RATES = {"step": 0.16, "picture": 0.14, "stage": 2.0}
# More than any recipe means: a hundred times what the largest LoRA trainings take.
MOST_STEPS = 10_000_000
MOST_PICTURES = 10_000_000
MODELS: tuple[Kind, ...] = ("models", "selection", "release")  # kinds that models are taken from
WORDS: dict[str, str] = {
    "dataset": "a data set",
    "scenes": "scenes",
    "models": "a model",
    "pictures": "generated pictures",
    "evaluation": "an evaluation",
    "selection": "a selection of models",
    "release": "a release",
}
SHOWN = 12  # names in a message


@dataclass(frozen=True)
class Step:
    """One stage of a plan. `seconds` is None on a base that was never measured."""

    name: str
    verb: str
    makes: Kind
    settings: StageSettings
    plan: Plan
    seconds: float | None

    @property
    def needs(self) -> list[str]:
        """The stages that this one reads, each once."""
        return list(dict.fromkeys(named.stage for named in self.settings.named_stages()))


@dataclass(frozen=True)
class Cell:
    """A stage with the artifacts that it reads: the unit that an engine runs, here or elsewhere.

    `key` is the hash of all that decides what it makes, so running it twice makes the same: an
    engine takes what the ledger has under the key, or calls `run`.
    """

    step: Step
    inputs: Inputs
    key: str

    def run(self, context: Context) -> Artifact:
        """Make the artifact. Raises what the stage raises."""
        module = stage_module(self.step.verb)
        artifact: Artifact = module.run(self.inputs, self.step.settings, context)
        return artifact


def make_plan(recipe: Recipe) -> list[Step]:
    """Check every setting and reference of a recipe and say what each stage will cost. Writes
    nothing."""
    plans: dict[str, Plan] = {}
    made: dict[str, Step] = {}
    per = TOON_RATES if recipe.base_name in TOON_BASES else None
    published: list[str] = []
    for name, table in recipe.stages.items():
        module = stage_module(table["do"])
        settings = _settings(name, _whole(name, table, made, recipe), module.Settings)
        for named in settings.named_stages():
            _check_named(name, named, made, recipe)
        if settings.PUBLISHED_AS is not None:
            folder = getattr(settings, settings.PUBLISHED_AS)
            if folded(folder) in published:
                remedy = "names another release's folder; give each a name of its own"
                raise InputError(f"stages.{name}.{settings.PUBLISHED_AS}", folder, remedy)
            published.append(folded(folder))
        try:
            settings.check_base(parse_base(recipe.base))  # not after hours of training
            settings.check(recipe.base_name, recipe.character)
            plan = _with_names(name, module.MAKES, module.estimate(settings, plans))
        except InputError as error:
            raise _at_stage(name, error) from error
        _check_cost(name, plan)
        plans[name] = plan
        seconds = (
            None
            if per is None
            else plan.steps * per["step"] + plan.pictures * per["picture"] + per["stage"]
        )
        made[name] = Step(name, table["do"], module.MAKES, settings, plan, seconds)
    return list(made.values())


def _whole(
    name: str, table: Mapping[str, Any], made: Mapping[str, Step], recipe: Recipe
) -> Mapping[str, Any]:
    """The table of a stage; a second look takes over all settings of the first one."""
    if table["do"] != "evaluate" or not isinstance(table.get("more_of"), str):
        return table
    _check_named(name, NamedStage("more_of", table["more_of"], "evaluation"), made, recipe)
    if own := sorted(table.keys() - {"do", "more_of"}):
        remedy = f"is taken over from {table['more_of']}; delete it here"
        raise InputError(f"stages.{name}.{own[0]}", table[own[0]], remedy)
    return {**recipe.stages[table["more_of"]], **table}


def _at_stage(name: str, error: InputError) -> InputError:
    """The same mistake, with the stage before its field."""
    if error.field.startswith("stages."):
        return error
    return InputError(f"stages.{name}.{error.field}", error.value, error.remedy)


def _with_names(name: str, makes: Kind, plan: Plan) -> Plan:
    """The plan with the names of the models, where the stage's own name decides them."""
    if makes != "models":
        return plan
    if not plan.epochs:
        return replace(plan, names=[name])
    if len(plan.epochs) == plan.models:
        return replace(plan, names=[f"{name}@{epoch}" for epoch in plan.epochs])
    return plan


def _check_named(name: str, named: NamedStage, made: Mapping[str, Step], recipe: Recipe) -> None:
    """Raise InputError unless the stage that is named stands before, makes what is wanted, and has
    the epoch and the subset."""

    def wrong(remedy: str, value: str = named.value) -> InputError:
        return InputError(f"stages.{name}.{named.field}", value, remedy)

    if named.stage not in made:
        if named.stage in recipe.stages:
            raise wrong("stands later in the recipe; move it up")
        raise wrong(f"no such stage; before this one: {', '.join(made) or 'none yet'}")
    step, plan = made[named.stage], made[named.stage].plan
    first = recipe.stages[named.stage].get("more_of")
    if named.wants == "evaluation" and first is not None:
        raise wrong(f"is a second look, at open questions alone; name the first one, {first}")
    allowed = MODELS if named.wants in ("model", "models") else (named.wants,)
    if step.makes not in allowed:
        there = ", ".join(other.name for other in made.values() if other.makes in allowed)
        wanted = WORDS["models" if allowed is MODELS else allowed[0]]
        raise wrong(f"makes {WORDS[step.makes]}; name {wanted}: {there or 'none yet'}")
    if named.subset is not None and named.subset not in plan.counts:
        raise wrong(f"subsets of {named.stage}: {', '.join(plan.counts)}", named.subset)
    if allowed is not MODELS:
        if named.which:
            raise wrong(f"{WORDS[step.makes]} has no epochs; write {named.stage}")
        return
    if named.which not in ("", "*"):
        names = [f"{named.stage}@{epoch}" for epoch in plan.epochs]
        if names and named.value not in names:
            sure = "" if plan.names is not None else " for sure; keep_best decides on the others"
            raise wrong(f"no such checkpoint is kept; there are {_listed(names)}{sure}")
        if not names and step.makes == "models":
            raise wrong(f"is one model without epochs; write {named.stage}")
    elif named.wants == "model" and (named.which or step.makes == "selection") and plan.models > 1:
        one = (
            "one epoch, e.g. " + plan.names[-1] if plan.names else "a selection of one (count = 1)"
        )
        raise wrong(f"names {plan.models} models; name {one}")


def _listed(names: Sequence[str]) -> str:
    """The names, or the first and the last few of many."""
    return ", ".join(names if len(names) <= SHOWN else [*names[:3], "…", *names[-3:]])


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


def cell_of(step: Step, made: Mapping[str, Artifact], recipe: Recipe, base_sha256: str) -> Cell:
    """The cell of a stage whose inputs are `made`, by stage."""
    inputs = Inputs({stage: made[stage] for stage in step.needs})
    reads = stage_module(step.verb).READS
    key = hash_json(
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
    return Cell(step, inputs, key)


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
        todo.extend(set(by_name[name].needs) - wanted)
    return wanted


def base_of(recipe: Recipe, events: Events) -> "tuple[Callable[[], Family], str]":
    """A function that loads the base once, and the SHA-256 that names it; checks that its files are
    there."""
    from onmodel.families.registry import base_sha256, load_base

    settings = parse_base(recipe.base)
    sha256 = base_sha256(settings, events)
    return functools.cache(lambda: load_base(settings, sha256)), sha256


def _settings(name: str, table: Mapping[str, Any], kind: type[StageSettings]) -> StageSettings:
    """The stage's checked settings. Raises InputError for the first wrong field, with the nearest
    known name."""
    refuse_unknown(f"stages.{name}.", table, kind.model_fields)
    try:
        return kind.model_validate(dict(table))
    except ValidationError as error:
        raise InputError.of(error, f"stages.{name}") from error
