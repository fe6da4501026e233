"""The report of a run: index.html, a page for each evaluation and tuning, and summary.json. No
network, no clock."""

from collections.abc import Callable, Mapping
from pathlib import Path

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.evaluation import AnyScore, NotMeasured
from onmodel.evaluate.headlines import label
from onmodel.hashing import write_atomic, write_json
from onmodel.paths import inside
from onmodel.report import evaluation_page, plots, tuning_page
from onmodel.report.board import board, missing, table_of
from onmodel.report.grid import build_grid, hero
from onmodel.report.history import choices, data_sets, merges, searches
from onmodel.report.lineage_svg import draw_lineage, facts
from onmodel.report.numbers import write_differences, write_looks, write_prompts, write_scores
from onmodel.report.pages import environment
from onmodel.report.pictures import Thumbnails
from onmodel.report.result import top_of
from onmodel.report.source import ReportSource, stage_of
from onmodel.report.verdict import comparisons, differences, verdict

__all__ = ["ReportSource", "build_report", "verdict", "write_summary"]

REPRODUCTION = "reproduction"
Write = Callable[[str, Mapping[str, object], str], None]  # template, page, file


def build_report(source: ReportSource, folder: Path) -> None:
    """Write `folder/index.html` and, for every evaluation and tuning, a page with its numbers as
    CSV beside it.

    Raises StateError when a picture that an evaluation names is missing; index.html is written
    last.
    """
    templates = environment()
    templates.globals["strip"] = plots.strip

    def write(template: str, page: Mapping[str, object], file: str) -> None:
        write_atomic(
            inside(folder, file, "stages"),
            templates.get_template(template).render(page=page).encode(),
        )

    thumbnails = Thumbnails(source.folders)
    for name in source.evaluations:
        _write_evaluation(source, name, thumbnails, folder, write)
    for name in _tunings(source):
        write("tuning.html.j2", tuning_page.page_of(source, name), tuning_page.file_of(name))
        write_looks(source.selections[name], inside(folder, tuning_page.csv_of(name), "stages"))
    write("report.html.j2", page_of(source, thumbnails), "index.html")


def _write_evaluation(
    source: ReportSource, name: str, thumbnails: Thumbnails, folder: Path, write: Write
) -> None:
    """The page of one evaluation, and its CSV files."""
    evaluation, about = source.evaluations[name], source.about(name)
    assert about.shown is not None
    found = differences(about)
    files = {
        what: inside(folder, file, "stages") for what, file in evaluation_page.files(name).items()
    }
    write_scores(evaluation, files["scores"])
    write_prompts(evaluation, files["prompts"])
    write_differences(found, evaluation, files["differences"])
    page = evaluation_page.page_of(about, thumbnails, found) | {"published": name == source.confirm}
    write("evaluation.html.j2", page, evaluation_page.file_of(name))


def write_summary(source: ReportSource, path: Path) -> None:
    """Write summary.json: the released model, seconds, every published number, and the verdict."""
    rows = []
    for row in source.measured.values():
        axes = {id: _score(score) for id, score in row.axes.items()}
        rows.append({"name": row.name, "epoch": row.epoch, "axes": axes})
    release = source.release.relative_to(source.project).as_posix() if source.release else None
    write_json(
        path,
        {
            "final": source.final,
            "release": release,
            "seconds": dict(source.seconds),
            "models": rows,
            "verdict": verdict(source),
        },
    )


