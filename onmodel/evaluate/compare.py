"""Is one model better than another? The one comparison that pages and cards print.

Both models are measured on the same prompts and noise, so the differences are paired by prompt. The
test swaps all pictures of a prompt between the two models and computes the axis anew, so it is
exact for axes whose prompts share an estimate, too. Four outcomes:

- better, worse: adjusted p < 0.04, the interval excludes 0, and the change is at least the axis'
  margin;
- same: the interval lies within the margin on both sides;
- open: neither; with the number of prompts that would likely settle it.

The declared questions of an evaluation are one family over all pairs that are compared (Holm, for
discrete tests). The other axes are exploratory: adjusted for false discoveries (Benjamini &
Hochberg).

The level of 0.05 is split between two looks before the first one. Whatever the looks have in
common, the chance of any false call in either is at most the sum of both levels. What was called at
the first look stays called. The family of the second look is all that was not called: a question
that is not measured again counts with p = 1, so that a choice of questions which follows the first
look lowers no p.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onmodel.evaluate.axes import AXES, JOININGS, RESAMPLED, AxisResult
from onmodel.evaluate.axes.base import Axis, Shared, cost, prompt_costs, weighted_mean
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation, SharedTables
from onmodel.evaluate.first_look import Declared, FirstLook
from onmodel.evaluate.statistics import (
    benjamini_hochberg,
    bootstrap_half_width,
    holm,
    paired,
    resampled_prompts,
    swap_p,
)
from onmodel.text import decimal

LEVEL = 0.05  # of both looks together
FIRST_LOOK, SECOND_LOOK = 0.04, 0.01  # shares of it
SWAPS, JOINT_SWAPS = 9_999, 999  # drawn ways of swapping, where there are more
FEWEST = 2  # prompts below which nothing is compared
UNAVAILABLE: Literal["unavailable"] = "unavailable"

Costs = Callable[..., np.ndarray]
Outcome = Literal["better", "worse", "same", "open", "unavailable"]
TESTED: Sequence[Outcome] = ("better", "worse", "same", "open")
WORDS: Mapping[Outcome, str] = {name: name for name in (*TESTED, UNAVAILABLE)}
TURNED: Mapping[Outcome, Outcome] = {"better": "worse", "worse": "better"}
MOST_PROMPTS = 1_000  # more are not worth proposing
# What settles a question that is open after two looks.
NO_FURTHER_LOOK = (
    "both looks that the level allows are used; a new evaluation with another suite, such as check,"
    " is a new test"
)
POWER = 0.6  # half width over gain with which a change is likely found after the adjustment


@dataclass(frozen=True)
class Comparison:
    """A model against another, `against`, on one axis.

    `gain` with its 95 % interval: how much nearer to good it is, in the axis' unit (in its
    logarithm for geometric means); positive is better. `p` is adjusted, `least` the smallest that
    so many prompts can give before that. `won`: share of the `n` prompts that came nearer to the
    ideal. `exploratory`: the axis is none of the declared questions. Where it was not `tested` the
    file lacks the rows of a joint axis, and the interval takes its prompts for independent. `last`:
    it is of a second look, after which there is none. `prompts`: of the plan, 0 where there is
    none.
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
    exploratory: bool = False
    tested: bool = True
    last: bool = False
    prompts: int = 0

    @property
    def words(self) -> str:
        """The outcome in words."""
        return WORDS[self.outcome] + (", exploratory" if self.exploratory and self.called else "")

    @property
    def called(self) -> bool:
        """Whether a difference is claimed."""
        return self.outcome in TURNED

    @property
    def more(self) -> int | None:
        """How many more prompts that measure this axis would likely settle an open comparison; None
        where it would take more than MOST_PROMPTS."""
        half = (self.high - self.low) / 2
        far = abs(self.gain) >= self.axis.margin
        needed = POWER * abs(self.gain) if far else self.axis.margin - abs(self.gain)
        if self.within_training or needed <= 0 or not math.isfinite(half):
            return None
        more = max(1, math.ceil(self.n * (half / needed) ** 2) - self.n)
        return more if more <= MOST_PROMPTS else None

    @property
    def within_training(self) -> bool:
        """Whether a difference is there that a person may notice, but no larger than what another
        training brings: more prompts say nothing more about the data."""
        apart = self.low * self.high > 0
        return apart and self.axis.noticed <= abs(self.gain) < self.axis.margin

    @property
    def settled_by(self) -> str:
        """What would settle an open comparison, in words."""
        if not self.tested:
            return "measure again to test it: the file is of an older version"
        if self.within_training:
            return f"{self.change}, within what another training changes; train again to settle it"
        few = 0 < 2 * self.n < self.prompts
        shown = f"{self.n} of {self.prompts} prompts show it; " if few else ""
        if self.last:
            return f"{shown}{NO_FURTHER_LOOK}"
        more = self.more
        if more is None:
            return f"{shown}more than {MOST_PROMPTS:,} further prompts would be needed"
        return f"{shown}about {more} more prompt{'s' if more > 1 else ''} would likely settle it"

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


