"""The table models × axes of the published evaluation, as cells for the page and the terminal, with
the result in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.compare import UNAVAILABLE
from onmodel.evaluate.evaluation import AnyScore, EvaluatedModel, NotMeasured
from onmodel.evaluate.headlines import label
from onmodel.report.source import ReportSource
from onmodel.report.verdict import result

SHADES = 6
CONTROLS = {
    "B": "base model, same prompt",
    "D": "base model, the design in words instead of the trigger",
}
ROLES = {
    "final": "released",
    "imported": "imported",
    "earlier": "earlier release",
    "candidate": "checkpoint",
    "merge": "merge",
    "refined": "refined",
}


@dataclass(frozen=True)
class TableCell:
    """One number with its interval. `shade` is 0 (far from the ideal) to 6; None for controls and
    missing values.

    `place` are low, value and high as shares 0..1 of the column's common scale, for the strip under
    the number.
    """

    text: str
    interval: str
    shade: int | None
    place: tuple[float, float, float] | None
    tip: str


@dataclass(frozen=True)
class TableRow:
    """One model or control."""

    name: str
    label: str
    role: str
    note: str
    cells: Sequence[TableCell]


@dataclass(frozen=True)
class TableColumn:
    """One axis; `ideal` is its position on the strips' scale."""

    axis: Axis
    ideal: float


@dataclass(frozen=True)
class Table:
    """The published evaluation, ready to print.

    `sentences`: the result, none where nothing was compared; `foremost`: rows of the models, the
    shown one first, then those that it is compared with; `questions`: the declared axes.
    """

    signature: str
    columns: Sequence[TableColumn]
    rows: Sequence[TableRow]
    sentences: Sequence[str]
    foremost: Sequence[TableRow]
    questions: Sequence[str]


def build_table(source: ReportSource) -> Table | None:
    """Rows in the evaluation's order, the released model last before the controls. None when
    nothing was measured."""
    evaluation = source.published
    if evaluation is None:
        return None
    models = sorted(evaluation.models, key=lambda row: row.name == source.final)
    controls = [row for _, row in sorted(evaluation.controls.items())]
    axes = list(evaluation.axes.values())
    scales = {axis.id: _scale(axis, [*models, *controls]) for axis in axes}
    worst = {axis.id: _worst(axis, models) for axis in axes}

    def cells(row: EvaluatedModel, is_control: bool) -> list[TableCell]:
        return [
            _cell(
                axis,
                row.axes.get(axis.id),
                scales[axis.id],
                None if is_control else worst[axis.id],
            )
            for axis in axes
        ]

    rows: list[TableRow] = []
    for row in models:
        role = source.role(row.name)
        rows.append(TableRow(row.name, label(row.name), role, ROLES[role], cells(row, False)))
    by_name = {row.name: row for row in rows}
    foremost = dict.fromkeys([source.shown or "", *source.rivals, *by_name])
    for row in controls:
        words = CONTROLS.get(row.name, "")
        title = f"Control {row.name}"
        rows.append(TableRow(row.name, title, "control", words, cells(row, True)))
    columns = [TableColumn(axis, _share(scales[axis.id], axis.ideal)) for axis in axes]
    found = result(source)
    return Table(
        evaluation.signature,
        columns,
        rows,
        sentences=found.sentences if found else [],
        foremost=[by_name[name] for name in foremost if name in by_name],
        questions=evaluation.questions,
    )


def _cell(
    axis: Axis, score: AnyScore | None, scale: tuple[float, float], worst: float | None
) -> TableCell:
    if score is None:
        return TableCell("\N{EN DASH}", "", None, None, f"{axis.title}: does not apply here")
    if isinstance(score, NotMeasured):
        return TableCell(
            UNAVAILABLE,
            "",
            None,
            None,
            f"{axis.title}: unavailable. {score.why}".strip(),
        )
    value, low, high = score.value, score.low, score.high
    tip = (
        f"{axis.title}: {axis.text(value)} ({axis.span(low, high)}, 95 %)\n{score.n} prompts,"
        f" arm {score.arm}\n"
    )
    place = (_share(scale, low), _share(scale, value), _share(scale, high))
    shade = None if worst is None else _shade(axis, value, worst)
    return TableCell(axis.text(value), axis.span(low, high), shade, place, tip + score.signature)


def _shade(axis: Axis, value: float, worst: float) -> int:
    """0 for the table's worst model, SHADES at the ideal and beyond."""
    return round(SHADES * min(1.0, max(0.0, 1 - axis.cost(value) / worst))) if worst > 0 else SHADES


def _worst(axis: Axis, rows: Sequence[EvaluatedModel]) -> float:
    costs = [axis.cost(score.value) for row in rows if (score := row.score(axis.id))]
    return max(costs, default=0.0)


def _scale(axis: Axis, rows: Sequence[EvaluatedModel]) -> tuple[float, float]:
    """The common range of a column: all intervals, and the ideal."""
    scores = [score for row in rows if (score := row.score(axis.id))]
    ends = [end for score in scores for end in (score.low, score.high)] + [axis.ideal]
    return (min(ends), max(ends)) if len(set(ends)) > 1 else (0.0, 1.0)


def _share(scale: tuple[float, float], value: float) -> float:
    return (value - scale[0]) / (scale[1] - scale[0])