def page_of(source: ReportSource, thumbnails: Thumbnails) -> dict[str, object]:
    """Everything that index.html shows, as plain values."""
    found = comparisons(source)
    page: dict[str, object] = {
        "title": source.title,
        "character": source.character,
        "final": source.final,
        "shown": source.shown,
        "shown_label": label(source.shown or ""),
        "models": {name: label(name) for name in source.measured},
        "hero": hero(source, thumbnails),
        "top": top_of(source, thumbnails),
        "sentences": verdict(source),
        "board": board(source, found),
        "evaluation": source.published_name,
        **table_of(source),
        "missing": missing(source),
        "grid": build_grid(source, thumbnails),
        "epochs": _epochs(source),
        **_scatters(source),
        "losses": _losses(source),
        "evaluations": _evaluations(source),
        "tunings": [
            {"label": label(name), "file": tuning_page.file_of(name)} for name in _tunings(source)
        ],
        "data": data_sets(source, thumbnails),
        "choices": choices(source),
        "merges": merges(source),
        "searches": searches(source),
        "lineage": draw_lineage(source.lineage) if source.lineage else None,
        "nodes": facts(source.lineage) if source.lineage else [],
        **_again(source),
    }
    page["contents"] = [
        (id, words)
        for id, words, there in (
            ("result", "What changed", True),
            ("table", "All models", page["table"]),
            ("charts", "Training", page["epochs"] or page["scatters"] or page["losses"]),
            ("pictures", "Pictures", page["grid"]),
            ("evaluations", "Evaluations", page["evaluations"] or page["tunings"]),
            ("data", "Data", page["data"]),
            ("choices", "Choices", page["choices"] or page["merges"]),
            ("lineage", "Lineage", page["lineage"]),
            ("again", "Do it again", True),
        )
        if there
    ]
    return page


def _score(score: AnyScore) -> dict[str, object]:
    if isinstance(score, NotMeasured):
        return {"value": None, "why": score.why}
    keys = ("value", "low", "high", "n", "arm", "signature")
    return {key: getattr(score, key) for key in keys}


def _evaluations(source: ReportSource) -> list[dict[str, object]]:
    """Every evaluation with its page, the published one first."""
    names = sorted(source.evaluations, key=lambda name: name != source.published_name)
    return [
        {
            "name": name,
            "file": evaluation_page.file_of(name),
            "facts": evaluation_page.facts(source.evaluations[name]),
            "published": name == source.confirm,
        }
        for name in names
    ]


def _tunings(source: ReportSource) -> list[str]:
    """The selections that measured several rounds."""
    return [name for name, selection in source.selections.items() if selection.rounds]


def _epochs(source: ReportSource) -> list[dict[str, object]]:
    """A block for every evaluation that looked at several checkpoints of a stage."""
    blocks: list[dict[str, object]] = []
    choosing = [name for name in source.evaluations if name != source.published_name]
    for name in choosing or source.evaluations:
        evaluation = source.evaluations[name]
        counts: dict[str, int] = {}
        for row in evaluation.models:
            if row.epoch is not None:
                counts[stage_of(row.name)] = counts.get(stage_of(row.name), 0) + 1
        stages = [stage for stage, count in counts.items() if count > 1]
        chosen = list(source.measured) if choosing else []
        drawn = {
            axis: plots.epochs(axis, evaluation, stages, chosen)
            for axis in evaluation.axes.values()
        }
        charts = [{"axis": axis, "svg": svg} for axis, svg in drawn.items() if svg]
        if charts:
            legend = [
                {"label": label(stage), "index": index % plots.COLOURS}
                for index, stage in enumerate(stages)
            ]
            blocks.append(
                {
                    "name": name,
                    "signature": evaluation.signature,
                    "stages": legend,
                    "charts": charts,
                }
            )
    return blocks


def _scatters(source: ReportSource) -> dict[str, object]:
    """Reproduction against every other axis, for every evaluation of at least two models."""
    shown: dict[str, Axis] = {}
    blocks, title = [], ""
    marked = [name for name in (source.shown, *source.earlier, *source.ancestors) if name]
    for name, evaluation in source.evaluations.items():
        axes = dict(evaluation.axes)
        up = axes.pop(REPRODUCTION, None)
        if up is None or len(evaluation.models) < 2:
            continue
        title, charts = up.heading, []
        for axis in sorted(
            axes.values(), key=lambda axis: axis.ideal
        ):  # biases, whose ideal is 0, come first
            svg = plots.scatter(axis, up, evaluation, marked)
            if svg:
                shown[axis.id] = axis
                charts.append({"axis": axis, "svg": svg, "first": axis.id == next(iter(shown))})
        if charts:
            blocks.append({"name": name, "charts": charts})
    return {"scatters": blocks, "scatter_axes": list(shown.values()), "scatter_title": title}


def _losses(source: ReportSource) -> list[dict[str, object]]:
    """A chart for every train stage that has rows."""
    drawn = {stage: plots.losses(stage, rows) for stage, rows in source.training.items()}
    return [{"label": label(stage), "svg": svg} for stage, svg in drawn.items() if svg]


def _again(source: ReportSource) -> dict[str, object]:
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