Pairs = Mapping[tuple[str, str], Sequence[Comparison]]


def compare_models(evaluation: Evaluation, model: str, against: str) -> list[Comparison]:
    """A model against another on every axis of their evaluation, decided together. Raises
    InputError for a model that was not measured."""
    return compare_pairs(evaluation, [(model, against)])[model, against]


def compare_declared(evaluation: Evaluation, model: str) -> dict[str, list[Comparison]]:
    """Other model → `model` against it on every axis, decided together: the declared models of the
    evaluation, or all others where none were declared. The one family of pages and cards. Raises
    InputError for a model that was not measured."""
    found = compare_pairs(evaluation, [(model, other) for other in rivals(evaluation, model)])
    return {other: row for (_, other), row in found.items()}


def rivals(evaluation: Evaluation, model: str) -> list[str]:
    """The models that a model is compared with: the declared ones, or all others."""
    return [name for name in evaluation.against or evaluation.names if name != model]


def compare_pairs(
    evaluation: Evaluation, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], list[Comparison]]:
    """(model, other) → the model against the other on every axis: all pairs that are shown, decided
    decided together. Raises InputError for a model that was not measured."""
    return decide_pairs(evaluation, undecided_pairs(evaluation, pairs))


def undecided_pairs(evaluation: Evaluation, pairs: Sequence[tuple[str, str]]) -> Pairs:
    """(model, other) → the model against the other on every axis, with unadjusted p. Raises
    InputError for a model that was not measured."""
    return {
        (model, against): [
            compare(evaluation, axis, evaluation.model(model), evaluation.model(against))
            for axis in evaluation.axes
        ]
        for model, against in dict.fromkeys(pairs)
    }


def decide_pairs(evaluation: Evaluation, rows: Pairs) -> dict[tuple[str, str], list[Comparison]]:
    """The comparisons of pairs, adjusted over all of them."""
    if evaluation.first is not None:
        return _second_look(rows, evaluation.axes, evaluation.first)
    decided_ = iter(decide([one for row in rows.values() for one in row], evaluation.questions))
    return {pair: [next(decided_) for _ in row] for pair, row in rows.items()}


def first_look(stage: str, evaluation: Evaluation) -> FirstLook:
    """What the evaluation of a stage says of each of its models on the declared questions. Open are
    those of its last one."""
    found = []
    for shown in evaluation.names:
        for other, row in compare_declared(evaluation, shown).items():
            for one in row:
                if one.axis.id in evaluation.questions and one.outcome != UNAVAILABLE:
                    settles = shown == evaluation.names[-1] and not one.within_training
                    found.append(Declared(one.axis.id, shown, other, one.outcome, one.p, settles))
    return FirstLook(stage, evaluation.signature, len(evaluation.plan.prompts), found)


def _second_look(
    rows: Pairs, axes: Mapping[str, Axis], first: FirstLook
) -> dict[tuple[str, str], list[Comparison]]:
    """The comparisons, not decided yet, with the outcomes of both looks."""
    called: dict[tuple[str, str, str], tuple[Outcome, float]] = {}
    for one in first.found:
        if one.called:
            called[one.axis, one.model, one.against] = one.outcome, one.p
            called[one.axis, one.against, one.model] = TURNED[one.outcome], one.p
    closed = [axis for axis in first.questions if axis not in axes]
    not_again = sum((axis, *pair) not in called for pair in rows for axis in closed)
    again = [one for pair, row in rows.items() for one in row if (one.axis.id, *pair) not in called]
    decided_ = iter(decide(again, level=SECOND_LOOK, not_again=not_again))
    found: dict[tuple[str, str], list[Comparison]] = {pair: [] for pair in rows}
    for pair, row in rows.items():
        for now in row:
            if (now.axis.id, *pair) in called:
                outcome, p = called[now.axis.id, *pair]
                found[pair].append(replace(now, outcome=outcome, p=p))
            else:
                found[pair].append(next(decided_))
    return found


