"""The result in two tables: changes against other models, and models × axes with the meaning of
each axis."""

from collections.abc import Mapping, Sequence

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.compare import UNAVAILABLE, Comparison
from onmodel.evaluate.evaluation import NotMeasured, ObserverRecord
from onmodel.evaluate.headlines import label
from onmodel.report import plots
from onmodel.report.source import ReportSource
from onmodel.report.table import build_table
from onmodel.report.verdict import sentence_of
from onmodel.text import capital

RULE = (
    "Better or worse: the test that swaps prompts gives p < 0.04 after adjustment (0.01 is kept for"
    " one further look, and is its level), the interval"
    " leaves 0 out, and the change is at least the axis' margin. Same: the interval lies"
    " within that margin, and no difference shows. Open: neither. The declared questions"
    " ({questions}) are one family over all {pairs} pairs (Holm); the other axes are exploratory"
    " (Benjamini-Hochberg)."
)


def board(
    source: ReportSource, found: Mapping[str, Sequence[Comparison]]
) -> dict[str, object] | None:
    """The table axis × other model of paired differences, with strips on one scale a row; None
    without comparisons."""
    if not found or source.published is None:
        return None
    axes = list(source.published.axes.values())
    rows = []
    for index, axis in enumerate(axes):
        compared = [row[index] for row in found.values()]
        reach = (
            max(
                (max(abs(c.low), abs(c.high)) for c in compared if c.outcome != "unavailable"),
                default=0.0,
            )
            or 1.0
        )
        three = plots.interval_of(source.measured[source.shown or ""].score(axis.id))
        now = (axis.text(three[1]), axis.span(three[0], three[2])) if three else ("", UNAVAILABLE)
        rows.append({"axis": axis, "now": now, "cells": [cell(c, reach) for c in compared]})
    questions = [axis.short for axis in axes if axis.id in source.published.questions]
    rule = RULE.format(questions=", ".join(questions), pairs=len(source.compared))
    return {"against": list(found), "rows": rows, "rule": rule}


def cell(comparison: Comparison, reach: float) -> dict[str, object]:
    """A comparison as words, numbers and a strip; `reach` is what the strip's ends stand for."""
    if comparison.outcome == "unavailable":
        return {
            "outcome": comparison.outcome,
            "words": comparison.words,
            "strip": "",
            "change": "",
            "tip": "",
        }
    low, gain, high = (
        (x / reach + 1) / 2 for x in (comparison.low, comparison.gain, comparison.high)
    )
    return {
        "outcome": comparison.outcome,
        "words": comparison.words,
        "change": comparison.change,
        "strip": plots.strip((low, gain, high), 0.5, 150),
        "tip": sentence_of(comparison),
    }


def _axis_tip(axis: Axis) -> str:
    """What an axis measures, its source, and its limits."""
    lines = [f"{axis.title}: {axis.meaning}", axis.origin, axis.limits]
    return "\n".join(lines)


def missing(source: ReportSource) -> list[str]:
    """A sentence for every axis that some model lacks, with the reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in source.measured.values():
        for id, score in row.axes.items():
            if isinstance(score, NotMeasured):
                found.setdefault((id, score.why), []).append(label(row.name))
    every = len(source.measured)
    titles = (
        {id: capital(axis.short) for id, axis in source.published.axes.items()}
        if source.published
        else {}
    )
    return [
        f"{titles[id]} is unavailable for"
        f" {', '.join(names) if len(names) < every else 'every model'}: {why}"
        for (id, why), names in found.items()
    ]


def notes(source: ReportSource) -> list[str]:
    """Axes of the shown model that only some of the prompts measure; and the observers with their
    licences."""
    if source.published is None or source.shown is None:
        return []
    prompts, shown = len(source.published.plan.prompts), source.measured[source.shown]
    few = [
        f"{axis.short} ({score.n})"
        for axis in source.published.axes.values()
        if (score := shown.score(axis.id)) and score.n < prompts
    ]
    found = [f"Measured on fewer than the {prompts} prompts: {', '.join(few)}."] if few else []
    looked = [
        f"{name.replace('_', ' ')} ({', '.join(map(_source, used))})"
        for name, used in source.published.observers.items()
    ]
    return [*found, f"Observers: {'; '.join(looked)}."] if looked else found


def _source(observer: ObserverRecord) -> str:
    return f"{observer.named}, {observer.licence or 'licence not declared'}"


def table_of(source: ReportSource) -> dict[str, object]:
    """The table of models × axes, and what each axis means."""
    table = build_table(source)
    return {
        "table": table,
        "notes": notes(source),
        "axis_tips": (
            {column.axis.id: _axis_tip(column.axis) for column in table.columns} if table else {}
        ),
    }
