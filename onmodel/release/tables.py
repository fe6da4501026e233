"""The numbers of a release: read from the evaluation, compared, printed one way, and looked up
again by the linter.

Nothing is measured here. What the card prints and what the tables beside it hold comes from the
same rows.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from onmodel.errors import InputError, VerifyError
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.selection import prompt_costs
from onmodel.evaluate.statistics import holm, paired
from onmodel.text import code_span, csv_cell

SIGNIFICANT = 0.05
EVALUATION, TABLE, CHANGES = (
    "evaluation/evaluation.json",
    "evaluation/table.csv",
    "evaluation/changes.csv",
)
CONTROL = "control"  # the column of arm D in the card: the base asked by description
Verdict = Literal["better", "worse", "not clear"]

NUMBER = r"-?\d+\.\d\d"
_INTERVAL = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")
_ANY_NUMBER = re.compile(r"(?<![\w.,/-])-?\d+(?:\.\d+)?(?![\w/])")
_WORDLESS = re.compile(
    r"`[^`]*`|\]\([^)]*\)|<[^>]*>|^\s*\d+\. "
)  # code, links, the numbers of a list
_CELL_ENDS = re.compile(r"(?<!\\)\|")
MOST_DECIMALS = 12
_CONSTANTS = (95, 0.05, 0.001)  # of the card's own sentences: the level of intervals and of tests


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

    `p`: paired sign-flip permutation over `n` prompts, Holm-adjusted over the axes of the release;
    `won`: share of prompts that came nearer to the ideal.
    """

    axis: str
    before: Value
    after: Value
    p: float
    won: float
    n: int
    verdict: Verdict

    @property
    def text(self) -> str:
        """As the card prints it: `0.71 [0.60, 0.82] before, 0.91 [0.87, 0.95] now; p = 0.012`."""
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.before.text} before, {self.after.text} now; {p}"


def decimal(value: float) -> str:
    """Two decimals, no negative zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def values(evaluation: Mapping[str, Any]) -> list[Value]:
    """Every number of the evaluation that has an interval: models in order, then the control."""
    rows = [(row["name"], row["axes"]) for row in evaluation["models"]]
    rows += [
        (CONTROL, control["axes"]) for arm, control in evaluation["controls"].items() if arm == "D"
    ]
    return [
        Value(axis, name, score["arm"], score["value"], score["low"], score["high"], score["n"])
        for name, axes in rows
        for axis, score in axes.items()
        if score["value"] is not None
    ]


def unavailable(evaluation: Mapping[str, Any], model: str) -> dict[str, str]:
    """Axis → why this model has no number on it."""
    return {
        axis: score["why"]
        for axis, score in row_of(evaluation, model)["axes"].items()
        if score["value"] is None
    }


def row_of(evaluation: Mapping[str, Any], model: str) -> Mapping[str, Any]:
    """The evaluation's row of a model. Raises InputError when it was not measured."""
    for row in evaluation["models"]:
        if row["name"] == model:
            return row
    raise InputError(
        "model",
        model,
        "was not measured; the evaluation has"
        f" {', '.join(r['name'] for r in evaluation['models'])}",
    )


def changes(evaluation: Mapping[str, Any], model: str, previous: str) -> list[Change]:
    """What changed since the previous release, axis by axis; axes that either lacks are left out.

    "better" and "worse" need p < 0.05 after Holm's adjustment, an interval that leaves 0 out, and a
    value nearer to or farther from the axis's ideal.
    """
    known = {(row.axis, row.model): row for row in values(evaluation)}
    after, before = (
        row_of(evaluation, model)["per_prompt"],
        row_of(evaluation, previous)["per_prompt"],
    )
    axes = [
        axis for axis in evaluation["axes"] if (axis, model) in known and (axis, previous) in known
    ]
    found = []
    for axis in axes:
        prompts = [
            p
            for p in after.get(axis, {})
            if None not in (after[axis][p], before.get(axis, {}).get(p))
        ]
        if len(prompts) > 1:
            record = AXES[axis][0]
            then, now = (
                prompt_costs(record, np.array([side[axis][p] for p in prompts]))
                for side in (before, after)
            )
            found.append((axis, paired(then, now)))
    adjusted = holm([result.p for _, result in found], [result.least for _, result in found])
    return [
        Change(
            axis=axis,
            before=known[axis, previous],
            after=known[axis, model],
            p=p,
            won=result.win_share,
            n=result.mean.n,
            verdict=(
                "not clear"
                if p >= SIGNIFICANT or result.mean.low <= 0 <= result.mean.high
                else "better"
                if result.mean.value > 0
                else "worse"
            ),
        )
        for (axis, result), p in zip(found, adjusted, strict=True)
    ]


def values_csv(rows: Iterable[Value]) -> str:
    """The text of `TABLE`, full precision."""
    return _csv(
        ("model", "axis", "arm", "value", "low", "high", "n"),
        [(r.model, r.axis, r.arm, r.value, r.low, r.high, r.n) for r in rows],
    )