def compare(
    evaluation: Evaluation, axis_id: str, model: EvaluatedModel, against: EvaluatedModel
) -> Comparison:
    """One axis of one pair, not decided yet. `unavailable` when they share too few prompts."""
    found = compare_measured(evaluation.axes[axis_id], model, against, evaluation.shared)
    return replace(found, prompts=len(evaluation.plan.prompts), last=evaluation.look == 2)


def compare_measured(
    axis: Axis, model: EvaluatedModel, against: EvaluatedModel, shared_tables: SharedTables
) -> Comparison:
    """The same for models that are in no evaluation yet."""
    ours, theirs = model.values(axis.id), against.values(axis.id)
    if axis.id not in JOININGS:
        return _plain(axis, against.name, ours, theirs)
    found = _untested(axis, against.name, ours, theirs)
    if not readable(axis, shared_tables, model, against):
        return replace(found, p=1.0, least=1.0, tested=False)
    shared = {name: np.array(table) for name, table in shared_tables[axis.id].items()}
    a, b = (np.array(one.rows[axis.id], dtype=float) for one in (model, against))
    return compare_rows(found, a, b, shared)


def compare_results(axis: Axis, ours: AxisResult, theirs: AxisResult) -> Comparison:
    """One axis of two models that were measured just now, not decided yet."""
    if ours.joint is None or theirs.joint is None:
        return _plain(axis, "", ours.per_prompt, theirs.per_prompt)
    found = _untested(axis, "", ours.per_prompt, theirs.per_prompt)
    return compare_rows(found, ours.joint.rows, theirs.joint.rows, ours.joint.shared)


def _plain(
    axis: Axis, against: str, ours: Mapping[str, float], theirs: Mapping[str, float]
) -> Comparison:
    """The comparison of an axis with independent prompts."""
    found = _untested(axis, against, ours, theirs)
    if found.outcome == UNAVAILABLE:
        return found
    a, b = _common(ours, theirs)
    p, least = swap_p(difference_function(axis), a[:, None], b[:, None], SWAPS)
    return replace(found, p=p, least=least)


def _untested(
    axis: Axis, against: str, ours: Mapping[str, float], theirs: Mapping[str, float]
) -> Comparison:
    """What the values of the prompts say by themselves; `unavailable` with too few in common."""
    a, b = _common(ours, theirs)
    if len(a) < FEWEST:
        return Comparison(axis, against, UNAVAILABLE)
    return compare_costs(axis, against, prompt_costs(axis, a), prompt_costs(axis, b))


