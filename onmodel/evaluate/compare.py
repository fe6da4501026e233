"""Is one model better than another? The one comparison that pages and cards print.

Both models are measured on the same prompts and noise, so the differences are paired by prompt.
The test swaps all pictures of a prompt between the two models and computes the axis anew, so it is
exact for axes whose prompts share an estimate, too. A change counts when that test, adjusted over
the axes (Holm, for discrete tests), gives p < 0.05 and its interval excludes 0; one prompt far from
the others can keep it from that. Else it is too close to call, or the axis has too few prompts for
any difference to count.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onmodel.evaluate.axes import AXES, JOININGS, RESAMPLED
from onmodel.evaluate.axes.base import Axis, Shared, cost, prompt_costs, weighted_mean
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.evaluate.statistics import (
    bootstrap_half_width,
    holm,
    paired,
    reachable,
    resampled_prompts,
    swap_p,
)
from onmodel.text import decimal

LEVEL = 0.05
SWAPS, JOINT_SWAPS = 9_999, 999  # drawn ways of swapping, where there are more
FEWEST = 2  # prompts below which nothing is compared
UNAVAILABLE = "unavailable"

Costs = Callable[..., np.ndarray]
Outcome = Literal["better", "worse", "close", "few", "unavailable"]
TESTED: Sequence[Outcome] = ("better", "worse", "close", "few")
WORDS: Mapping[Outcome, str] = {
    "better": "better",
    "worse": "worse",
    "close": "too close to call",
    "few": "too few prompts to tell",
    "unavailable": UNAVAILABLE,
}
TURNED: Mapping[Outcome, Outcome] = {"better": "worse", "worse": "better"}


@dataclass(frozen=True)
class Comparison:
    """A model against another, `against`, on one axis.

    `gain` with its 95 % interval: how much nearer to good it is, in the axis' unit (in its
    logarithm for geometric means); positive is better. `p` is adjusted over the axes, `least` the
    smallest that so many prompts can give before that. `won`: share of the `n` prompts that came
    nearer to the ideal.
    """

    axis: Axis
    against: str
    outcome: Outcome
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = 1.0
    least: float = 0.0
    won: float = math.nan
    n: int = 0

    @property
    def words(self) -> str:
        """The outcome in words."""
        return WORDS[self.outcome]

    @property
    def change(self) -> str:
        """The gain with its interval, `+0.08 (+0.03…+0.13)`; nothing when unavailable."""
        if self.outcome == "unavailable":
            return ""
        return f"{self.text(self.gain)} ({self.span(self.low, self.high)})"

    def text(self, gain: float) -> str:
        """A gain as it is printed: with its sign, or as a factor."""
        if self.axis.across == "geometric":
            return f"\N{MULTIPLICATION SIGN}{math.exp(gain):.2f}"
        return decimal(gain, self.axis.places, signed=True)

    def span(self, low: float, high: float) -> str:
        """An interval of gains as it is printed."""
        return f"{self.text(low)}\N{HORIZONTAL ELLIPSIS}{self.text(high)}"

    def turned(self, against: str) -> "Comparison":
        """The same comparison from the other side; `against` is the model that it was about."""
        return replace(
            self,
            against=against,
            outcome=TURNED.get(self.outcome, self.outcome),
            gain=-self.gain,
            low=-self.high,
            high=-self.low,
            won=1 - self.won,
        )


def compare_models(evaluation: Evaluation, model: str, against: str) -> list[Comparison]:
    """A model against another on every axis of their evaluation, decided together. Raises
    InputError for a model that was not measured."""
    ours, theirs = evaluation.model(model), evaluation.model(against)
    return decide([compare(evaluation, axis, ours, theirs) for axis in evaluation.axes])


def compare(
    evaluation: Evaluation, axis_id: str, model: EvaluatedModel, against: EvaluatedModel
) -> Comparison:
    """One axis of one pair, not decided yet. `unavailable` when they share too few prompts."""
    axis = evaluation.axes[axis_id]
    ours, theirs = model.values(axis_id), against.values(axis_id)
    common = [prompt for prompt in ours if prompt in theirs]
    if len(common) < FEWEST:
        return Comparison(axis, against.name, "unavailable")
    a, b = (np.array([values[id] for id in common], dtype=float) for values in (ours, theirs))
    found = compare_costs(axis, against.name, prompt_costs(axis, a), prompt_costs(axis, b))
    if axis_id not in JOININGS:
        p, least = swap_p(cost_function(axis), a[:, None], b[:, None], SWAPS)
        return replace(found, p=p, least=least)
    if not readable(evaluation, axis_id, model, against):
        return replace(found, p=1.0, least=1.0)
    shared = {name: np.array(table) for name, table in evaluation.shared[axis_id].items()}
    a, b = (np.array(one.rows[axis_id], dtype=float) for one in (model, against))
    return compare_rows(found, a, b, shared)


def readable(evaluation: Evaluation, axis_id: str, *models: EvaluatedModel) -> bool:
    """Whether the file holds the rows of a joint axis as this version reads them; older files do
    not, and nothing can be tested with them."""
    known = evaluation.axes[axis_id].version == AXES[axis_id][0].version
    return known and axis_id in evaluation.shared and all(axis_id in one.rows for one in models)


def compare_rows(
    found: Comparison, ours_pk: np.ndarray, theirs_pk: np.ndarray, shared: Shared
) -> Comparison:
    """The comparison of a joint axis with its gain, interval and p: prompts are resampled and
    swapped, and the axis is computed anew each time."""
    costs = cost_function(found.axis, shared)
    drawn = resampled_prompts(len(ours_pk), 0, RESAMPLED)
    ours, theirs = ours_pk[None], theirs_pk[None]
    gain = found.axis.fault * float((costs(theirs) - costs(ours))[0])
    resampled = found.axis.fault * (costs(theirs, drawn) - costs(ours, drawn))
    half = float(bootstrap_half_width(resampled[~np.isnan(resampled)], found.n))
    p, least = swap_p(costs, ours_pk, theirs_pk, JOINT_SWAPS)
    return replace(found, gain=gain, low=gain - half, high=gain + half, p=p, least=least)


def cost_function(axis: Axis, shared: Shared | None = None) -> Costs:
    """The function from rows [R, P, K], and weights [R, P], to costs of the axis [R], in whole
    faults; `shared` for a joint axis. The rows of others are the values of independent prompts."""

    def costs(rows_rpk: np.ndarray, weights_rp: np.ndarray | None = None) -> np.ndarray:
        weights = np.ones((1, rows_rpk.shape[1])) if weights_rp is None else weights_rp
        if shared is not None:
            return cost(axis, JOININGS[axis.id].value(rows_rpk, weights, shared))
        if axis.across == "geometric":
            return cost(axis, weighted_mean(np.log(rows_rpk[..., 0]), weights) + 1)
        return cost(axis, weighted_mean(rows_rpk[..., 0], weights))

    return costs


def compare_costs(axis: Axis, against: str, ours_p: np.ndarray, theirs_p: np.ndarray) -> Comparison:
    """One axis from the costs of both models on the same two or more independent prompts [P], in
    whole faults."""
    found = paired(theirs_p, ours_p)
    gain, low, high = (axis.fault * x for x in (found.mean.value, found.mean.low, found.mean.high))
    return Comparison(
        axis,
        against,
        "close",
        gain,
        low,
        high,
        p=found.p,
        least=found.least,
        won=found.win_share,
        n=found.mean.n,
    )


def decide(family: Sequence[Comparison]) -> list[Comparison]:
    """A family of comparisons with p adjusted over it and the outcome of each."""
    tested = [i for i, one in enumerate(family) if one.outcome != "unavailable"]
    least = [family[i].least for i in tested]
    adjusted = holm([family[i].p for i in tested], least)
    found = list(family)
    for i, p, smallest in zip(tested, adjusted, reachable(least), strict=True):
        found[i] = decided(family[i], p, smallest)
    return found


def decided(comparison: Comparison, p: float, smallest: float = 0.0) -> Comparison:
    """The comparison with its adjusted p and the outcome that follows; `smallest` is the least
    that an adjusted p could be."""
    if p < LEVEL and comparison.low * comparison.high > 0:
        return replace(comparison, p=p, outcome="better" if comparison.gain > 0 else "worse")
    return replace(comparison, p=p, outcome="few" if smallest >= LEVEL else "close")