def changes_csv(rows: Iterable[Change]) -> str:
    """The text of `CHANGES`, full precision."""
    return _csv(
        ("axis", "previous", "this", "verdict", "p_holm", "win_share", "n"),
        [(r.axis, r.before.value, r.after.value, r.verdict, r.p, r.won, r.n) for r in rows],
    )


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(
        [header, *(map(csv_cell, row) for row in rows)]
    )
    return buffer.getvalue()


def lint_card(
    text: str, evaluation: Mapping[str, Any], changes: Sequence[Change], facts: Any
) -> int:
    """Hold a card against the evaluation, both ways, and return how many numbers with an interval
    it shows.

    In a table the heads of row and column must name axis and model of such a number, on any other
    line it must be one of the axis that the line names; a line that compares two models must be
    that axis' change, p-value and all. Every value of the evaluation must be there. Any other
    number, outside code, links and the author's quoted words, must be one of `facts` (values, at
    any depth). Raises VerifyError naming the line and the number that is not so.
    """
    known = {(row.axis, row.model): row.text for row in values(evaluation)}
    titles = {row["title"].lower(): axis for axis, row in evaluation["axes"].items()}
    compared = {row.axis: row.text for row in changes}
    models = {model for _, model in known}
    allowed = _Printed({*_numbers(facts), *_CONSTANTS, len(changes)})
    missing = set(known)
    head: list[str] = []
    count = 0
    for number, line in _body(text):
        where = f"README.md, line {number}"
        cells = (
            [cell.strip() for cell in _CELL_ENDS.split(line.strip())[1:-1]]
            if line.startswith("|")
            else []
        )
        head = [] if not cells else head or cells
        for column, cell in enumerate(cells or [line]):
            names = f"{cells[0]} {head[column]}" if cells else line
            axes = {axis for title, axis in titles.items() if title in names.lower()}
            named = names.replace(r"\|", "|")
            asked = {model for model in models if code_span(model) in named} or models
            for found in _INTERVAL.findall(cell):
                count += 1
                fitting = {(a, m) for a in axes for m in asked if known.get((a, m)) == found}
                if not fitting or (not cells and len(axes) != 1):
                    raise VerifyError(
                        where, f"{found} is not what the evaluation's tables say there"
                    )
                if cells:
                    missing -= fitting
            if " before, " in cell and not any(compared.get(axis, "\n") in cell for axis in axes):
                raise VerifyError(where, "is not the change that the evaluation's tables give")
            for found in _ANY_NUMBER.findall(_WORDLESS.sub(" ", _INTERVAL.sub(" ", cell))):
                if " before, " not in cell and found not in allowed:
                    raise VerifyError(
                        where, f"{found} stands in no table and in no record; leave it out"
                    )
    if missing:
        axis, model = min(missing)
        raise VerifyError("README.md", f"does not show {known[axis, model]}, {axis} of {model}")
    return count


def _body(text: str) -> list[tuple[int, str]]:
    """The numbered lines of a card that are not front matter, title, code, or the author's quoted
    words."""
    lines, skipped = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```") or line == "---":
            skipped = not skipped
        elif not skipped and not line.startswith(("> ", "# ")):
            lines.append((number, line))
    return lines


def _numbers(value: Any) -> Iterator[float]:
    """Every number in nested facts, those within texts too; a share also as per cent."""
    if isinstance(value, str):
        yield from map(float, _ANY_NUMBER.findall(value))
    elif isinstance(value, Mapping):
        yield from (number for inner in value.values() for number in _numbers(inner))
    elif isinstance(value, Iterable):
        yield from (number for inner in value for number in _numbers(inner))
    elif isinstance(value, int | float):
        yield from (value, 100 * value)


class _Printed:
    """Numbers as a card prints them: `"0.91" in printed` where a number is rounded to it, by
    decimals or to three digits. Sets by decimals, since a card and a history of others may hold
    very many numbers.
    """

    def __init__(self, numbers: set[float]) -> None:
        self._numbers = {number for number in numbers if math.isfinite(number)}
        self._rounded: dict[int, set[float]] = {0: self._numbers}

    def __contains__(self, text: str) -> bool:
        decimals = len(text.partition(".")[2])
        if decimals > MOST_DECIMALS:
            return False
        if decimals not in self._rounded:
            rounded = {round(number, decimals) for number in self._numbers}
            self._rounded[decimals] = (
                rounded | {float(f"{number:.3g}") for number in self._numbers} | self._numbers
            )
        return float(text) in self._rounded[decimals]


def lint_tables(
    evaluation: Mapping[str, Any], changes: Sequence[Change], tables: Mapping[str, str]
) -> None:
    """Hold the CSV files beside a card against the evaluation. Raises VerifyError naming the file
    that differs."""
    wanted = {TABLE: values_csv(values(evaluation)), CHANGES: changes_csv(changes)}
    for name, text in tables.items():
        if text != wanted[name]:
            raise VerifyError(name, "does not hold the numbers of evaluation.json")