def _common(
    ours: Mapping[str, float], theirs: Mapping[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    """The values of both on the prompts that both know."""
    common = [prompt for prompt in ours if prompt in theirs]
    a, b = (np.array([values[id] for id in common], dtype=float) for values in (ours, theirs))
    return a, b


def readable(axis: Axis, shared: SharedTables, *models: EvaluatedModel) -> bool:
    """Whether the rows of a joint axis are there as this version reads them; older files do not
    have them, and nothing can be tested with those."""
    known = axis.version == AXES[axis.id][0].version
    return known and axis.id in shared and all(axis.id in one.rows for one in models)


def compare_rows(
    found: Comparison, ours_pk: np.ndarray, theirs_pk: np.ndarray, shared: Shared
) -> Comparison:
    """The comparison of a joint axis with its gain, interval and p: prompts are resampled and
    swapped, and the axis is computed anew each time. `found` is what the prompts' own values say;
    where an axis compares something else, that is taken."""
    axis, ours, theirs = found.axis, ours_pk[None], theirs_pk[None]
    if (changes := JOININGS[axis.id].changes) is not None:
        found = _of_changes(found, changes(theirs, ours, shared)[0])
    if found.outcome == UNAVAILABLE:
        return found
    worse_by = difference_function(axis, shared)
    drawn = resampled_prompts(len(ours_pk), 0, RESAMPLED)
    gain = axis.fault * float(worse_by(theirs, ours)[0])
    resampled = axis.fault * worse_by(theirs, ours, drawn)
    half = float(bootstrap_half_width(resampled[~np.isnan(resampled)], found.n))
    p, least = swap_p(costs_to_test(axis, shared), ours_pk, theirs_pk, JOINT_SWAPS, more=SWAPS)
    return replace(found, gain=gain, low=gain - half, high=gain + half, p=p, least=least)


def _of_changes(found: Comparison, nearer_p: np.ndarray) -> Comparison:
    """The comparison with the prompts [P] that say something of both models: NaN for the others,
    positive where the model is nearer to the ideal."""
    known = nearer_p[~np.isnan(nearer_p)]
    if len(known) < FEWEST:
        return Comparison(found.axis, found.against, UNAVAILABLE)
    return replace(found, outcome="open", n=len(known), won=float((known > 0).mean()))


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


def difference_function(axis: Axis, shared: Shared | None = None) -> Costs:
    """The function from rows of a and of b [R, P, K], and weights [R, P], to how much worse a is
    than b [R], in whole faults."""
    contrast = JOININGS[axis.id].contrast if shared is not None else None
    costs = cost_function(axis, shared)

    def worse_by(
        a_rpk: np.ndarray, b_rpk: np.ndarray, weights_rp: np.ndarray | None = None
    ) -> np.ndarray:
        if contrast is None or shared is None:
            return costs(a_rpk, weights_rp) - costs(b_rpk, weights_rp)
        weights = np.ones((1, a_rpk.shape[1])) if weights_rp is None else weights_rp
        return contrast(a_rpk, b_rpk, weights, shared) / axis.fault

    return worse_by


def costs_to_test(axis: Axis, shared: Shared | None = None) -> Costs:
    """The function from rows of a and of b [R, P, K] to what the ways of swapping are compared in
    [R]: how much worse a is than b, or what the axis names instead."""
    tested = JOININGS[axis.id].tested if shared is not None else None
    if tested is None or shared is None:
        return difference_function(axis, shared)
    return lambda a_rpk, b_rpk: tested(a_rpk, b_rpk, shared)


def compare_costs(axis: Axis, against: str, ours_p: np.ndarray, theirs_p: np.ndarray) -> Comparison:
    """One axis from the costs of both models on the same two or more independent prompts [P], in
    whole faults."""
    found = paired(theirs_p, ours_p)
    gain, low, high = (axis.fault * x for x in (found.mean.value, found.mean.low, found.mean.high))
    return Comparison(
        axis,
        against,
        "open",
        gain,
        low,
        high,
        p=found.p,
        least=found.least,
        won=found.win_share,
        n=found.mean.n,
    )


def decide(
    family: Sequence[Comparison],
    questions: Sequence[str] | None = None,
    level: float = FIRST_LOOK,
    not_again: int = 0,
) -> list[Comparison]:
    """Comparisons with adjusted p and the outcome of each: those of the questions by Holm, the
    others by false discoveries; None for all as one family of questions. `not_again`: further
    members of the family that are not measured again; each counts with p = 1."""
    tested = [one for one in family if one.outcome != UNAVAILABLE]
    asked = [one for one in tested if questions is None or one.axis.id in questions]
    rest = [one for one in tested if questions is not None and one.axis.id not in questions]
    p_values = [one.p for one in asked] + [1.0] * not_again
    least = [one.least for one in asked] + [0.0] * not_again
    adjusted = {
        **_by_identity(asked, holm(p_values, least)[: len(asked)]),
        **_by_identity(rest, benjamini_hochberg([one.p for one in rest])),
    }
    exploring = {id(one) for one in rest}
    return [
        replace(decided(one, adjusted[id(one)], level), exploratory=id(one) in exploring)
        if id(one) in adjusted
        else one
        for one in family
    ]


def _by_identity(rows: Sequence[Comparison], p_values: Sequence[float]) -> dict[int, float]:
    return {id(one): p for one, p in zip(rows, p_values, strict=True)}


def decided(
    comparison: Comparison, p: float, level: float, margin: float | None = None
) -> Comparison:
    """The comparison with its adjusted p and the outcome that follows at a level. `margin`: that of
    the axis, which counts what another training brings; give another for one training."""
    gain, low, high = comparison.gain, comparison.low, comparison.high
    margin = comparison.axis.margin if margin is None else margin
    outcome: Outcome = "open"
    if p < level and low * high > 0 and abs(gain) >= margin:
        outcome = "better" if gain > 0 else "worse"
    elif comparison.tested and -margin < low and high < margin and not comparison.within_training:
        outcome = "same"
    return replace(comparison, p=p, outcome=outcome)
