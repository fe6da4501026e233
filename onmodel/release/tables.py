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
from typing import Any

from onmodel.errors import VerifyError
from onmodel.evaluate.compare import (
    FIRST_LOOK,
    LEVEL,
    SECOND_LOOK,
    Comparison,
    Outcome,
    compare_declared,
)
from onmodel.evaluate.evaluation import SCHEMA, Evaluation, NotMeasured
from onmodel.evaluate.headlines import result_of
from onmodel.text import code_span, csv_cell, markdown

EVALUATION, TABLE, CHANGES = (
    "evaluation/evaluation.json",
    "evaluation/table.csv",
    "evaluation/changes.csv",
)
CONTROL = "control"  # the column of arm D in the card: the base asked by description

RESULT = "## What changed"  # the card's section of the result in sentences
LEAD = " on the same prompts and noise. The largest change comes first."
NOT_SAID = "is no sentence of the evaluation's result"
NUMBER = r"-?\d+\.\d\d"
_INTERVAL = re.compile(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]")
_ANY_NUMBER = re.compile(r"(?<![\w.,/-])-?\d+(?:\.\d+)?(?![\w/])")
_WORDLESS = re.compile(
    r"`[^`]*`|\]\([^)]*\)|<[^>]*>|^\s*\d+\. "
)  # code, links, the numbers of a list
_CELL_ENDS = re.compile(r"(?<!\\)\|")
MOST_DECIMALS = 12
# Of the card's own sentences: the levels of intervals and of tests, LEVEL in older cards.
_CONSTANTS = (95, LEVEL, FIRST_LOOK, SECOND_LOOK, 0.001)


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
        return f"{two_decimals(self.value)} [{two_decimals(self.low)}, {two_decimals(self.high)}]"


@dataclass(frozen=True, slots=True)
class Change:
    """One axis of this release against the previous one, on the same prompts and seeds."""

    before: Value
    after: Value
    comparison: Comparison

    @property
    def axis(self) -> str:
        return self.after.axis

    @property
    def outcome(self) -> Outcome:
        return self.comparison.outcome

    @property
    def text(self) -> str:
        """As the card prints it: `0.71 [0.60, 0.82] before, 0.91 [0.87, 0.95] now; p = 0.012`."""
        p = self.comparison.p
        words = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
        return f"{self.values}; {words}"

    @property
    def values(self) -> str:
        """The text without its p."""
        return f"{self.before.text} before, {self.after.text} now"


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """What the card says of a release against others: the `sentences` of the evaluation's page, and
    axis by axis the `changes` since the previous release."""

    sentences: Sequence[str] = ()
    changes: Sequence[Change] = ()


