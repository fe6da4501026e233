"""Choosing among evaluated models: constraints, Pareto front, and the set that cannot be told from
the best.

Everything resamples prompts, the same ones for all models and axes. "Too close to call" is a legal
answer. This file chooses names; stages/select.py keeps the files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from onmodel.errors import InputError
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.axes.base import Axis, cost
from onmodel.evaluate.compare import compare_measured, decide
from onmodel.evaluate.evaluation import EvaluatedModel, SharedTables
from onmodel.evaluate.statistics import (
    bootstrap_half_width,
    front_membership,
    resampled_prompts,
)

# models that are on the front less often than this are not chosen as "as good as the best"
RARE = 0.05
RULE = (
    "bias = mean over axes of the deviation from the ideal in units of a whole fault; models that"
    " meet the constraints come first, then those on the Pareto front in at least half of the"
    " resamples, then lower bias; one model alone is the least biased, and those that cannot be"
    " told from it (95 %, resampled prompts) are named beside it; reasons are of the prompts that"
    " the choice was made on, and the models are judged on others"
)


@dataclass(frozen=True)
class Constraints:
    """What is asked of a choice. Constraints hold for interval bounds, of |value| where 0 is the
    ideal."""

    count: int = 1
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    per_stage_max: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What became of a candidate. `front`: share of resamples on the Pareto front; `violation`:
    faults over bounds."""

    name: str
    epoch: int | None
    chosen: bool
    bias: float
    low: float
    high: float
    front: float
    violation: float
    reason: str


@dataclass(frozen=True)
class Selection:
    """The chosen names, best first, and why. `alike`: those that cannot be told from the best, when
    one is chosen."""

    chosen: list[str]
    alike: list[str]
    too_close_to_call: bool
    constraints_met: bool
    axes: list[str]
    verdicts: list[Verdict]


