"""The report of a run: one page that needs no network, and summary.json. No clock enters either."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from onmodel.hashing import write_atomic, write_json
from onmodel.report import plots
from onmodel.report.grid import build_grid, hero
from onmodel.report.history import choices, data_sets, merges, searches
from onmodel.report.lineage_svg import draw_lineage, facts
from onmodel.report.pictures import Thumbnails
from onmodel.report.source import UNAVAILABLE, Axis, ReportSource, axes_of, capital, label, stage_of
from onmodel.report.table import build_table, print_table
from onmodel.report.verdict import WORDS, Comparison, comparisons, summary, verdict

__all__ = ["ReportSource", "build_report", "print_table", "verdict", "write_summary"]

REPRODUCTION = "reproduction"
RULE = (
    "A change counts when the sign-flip test over prompts, adjusted for the {n} axes (Holm), gives p < 0.05; "
    "else it is too close to call."
)


def build_report(source: ReportSource, folder: Path) -> None:
    """Write `folder/index.html`. Raises StateError when a picture that an evaluation names is missing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("onmodel.report"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("report.html.j2").render(page=page_of(source), strip=plots.strip)
    write_atomic(folder / "index.html", page.encode())


def write_summary(source: ReportSource, path: Path) -> None:
    """Write summary.json: the released model, seconds, every published number, and the verdict."""
    rows = [
        {"name": row["name"], "epoch": row["epoch"], "axes": {id: _score(score) for id, score in row["axes"].items()}}
        for row in source.measured.values()
    ]
    release = source.release.relative_to(source.project).as_posix() if source.release else None
    write_json(path, {"final": source.final, "release": release, "seconds": dict(source.seconds), "models": rows,
                      "verdict": verdict(source)})  # fmt: skip


def page_of(source: ReportSource) -> dict[str, Any]:
    """Everything the templates show, as plain values."""
    thumbnails = Thumbnails(source.folders)
    found = comparisons(source)
    table = build_table(source)
    page: dict[str, Any] = {
        "title": source.title,
        "character": source.character,
        "final": source.final,
        "shown_label": label(source.shown or ""),
        "hero": hero(source, thumbnails),
        "summary": summary(found, source.shown) if source.shown else [],
        "sentences": verdict(source),
        "board": _board(source, found),
        "evaluation": source.published_name,
        "table": table,
        "axis_tips": {column.axis.id: _axis_tip(column.axis) for column in table.columns} if table else {},
        "missing": _missing(source),
        "epochs": _epochs(source),
        **_scatters(source),
        "losses": _losses(source),
        "grid": build_grid(source, thumbnails),
        "data": data_sets(source, thumbnails),
        "choices": choices(source),
        "merges": merges(source),
        "searches": searches(source),
        "lineage": draw_lineage(source.lineage) if source.lineage else None,
        "nodes": facts(source.lineage) if source.lineage else [],
        **_again(source),
    }  # fmt: skip
    page["contents"] = [
        (id, words)
        for id, words, there in (
            ("result", "What changed", True),
            ("table", "All models", page["table"]),
            ("charts", "Training", page["epochs"] or page["scatters"] or page["losses"]),
            ("pictures", "Pictures", page["grid"]),
            ("data", "Data", page["data"]),
            ("choices", "Choices", page["choices"] or page["merges"]),
            ("lineage", "Lineage", page["lineage"]),
            ("again", "Do it again", True),
        )
        if there
    ]
    return page


def _score(score: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("value", "low", "high", "n", "arm", "signature") if score["value"] is not None else ("value", "why")
    return {key: score.get(key) for key in keys}


def _board(source: ReportSource, found: Mapping[str, Sequence[Comparison]]) -> dict[str, Any] | None:
    """The table axis × other model of paired differences, with strips on one scale a row; None without comparisons."""
    if not found or source.published is None:
        return None
    axes = axes_of(source.published)
    rows = []
    for index, axis in enumerate(axes):
        line = [row[index] for row in found.values()]
        reach = max((max(abs(c.low), abs(c.high)) for c in line if c.outcome != "unavailable"), default=0.0) or 1.0
        three = plots.interval_of(source.measured[source.shown or ""]["axes"].get(axis.id))
        now = (axis.text(three[1]), axis.span(three[0], three[2])) if three else ("", UNAVAILABLE)
        rows.append({"axis": axis, "now": now, "cells": [_board_cell(c, reach) for c in line]})
    return {"against": list(found), "rows": rows, "rule": RULE.format(n=len(axes))}


def _board_cell(comparison: Comparison, reach: float) -> dict[str, Any]:
    if comparison.outcome == "unavailable":
        return {"outcome": comparison.outcome, "words": WORDS[comparison.outcome], "strip": "", "change": "", "tip": ""}
    place = tuple((x / reach + 1) / 2 for x in (comparison.low, comparison.gain, comparison.high))
    return {
        "outcome": comparison.outcome, "words": WORDS[comparison.outcome], "change": comparison.change,
        "strip": plots.strip(place, 0.5, 150), "tip": comparison.sentence,  # type: ignore[arg-type]
    }  # fmt: skip


def _axis_tip(axis: Axis) -> str:
    """What an axis measures, whence, and its limits."""
    lines = [f"{axis.title}: {axis.meaning}", axis.record.origin, axis.record.limits]
    return "\n".join(lines)


def _missing(source: ReportSource) -> list[str]:
    """A sentence for every axis that some model lacks, with the reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in source.measured.values():
        for id, score in row["axes"].items():
            if score["value"] is None:
                found.setdefault((id, score.get("why", "")), []).append(label(row["name"]))
    every = len(source.measured)
    titles = {axis.id: capital(axis.short) for axis in axes_of(source.published)} if source.published else {}
    return [
        f"{titles[id]} is unavailable for {', '.join(names) if len(names) < every else 'every model'}: {why}"
        for (id, why), names in found.items()
    ]


def _epochs(source: ReportSource) -> list[dict[str, Any]]:
    """A block for every evaluation that looked at several checkpoints of a stage."""
    blocks = []
    choosing = [name for name in source.evaluations if name != source.published_name]
    for name in choosing or source.evaluations:
        evaluation = source.evaluations[name]
        counts: dict[str, int] = {}
        for row in evaluation["models"]:
            if row["epoch"] is not None:
                counts[stage_of(row["name"])] = counts.get(stage_of(row["name"]), 0) + 1
        stages = [stage for stage, count in counts.items() if count > 1]
        chosen = list(source.measured) if choosing else []
        drawn = {axis: plots.epochs(axis, evaluation, stages, chosen) for axis in axes_of(evaluation)}
        charts = [{"axis": axis, "svg": svg} for axis, svg in drawn.items() if svg]
        if charts:
            legend = [{"label": label(stage), "index": index % plots.COLOURS} for index, stage in enumerate(stages)]
            blocks.append({"name": name, "signature": evaluation["signature"], "stages": legend, "charts": charts})
    return blocks


def _scatters(source: ReportSource) -> dict[str, Any]:
    """Reproduction against every other axis, for every evaluation of at least two models."""
    blocks, shown, title = [], {}, ""
    marked = [name for name in (source.shown, *source.earlier, *source.ancestors) if name]
    for name, evaluation in source.evaluations.items():
        axes = {axis.id: axis for axis in axes_of(evaluation)}
        up = axes.pop(REPRODUCTION, None)
        if up is None or len(evaluation["models"]) < 2:
            continue
        title, charts = up.heading, []
        for axis in sorted(axes.values(), key=lambda axis: axis.ideal):  # biases, whose ideal is 0, come first
            svg = plots.scatter(axis, up, evaluation, marked)
            if svg:
                shown[axis.id] = axis
                charts.append({"axis": axis, "svg": svg, "first": axis.id == next(iter(shown))})
        if charts:
            blocks.append({"name": name, "charts": charts})
    return {"scatters": blocks, "scatter_axes": list(shown.values()), "scatter_title": title}


def _losses(source: ReportSource) -> list[dict[str, Any]]:
    """A chart for every train stage that has rows."""
    drawn = {stage: plots.losses(stage, rows) for stage, rows in source.training.items()}
    return [{"label": label(stage), "svg": svg} for stage, svg in drawn.items() if svg]


def _again(source: ReportSource) -> dict[str, Any]:
    """Time by stage, the released files, and the recipe."""
    longest = max(source.seconds.values(), default=0.0) or 1.0
    seconds = [
        {
            "label": label(stage),
            "verb": source.stages[stage]["do"],
            "text": _clock(value),
            "share": round(100 * value / longest, 2),
        }
        for stage, value in source.seconds.items()
    ]
    release = source.release
    files = sorted(path for path in release.rglob("*") if path.is_file()) if release else []
    return {
        "seconds": seconds,
        "total": _clock(sum(source.seconds.values())) + " in all",
        "release": release.relative_to(source.project).as_posix() if release else None,
        "files": [
            {"name": path.relative_to(release).as_posix(), "size": _size(path.stat().st_size)}
            for path in files
            if release
        ],
        "recipe": source.recipe_text,
    }


def _clock(seconds: float) -> str:
    """ "4.2 s", "45 s", "3 min 05 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 100 else f"{whole // 60} min {whole % 60:02d} s"


def _size(count: int) -> str:
    """Bytes as people read them, in powers of 1000."""
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