def two_decimals(value: float) -> str:
    """Two decimals, no negative zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def values(evaluation: Evaluation) -> list[Value]:
    """Every number of the evaluation that has an interval: models in order, then the control."""
    rows = [(row.name, row) for row in evaluation.models]
    if "D" in evaluation.controls:
        rows.append((CONTROL, evaluation.controls["D"]))
    return [
        Value(axis, name, one.arm, one.value, one.low, one.high, one.n)
        for name, row in rows
        for axis, one in row.scores.items()
    ]


def unavailable(evaluation: Evaluation, model: str) -> dict[str, str]:
    """Axis → why this model has no score on it."""
    return {
        axis: score.why
        for axis, score in evaluation.model(model).axes.items()
        if isinstance(score, NotMeasured)
    }


def result(evaluation: Evaluation, model: str, previous: str | None) -> ReleaseResult:
    """A release against the models that the evaluation declares, else against the `previous` one.

    `changes` leave out axes that either lacks. Nothing where no model is named. Raises InputError
    for a model that was not measured.
    """
    if previous is not None:
        evaluation.model(previous)
    others = evaluation.against or ([] if previous is None else [previous])
    if not others:
        return ReleaseResult()
    compared = compare_declared(evaluation, model)
    pairs = {name: compared[name] for name in others if name in compared}
    known = {(row.axis, row.model): row for row in values(evaluation)}
    changes = [
        Change(known[one.axis.id, one.against], known[one.axis.id, model], one)
        for one in pairs.get(previous or "", [])
        if one.outcome != "unavailable"
    ]
    return ReleaseResult(result_of(evaluation, model, pairs).sentences, changes)


def values_csv(rows: Iterable[Value]) -> str:
    """The text of `TABLE`, full precision."""
    return _csv(
        ("model", "axis", "arm", "value", "low", "high", "n"),
        [(r.model, r.axis, r.arm, r.value, r.low, r.high, r.n) for r in rows],
    )


def changes_csv(rows: Iterable[Change]) -> str:
    """The text of `CHANGES`, full precision."""
    return _csv(
        ("axis", "previous", "this", "outcome", "p_holm", "win_share", "n"),
        [
            (r.axis, r.before.value, r.after.value, r.outcome, c.p, c.won, c.n)
            for r in rows
            for c in [r.comparison]
        ],
    )


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(
        [header, *(map(csv_cell, row) for row in rows)]
    )
    return buffer.getvalue()


def lint_card(text: str, evaluation: Evaluation, result: ReleaseResult, facts: Any) -> int:
    """Hold a card against the evaluation, both ways, and return how many numbers with an interval
    it shows.

    In a table the heads of row and column must name axis and model of such a number, on any other
    line it must be one of the axis that the line names; a line that compares two models must be
    that axis' change, p-value and all. Every value of the evaluation must be there. The sentences
    of the result must be those of the evaluation, word for word. Any other number, outside code,
    links and the author's quoted words, must be one of `facts` (values, at any depth). Raises
    VerifyError naming the line and the number that is not so.
    """
    known = {(row.axis, row.model): row.text for row in values(evaluation)}
    titles = {axis.title.lower(): id for id, axis in evaluation.axes.items()}
    # Older evaluations were compared by other tests: their p is not ours.
    ours = evaluation.schema == SCHEMA
    compared = {row.axis: row.text if ours else row.values for row in result.changes}
    body = _body(text)
    said = _lint_sentences(body, result.sentences) if ours else set()
    models = {model for _, model in known}
    allowed = _Printed({*_numbers(facts), *_CONSTANTS, len(result.changes)})
    missing = set(known)
    head: list[str] = []
    count = 0
    for number, line in body:
        if number in said:
            continue
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


def _lint_sentences(body: Sequence[tuple[int, str]], sentences: Sequence[str]) -> set[int]:
    """Hold the list of RESULT against the sentences; the numbers of its lines. Raises VerifyError
    for the first line that says something else, or that is missing."""
    wanted = [f"- {markdown(one)}" for one in sentences]
    listed: list[tuple[int, str]] = []
    section = ""
    for number, line in body:
        section = line if line.startswith("#") else section
        lead = line.startswith("Compared with ") and line.endswith(LEAD)
        if section == RESULT and line.strip() and line != RESULT and not lead:
            listed.append((number, line))
    for (number, line), right in zip(listed, wanted, strict=False):
        if line != right:
            raise VerifyError(f"README.md, line {number}", NOT_SAID)
    if len(listed) > len(wanted):
        raise VerifyError(f"README.md, line {listed[len(wanted)][0]}", NOT_SAID)
    if len(listed) < len(wanted):
        raise VerifyError("README.md", f"does not say: {wanted[len(listed)][2:]}")
    return {number for number, _ in listed}


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
    evaluation: Evaluation, changes: Sequence[Change], tables: Mapping[str, str]
) -> None:
    """Hold the CSV files beside a card against the evaluation. Raises VerifyError naming the file
    that differs."""
    wanted = {TABLE: values_csv(values(evaluation)), CHANGES: changes_csv(changes)}
    for name, text in tables.items():
        if text != wanted[name]:
            raise VerifyError(name, "does not hold the numbers of evaluation.json")
