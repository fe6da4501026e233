"""What does each subset of a training do? Leave it out, train again, measure: no estimate stands in
for the retraining.

Every training spends the same number of steps, so a subset's place is taken by the others. Twins,
trained on everything from other noise in another order, say how much two trainings differ anyway;
an effect counts only above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onmodel.engine.plan import make_plan
from onmodel.errors import InputError
from onmodel.evaluate.compare import LEVEL, UNAVAILABLE, Comparison, compare, decide
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.evaluate.statistics import Interval
from onmodel.recipe import Recipe

MOST_TWINS = 100


@dataclass(frozen=True)
class Leaving:
    """A recipe with the trainings that are compared. `full`: the training and its twins; `without`:
    subset → stage; `evaluation`: the stage that measures them all."""

    recipe: Recipe
    full: list[str]
    without: dict[str, str]
    evaluation: str


@dataclass(frozen=True)
class Effect:
    """What a subset does to an axis, in whole faults: positive is good, the model is farther from
    ideal without it.

    It is the mean over the whole trainings, and `p` that of the one which differs least, by the
    verdict's test, adjusted over subsets and axes (Holm); `floor` is how far a twin lies from the
    others of its kind, at most, or the axis' margin where that is more.
    """

    subset: str
    axis: str
    effect: Interval
    p: float
    floor: float

    @property
    def outcome(self) -> Literal["helps", "harms", "open"]:
        apart = self.effect.low * self.effect.high > 0
        if self.p >= LEVEL or not apart or abs(self.effect.value) <= self.floor:
            return "open"
        return "helps" if self.effect.value > 0 else "harms"


def leave_out(
    recipe: Recipe, training: str, like: str | None, twins: int, seeds: int | None
) -> Leaving:
    """The recipe with a training for each left-out subset of `training`, `twins` whole ones, and
    one evaluation of the last checkpoints: as the evaluate stage `like` (None: the recipe's last)
    measures, with `seeds` for its own.

    Raises InputError for stages that are not there, a training of one subset, or no twin.
    """
    from onmodel.stages.train import Settings as TrainSettings

    if twins < 1:
        raise InputError(
            "twins", twins, "train at least one twin: without it nothing says what chance does"
        )
    if twins > MOST_TWINS:
        raise InputError("twins", twins, f"at most {MOST_TWINS}; each is a whole training")
    table, measured = (
        recipe.stages[_stage(recipe, "train", training)],
        recipe.stages[_stage(recipe, "evaluate", like)],
    )
    steps = {step.name: step for step in make_plan(recipe)}
    settings = steps[training].settings
    assert isinstance(settings, TrainSettings)
    plans = {name: step.plan for name, step in steps.items()}
    subsets = settings.subsets(plans)
    shown = {
        subset.label: plans[subset.stage or settings.dataset].counts[subset.subset]
        * subset.exposures
        for subset in subsets
    }
    if len(shown) < 2:
        raise InputError(
            "training", training, f"has one subset, {next(iter(shown))}: without it nothing is left"
        )
    said = table.get("data") or [{"subset": subset.subset} for subset in subsets]
    kept = {
        key: value
        for key, value in table.items()
        if key not in ("keep_every", "keep_last", "keep_best")
    }
    full = [training, *(f"{training}_twin_{number}" for number in range(1, twins + 1))]
    stages = {
        name: {**kept, "keep_every": settings.epochs, "seed": settings.seed + number}
        for number, name in enumerate(full[1:], 1)
    }
    without = {}
    for subset, row in zip(subsets, said, strict=True):
        left = sum(shown.values()) - shown[subset.label]
        epochs = max(1, round(settings.epochs * sum(shown.values()) / left))
        without[subset.label] = f"{training}_without_{subset.label.replace('/', '_')}"
        stages[without[subset.label]] = {
            **kept,
            "epochs": epochs,
            "keep_every": epochs,
            "data": [other for other in said if other is not row],
        }
    evaluation = f"{training}_influence"
    made = [*full[1:], *without.values(), evaluation]
    if len(set(made)) < len(without) + twins + 1 or set(made) & set(recipe.stages):
        raise InputError(
            "training",
            training,
            f"needs the stage names {', '.join(made)}; rename stages or subsets",
        )
    alone = {
        "triggers": {},
        "against": [],
        "floors": False,
        "negatives": False,
    }  # what this does not ask
    measuring = {**measured, "models": [*full, *without.values()], **alone}
    stages[evaluation] = measuring | ({"seeds": seeds} if seeds is not None else {})
    return Leaving(replace(recipe, stages={**recipe.stages, **stages}), full, without, evaluation)


def effects(evaluation: Evaluation, leaving: Leaving) -> list[Effect]:
    """Every subset's effect on every axis that all models were measured on."""
    models = {row.name.partition("@")[0]: row for row in evaluation.models}
    whole = [models[name] for name in leaving.full]
    compared: list[Comparison] = []
    places: list[tuple[str, float]] = []  # subset and floor of each comparison
    for axis in evaluation.axes:
        floor = _floor(evaluation, axis, whole)
        for subset, name in leaving.without.items():
            rows = [compare(evaluation, axis, one, models[name]) for one in whole]
            if floor is not None and all(row.outcome != UNAVAILABLE for row in rows):
                compared.append(_over_all(rows))
                places.append((subset, floor))
    found = []
    for one, (subset, floor) in zip(decide(compared), places, strict=True):
        gain, low, high = (x / one.axis.fault for x in (one.gain, one.low, one.high))
        found.append(Effect(subset, one.axis.id, Interval(gain, low, high, one.n), one.p, floor))
    return found


def _over_all(rows: Sequence[Comparison]) -> Comparison:
    """The mean of a left-out training's comparisons with every whole one; the largest p, so that
    it must differ from each of them."""
    count = len(rows)
    gain, low, high = (
        sum(part) / count for part in zip(*((r.gain, r.low, r.high) for r in rows), strict=True)
    )
    return replace(max(rows, key=lambda row: row.p), gain=gain, low=low, high=high)


def _floor(evaluation: Evaluation, axis: str, whole: Sequence[EvaluatedModel]) -> float | None:
    """How far a whole training lies from the mean of the others, at most, in whole faults; None
    where one was not measured."""
    farthest = 0.0
    for one in whole:
        rows = [compare(evaluation, axis, one, other) for other in whole if other is not one]
        if any(row.outcome == UNAVAILABLE for row in rows):
            return None
        mean = sum(row.gain for row in rows) / len(rows)
        farthest = max(farthest, abs(mean) / evaluation.axes[axis].fault)
    one_axis = evaluation.axes[axis]
    return max(farthest, one_axis.margin / one_axis.fault)  # one or two twins may lie close by luck


def _stage(recipe: Recipe, verb: str, name: str | None) -> str:
    """The recipe's stage of that verb: the named one, or the last."""
    there = [
        stage
        for stage, table in recipe.stages.items()
        if table["do"] == verb and "more_of" not in table
    ]
    if not there or name not in (None, *there):
        remedy = (
            f"name a {verb} stage of the recipe: {', '.join(there)}"
            if there
            else f"add a stage that does {verb}"
        )
        raise InputError(f"{verb} stage", name or "none", remedy)
    return name or there[-1]