@dataclass(frozen=True)
class _Table:
    """Candidates [M]: costs [M, A] and resampled costs [B, M, A]; `shared` is what the rows of
    joint axes are read with."""

    rows: Sequence[EvaluatedModel]
    axes: Sequence[Axis]
    prompts: int
    shared: SharedTables
    costs: np.ndarray
    resampled: np.ndarray

    def bias(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean cost over axes: real [M] and resampled [B, M]."""
        return self.costs.mean(-1), self.resampled.mean(-1)

    def half_width(self, resampled_b: np.ndarray) -> np.ndarray:
        """Half of the 95 % interval of what was resampled along the first axis."""
        return bootstrap_half_width(resampled_b, self.prompts)


def select(
    rows: Sequence[EvaluatedModel],
    constraints: Constraints,
    seed: int,
    shared: SharedTables = MappingProxyType({}),
) -> Selection:
    """Choose among the `models` rows of an evaluation; `shared` as the evaluation has it.

    Raises InputError when there are fewer candidates than wanted, or when a constrained axis was
    not measured.
    """
    if len(rows) < constraints.count:
        raise InputError("count", constraints.count, f"there are only {len(rows)} candidates")
    table = _table(rows, seed, shared)
    complaints = [_violations(row, constraints) for row in rows]
    violation = np.array([_amount(found) for found in complaints])
    bias, resampled = table.bias()
    front = front_membership(table.resampled)
    order = sorted(range(len(rows)), key=lambda m: (violation[m], front[m] < 0.5, bias[m], m))
    chosen = _spread(order, rows, constraints)
    alike: list[int] = []
    if constraints.count == 1:
        best = min(
            (m for m in order if violation[m] == violation[order[0]]), key=lambda m: (bias[m], m)
        )
        alike = [
            m
            for m in range(len(rows))
            if violation[m] == violation[best]
            and front[m] >= min(RARE, front[best])
            and not _worse(table, m, best)
        ]
        # Not the earliest of those: its regret is several times larger
        # (docs/explanation/selection.md).
        chosen = [best]
    left = [m for m in order if m not in chosen and violation[m] <= max(violation[chosen])]
    close = len(alike) > 1 if alike else any(not _worse(table, m, chosen[-1]) for m in left)
    half = table.half_width(resampled)
    verdicts = [
        Verdict(
            name=row.name,
            epoch=row.epoch,
            chosen=m in chosen,
            bias=float(bias[m]),
            low=float(bias[m] - half[m]),
            high=float(bias[m] + half[m]),
            front=float(front[m]),
            violation=float(violation[m]),
            reason=_reason(table, m, chosen, alike, complaints[m], constraints),
        )
        for m, row in enumerate(rows)
    ]
    met = bool(max(violation[chosen]) == 0)
    names, as_good = [rows[m].name for m in chosen], [rows[m].name for m in alike]
    return Selection(names, as_good, close, met, [axis.id for axis in table.axes], verdicts)


def behind(rows: Sequence[EvaluatedModel], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Faults by which each row [M] is more biased than the least biased, and half of that gap's 95
    % interval [M]."""
    table = _table(rows, seed)
    best = int(table.bias()[0].argmin())
    gaps = [_gap(table, m, best) for m in range(len(rows))]
    return np.array([gap for gap, _ in gaps]), np.array([half for _, half in gaps])


def objective(rows: Sequence[EvaluatedModel], constraints: Constraints) -> np.ndarray:
    """What a search lowers, one number [M] per row: the bias of RULE plus the faults by which
    bounds are missed.

    Raises InputError when a constrained axis was not measured, or no axis was measured for all.
    """
    axes = _measured(rows)
    bias = []
    for row in rows:
        bias.append(np.mean([axis.cost(row.scores[axis.id].value) for axis in axes]))
    missed = [_amount(_violations(row, constraints)) for row in rows]
    return np.array(bias) + np.array(missed)


def _table(
    rows: Sequence[EvaluatedModel], seed: int, shared: SharedTables = MappingProxyType({})
) -> _Table:
    """Values of the axes that were measured for every candidate."""
    axes = _measured(rows)
    prompts = list(dict.fromkeys(id for row in rows for axis in axes for id in row.values(axis.id)))
    values = np.full((len(rows), len(axes), len(prompts)), np.nan)
    for m, row in enumerate(rows):
        for a, axis in enumerate(axes):
            told = row.values(axis.id)
            values[m, a] = [told.get(id, np.nan) for id in prompts]
    weights = resampled_prompts(len(prompts), seed)
    once = np.ones((1, len(prompts)))
    return _Table(
        rows,
        axes,
        len(prompts),
        shared,
        _costs(axes, values, once)[0],
        _costs(axes, values, weights),
    )


def _measured(rows: Sequence[EvaluatedModel]) -> list[Axis]:
    """The axes that were measured for every row."""

    def of_all(axis: Axis) -> bool:
        return all(row.score(axis.id) for row in rows)

    axes = [axis for axis, _ in AXES.values() if of_all(axis)]
    if not axes:
        raise InputError(
            "candidates",
            len(rows),
            "no axis was measured for all of them; evaluation.json says why",
        )
    return axes


def _costs(axes: Sequence[Axis], values_map: np.ndarray, weights_bp: np.ndarray) -> np.ndarray:
    """Costs [B, M, A] when prompt p counts weights[b, p] times; an axis whose prompts all fell out
    keeps its value."""
    found = []
    for a, axis in enumerate(axes):
        values = np.log(values_map[:, a]) if axis.across == "geometric" else values_map[:, a]
        known = ~np.isnan(values)
        filled = np.where(known, values, 0)
        count = weights_bp @ known.T.astype(float)
        mean = np.where(
            count > 0, weights_bp @ filled.T / np.maximum(count, 1), filled.sum(1) / known.sum(1)
        )
        found.append(cost(axis, np.exp(mean) if axis.across == "geometric" else mean))
    return np.stack(found, axis=-1)


def _amount(complaints: Sequence[tuple[float, str]]) -> float:
    """The faults by which constraints are missed, together."""
    return sum(amount for amount, _ in complaints)


def _violations(row: EvaluatedModel, constraints: Constraints) -> list[tuple[float, str]]:
    """How far (in faults) and in words a model misses each constraint that it misses."""
    found = []
    for sign, bounds in ((1, constraints.at_least), (-1, constraints.at_most)):
        for id, needed in bounds.items():
            axis, score = AXES[id][0], row.score(id)
            if score is None:
                raise InputError(
                    f"constraint on {id}", needed, f"was not measured: {row.why_not(id)}"
                )
            worst = score.low if sign > 0 else score.high
            if axis.direction == "zero":
                reach = score.low, score.high
                inside = 0.0 if min(reach) <= 0 <= max(reach) else min(map(abs, reach))
                worst = inside if sign > 0 else max(map(abs, reach))
            missing = sign * (needed - worst) / axis.fault
            if missing > 0:
                bound = "at least" if sign > 0 else "at most"
                found.append(
                    (
                        missing,
                        (
                            f"{axis.title} is {bound} {worst:.3g} with 95 % confidence, asked:"
                            f" {needed:g}"
                        ),
                    )
                )
    return found


def _gap(table: _Table, m: int, other: int) -> tuple[float, float]:
    """By how much m's bias lies above the other's, and half of the interval of that paired
    difference."""
    bias, resampled = table.bias()
    return float(bias[m] - bias[other]), float(
        table.half_width(resampled[:, m] - resampled[:, other])
    )


def _worse(table: _Table, m: int, other: int) -> bool:
    """True when m's bias lies above the other's beyond the interval of their paired difference."""
    gap, half = _gap(table, m, other)
    return gap > half + 1e-12


def _spread(
    order: Sequence[int], rows: Sequence[EvaluatedModel], constraints: Constraints
) -> list[int]:
    """The first `count` in order with at most `per_stage_max` of one stage."""
    taken: list[int] = []
    for m in order:
        stage = _stage(rows[m])
        if (
            constraints.per_stage_max is None
            or sum(_stage(rows[k]) == stage for k in taken) < constraints.per_stage_max
        ):
            taken.append(m)
        if len(taken) == constraints.count:
            return taken
    raise InputError(
        "per_stage_max",
        constraints.per_stage_max,
        f"leaves only {len(taken)} of {constraints.count} to choose",
    )


def _reason(
    table: _Table,
    m: int,
    chosen: Sequence[int],
    alike: Sequence[int],
    complaints: Sequence[tuple[float, str]],
    constraints: Constraints,
) -> str:
    """Why a candidate was chosen or not, in one sentence."""
    best = chosen[0]
    name = table.rows[best].name
    missed = "; ".join(words for _, words in complaints)
    if m in chosen:
        if missed:
            return f"the least bad, although {missed}"
        others = [table.rows[k].name for k in alike if k != m]
        if others:
            return f"the least biased, not told apart from {', '.join(others)}"
        return (
            "the least biased"
            if m == best
            else f"number {list(chosen).index(m) + 1} by Pareto front and bias"
        )
    if missed:
        return missed
    if m in alike:
        return f"cannot be told from {name}, which is less biased by {_gap(table, m, best)[0]:.3f}"
    proven = _proven(table, m, best)
    if proven:
        return f"worse than {name}: {'; '.join(proven)}"
    limit = constraints.per_stage_max
    if limit and sum(_stage(table.rows[k]) == _stage(table.rows[m]) for k in chosen) >= limit:
        return f"{limit} of its stage are chosen already"
    bias, _ = table.bias()
    return (
        f"bias {bias[m]:.3f} against {bias[chosen[-1]]:.3f} of the last one chosen; no single axis"
        " tells them apart"
    )


def _proven(table: _Table, m: int, best: int) -> list[str]:
    """Axes on which m is worse than the best by the verdict's test, adjusted over the axes of this
    pair. Joint axes are tested where their shared numbers are known."""
    pair = table.rows[m], table.rows[best]
    compared = decide([compare_measured(axis, *pair, table.shared) for axis in table.axes])
    return [
        f"{one.axis.title} by {-one.gain:.3g} ({-one.high:.3g} to {-one.low:.3g}, p {one.p:.2g})"
        for one in compared
        if one.outcome == "worse"
    ]


def _stage(row: EvaluatedModel) -> str:
    return row.name.partition("@")[0]
