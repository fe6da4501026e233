"""The numbers of a release: read from the evaluation, compared, printed one way, and looked up again by the linter.

Nothing is measured here. What the card prints and what the tables beside it hold comes from the same rows.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onmodel.errors import InputError, VerifyError
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.selection import prompt_costs
from onmodel.evaluate.statistics import holm, paired

SIGNIFICANT = 0.05
CONTROL = "control"  # the column of arm D in the card: the base asked by description
Verdict = Literal["better", "worse", "not clear"]

NUMBER = r"-?\d+\.\d\d"
_INTERVAL = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")


@dataclass(frozen=True, slots=True)
class Value:
    """One axis of one model with its 95 % interval over `n` prompts."""

    axis: str
    model: str
    arm: str
    value: float
    low: float
    high: float
    n: int

    @property
    def text(self) -> str:
        """As the card prints it: `0.91 [0.87, 0.95]`."""
        return f"{decimal(self.value)} [{decimal(self.low)}, {decimal(self.high)}]"


@dataclass(frozen=True, slots=True)
class Change:
    """One axis of this release against the previous one, on the same prompts and seeds.

    `p`: paired sign-flip permutation over `n` prompts, Holm-adjusted over the axes of the release; `won`: share of
    prompts that came nearer to the ideal.
    """

    axis: str
    before: Value
    after: Value
    p: float
    won: float
    n: int
    verdict: Verdict


def decimal(value: float) -> str:
    """Two decimals, no negative zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def values(evaluation: Mapping[str, Any]) -> list[Value]:
    """Every number of the evaluation that has an interval: models in order, then the control."""
    rows = [(row["name"], row["axes"]) for row in evaluation["models"]]
    rows += [(CONTROL, control["axes"]) for arm, control in evaluation["controls"].items() if arm == "D"]
    return [
        Value(axis, name, score["arm"], score["value"], score["low"], score["high"], score["n"])
        for name, axes in rows
        for axis, score in axes.items()
        if score["value"] is not None
    ]


def unavailable(evaluation: Mapping[str, Any], model: str) -> dict[str, str]:
    """Axis → why this model has no number on it."""
    return {axis: score["why"] for axis, score in row_of(evaluation, model)["axes"].items() if score["value"] is None}


def row_of(evaluation: Mapping[str, Any], model: str) -> Mapping[str, Any]:
    """The evaluation's row of a model. Raises InputError when it was not measured."""
    for row in evaluation["models"]:
        if row["name"] == model:
            return row
    raise InputError(
        "model", model, f"was not measured; the evaluation has {', '.join(r['name'] for r in evaluation['models'])}"
    )


def changes(evaluation: Mapping[str, Any], model: str, previous: str) -> list[Change]:
    """What changed since the previous release, axis by axis; axes that either lacks are left out.

    "better" and "worse" need p < 0.05 after Holm's adjustment, and a value nearer to or farther from the axis's ideal.
    """
    known = {(row.axis, row.model): row for row in values(evaluation)}
    after, before = row_of(evaluation, model)["per_prompt"], row_of(evaluation, previous)["per_prompt"]
    axes = [axis for axis in evaluation["axes"] if (axis, model) in known and (axis, previous) in known]
    found = []
    for axis in axes:
        prompts = [p for p in after.get(axis, {}) if None not in (after[axis][p], before.get(axis, {}).get(p))]
        if len(prompts) > 1:
            record = AXES[axis][0]
            then, now = (prompt_costs(record, np.array([side[axis][p] for p in prompts])) for side in (before, after))
            found.append((axis, paired(then, now)))
    adjusted = holm([result.p for _, result in found])
    return [
        Change(
            axis=axis,
            before=known[axis, previous],
            after=known[axis, model],
            p=p,
            won=result.win_share,
            n=result.mean.n,
            verdict="not clear" if p >= SIGNIFICANT else "better" if result.mean.value > 0 else "worse",
        )
        for (axis, result), p in zip(found, adjusted, strict=True)
    ]


def values_csv(rows: Iterable[Value]) -> str:
    """`evaluation/table.csv`, full precision."""
    return _csv(("model", "axis", "arm", "value", "low", "high", "n"),
                [(r.model, r.axis, r.arm, r.value, r.low, r.high, r.n) for r in rows])  # fmt: skip


def changes_csv(rows: Iterable[Change]) -> str:
    """`evaluation/changes.csv`, full precision."""
    return _csv(("axis", "previous", "this", "verdict", "p_holm", "win_share", "n"),
                [(r.axis, r.before.value, r.after.value, r.verdict, r.p, r.won, r.n) for r in rows])  # fmt: skip


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def lint_card(text: str, evaluation: Mapping[str, Any]) -> int:
    """Check every number with an interval in a card and return how many there were.

    In a table the row (or column) heads must name axis and model, and the cell must be that value; on any other line
    the number must be one of the axis that the line names. Raises VerifyError naming the line and the number that is
    not so.
    """
    known = {(row.axis, row.model): row.text for row in values(evaluation)}
    titles = {row["title"].lower(): axis for axis, row in evaluation["axes"].items()}
    models = {row.model for row in values(evaluation)}
    head: list[str] = []
    count = 0
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            head = []
        elif not head:
            head = cells
        for column, cell in enumerate(cells or [line]):
            for found in _INTERVAL.findall(cell):
                count += 1
                names = f"{cells[0]} {head[column]}" if cells else line
                axes = {axis for title, axis in titles.items() if title in names.lower()}
                asked = {model for model in models if f"`{model}`" in names} or models
                if (not cells and len(axes) != 1) or found not in {known.get((a, m)) for a in axes for m in asked}:
                    raise VerifyError(
                        f"README.md, line {number}", f"{found} is not what the evaluation's tables say there"
                    )
    return count
