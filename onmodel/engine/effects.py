"""What each change of an experiment does, from the evaluation of its cells.

Twins, the base trained with another seed, say how much two trainings differ anyway; an effect
counts only above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onmodel.engine.experiments import Experiment
from onmodel.evaluate.compare import LEVEL, UNAVAILABLE, Comparison, compare, decide, decided
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation


@dataclass(frozen=True)
class Effect:
    """What a variant does to an axis against the base: positive gain is good.

    The gain is the mean over pairs of trainings, and p that of the pair which differs least,
    adjusted by the verdict's rule: the questions over variants and axes (Holm), the other axes for
    false discoveries. What was `stopped` early has the numbers of the first prompts and p = 1.
    `floor`, in the axis' unit, is how far a twin lies from the others of its
    kind, at most, or the axis' margin where that is more; a smaller gain is open.
    """

    variant: str
    comparison: Comparison
    floor: float
    stopped: bool = False

    @property
    def faults(self) -> float:
        """The gain in whole faults, to compare axes."""
        return self.comparison.gain / self.comparison.axis.fault


def effects(
    evaluation: Evaluation, experiment: Experiment, first: Evaluation | None = None
) -> list[Effect]:
    """Every variant's effect on every axis that its trainings and those of the base were measured
    on. `first`: the evaluation of the first prompts, where variants are stopped early."""
    found = []
    for axis in evaluation.axes:
        found += _on_axis(evaluation, axis, experiment, stopped=False)
        if first is not None:
            found += _on_axis(first, axis, experiment, stopped=True, but=evaluation)
    decided_ = decide([one.comparison for one in found], evaluation.questions, LEVEL)
    against = experiment.base[0]
    return [
        replace(one, comparison=replace(decided(row, row.p, LEVEL, one.floor), against=against))
        for one, row in zip(found, decided_, strict=True)
    ]


def _on_axis(
    evaluation: Evaluation,
    axis: str,
    experiment: Experiment,
    stopped: bool,
    but: Evaluation | None = None,
) -> list[Effect]:
    """The variants' effects on one axis, not decided yet; none of those measured in `but`."""
    models, done = _by_stage(evaluation), _by_stage(but) if but is not None else {}
    base = [models[name] for name in experiment.base]
    floor = _floor(evaluation, axis, base)
    found = []
    for variant in experiment.compared:
        trained = [models[name] for name in variant.stages if name in models and name not in done]
        rows = [compare(evaluation, axis, ours, one) for ours in trained for one in base]
        if floor is not None and rows and all(row.outcome != UNAVAILABLE for row in rows):
            row = _over_all(rows)
            row = replace(row, p=1.0, least=0.0) if stopped else row  # it counts in the family
            found.append(Effect(variant.name, row, floor, stopped))
    return found


def _by_stage(evaluation: Evaluation) -> dict[str, EvaluatedModel]:
    return {row.name.partition("@")[0]: row for row in evaluation.models}


def _over_all(rows: Sequence[Comparison]) -> Comparison:
    """The mean of the comparisons of all pairs of trainings; the largest p, so that each pair must
    differ."""
    count = len(rows)
    gain, low, high = (
        sum(part) / count for part in zip(*((r.gain, r.low, r.high) for r in rows), strict=True)
    )
    return replace(max(rows, key=lambda row: row.p), gain=gain, low=low, high=high)


def _floor(evaluation: Evaluation, axis: str, base: Sequence[EvaluatedModel]) -> float | None:
    """How far a training of the base lies from the mean of the others, at most, in the axis' unit;
    None where one was not measured."""
    farthest = 0.0
    for one in base:
        rows = [compare(evaluation, axis, one, other) for other in base if other is not one]
        if any(row.outcome == UNAVAILABLE for row in rows):
            return None
        if rows:
            farthest = max(farthest, abs(sum(row.gain for row in rows) / len(rows)))
    return max(farthest, evaluation.axes[axis].margin)  # one or two twins may lie close by luck
