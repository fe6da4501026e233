"""What each subset of a training does: as typed rows, as JSON, and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.engine.influence import Effect, Leaving
from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.compare import Comparison, Outcome
from onmodel.evaluate.evaluation import Evaluation
from onmodel.hashing import write_atomic
from onmodel.report.board import cell
from onmodel.report.evaluation_page import facts
from onmodel.report.pages import environment
from onmodel.report.verdict import enumerated
from onmodel.text import decimal

OUTCOMES: Mapping[str, Outcome] = {
    "helps": "better",
    "harms": "worse",
    "open": "open",
}
RULE = (
    "An effect counts when the training without the subset differs from every whole training by the"
    " verdict's test (prompts are swapped between two models; p < 0.05, adjusted over subsets and"
    " axes by Holm), and when it is larger than the floor: how far two trainings on the same"
    " pictures lie apart, here or in other measurements (the axis' margin)."
)


@dataclass(frozen=True)
class InfluenceRow:
    """One axis: its floor, and what each subset does to it, in the order of the columns."""

    axis: Axis
    floor: str
    comparisons: Sequence[Comparison]
    outcomes: Sequence[str]  # keys of OUTCOMES


@dataclass(frozen=True)
class InfluenceTable:
    """Axes × subsets of one training, and a sentence for each subset."""

    training: str
    subsets: Sequence[str]
    rows: Sequence[InfluenceRow]
    sentences: Sequence[str]


def influence_table(
    found: Sequence[Effect], axes: Sequence[Axis], leaving: Leaving
) -> InfluenceTable:
    """The effects as rows, in the axes' own units."""
    rows = []
    for axis, effects in _by_axis(found, axes):
        compared = [_comparison(axis, one) for one in effects]
        outcomes = [one.outcome for one in effects]
        rows.append(InfluenceRow(axis, _floor(axis, effects[0]), compared, outcomes))
    subsets = list(leaving.without)
    return InfluenceTable(leaving.full[0], subsets, rows, sentences(found, axes, leaving))


def as_dict(found: Sequence[Effect], evaluation: Evaluation, leaving: Leaving) -> dict[str, object]:
    """What the JSON file holds; effects in whole faults."""
    return {
        "signature": evaluation.signature,
        "full": leaving.full,
        "without": leaving.without,
        "effects": [
            {
                "subset": one.subset,
                "axis": one.axis,
                "effect": one.effect.value,
                "low": one.effect.low,
                "high": one.effect.high,
                "n": one.effect.n,
                "p": one.p,
                "floor": one.floor,
                "outcome": one.outcome,
            }
            for one in found
        ],
    }


def sentences(found: Sequence[Effect], axes: Sequence[Axis], leaving: Leaving) -> list[str]:
    """A sentence for each subset: what it helps, what it harms."""
    titles = {axis.id: axis.short for axis in axes}
    lines = []
    for subset in leaving.without:
        parts = []
        for outcome in ("helps", "harms"):
            names = [
                titles[one.axis] for one in found if one.subset == subset and one.outcome == outcome
            ]
            parts += [f"{outcome} {enumerated(names)}"] if names else []
        lines.append(f"{subset} {'; '.join(parts) or 'changes no axis for certain'}.")
    return lines


def write_page(table: InfluenceTable, leaving: Leaving, evaluation: Evaluation, path: Path) -> None:
    """Write the page, and its JSON beside it."""
    rows = []
    for row in table.rows:
        reach = max(max(abs(one.low), abs(one.high)) for one in row.comparisons) or 1.0
        cells = [
            cell(one, reach) | {"words": outcome}
            for one, outcome in zip(row.comparisons, row.outcomes, strict=True)
        ]
        rows.append({"axis": row.axis, "floor": row.floor, "cells": cells})
    page = {
        "contents": [],
        "training": table.training,
        "character": leaving.recipe.character.name,
        "title": leaving.recipe.name,
        "facts": facts(evaluation),
        "twins": len(leaving.full) - 1,
        "json": f"{path.stem}.json",
        "report": (path.parent / "index.html").exists(),
        "subsets": table.subsets,
        "sentences": table.sentences,
        "rows": rows,
        "rule": RULE,
    }
    write_atomic(path, environment().get_template("influence.html.j2").render(page=page).encode())


def _by_axis(found: Sequence[Effect], axes: Sequence[Axis]) -> list[tuple[Axis, list[Effect]]]:
    rows = []
    for axis in axes:
        if effects := [one for one in found if one.axis == axis.id]:
            rows.append((axis, effects))
    return rows


def _comparison(axis: Axis, one: Effect) -> Comparison:
    """The effect in the axis' own unit."""
    value, low, high = (axis.fault * x for x in (one.effect.value, one.effect.low, one.effect.high))
    return Comparison(axis, one.subset, OUTCOMES[one.outcome], value, low, high, one.p)


def _floor(axis: Axis, one: Effect) -> str:
    """The floor in the axis' own unit; for a geometric mean in its logarithm."""
    return decimal(axis.fault * one.floor, axis.places)
