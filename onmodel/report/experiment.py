"""What each change of an experiment does: as typed rows, as JSON and CSV, and as a page."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.engine.effects import Effect, effects
from onmodel.engine.experiments import Experiment
from onmodel.engine.project import Project
from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.compare import Comparison
from onmodel.evaluate.evaluation import FILE, EvaluatedModel, Evaluation, read_evaluation
from onmodel.hashing import write_atomic, write_json
from onmodel.paths import inside
from onmodel.records import Artifact
from onmodel.report.board import cell
from onmodel.report.evaluation_page import facts
from onmodel.report.numbers import write_rows
from onmodel.report.pages import environment
from onmodel.report.pictures import encode
from onmodel.text import capital, decimal

PROMPTS_SHOWN = 8
COLUMNS = (
    "variant",
    "change",
    "axis",
    "gain",
    "low",
    "high",
    "p",
    "n",
    "floor",
    "unit",
    "outcome",
    "exploratory",
    "stopped",
)
RULE = (
    "Differences to the base, 95 % intervals over prompts; positive and right of the line is"
    " better. Better or worse: every training of the variant differs from every training of the"
    " base by the test that swaps prompts (p < 0.05 after adjustment), the interval leaves 0 out,"
    " and the difference is at least the floor: how far two trainings of the base lie apart, here"
    " or in other measurements (the axis' margin). Same: the interval lies within the floor. Open:"
    " neither. The questions ({questions}) are one family over all variants (Holm); the other axes"
    " are exploratory (Benjamini-Hochberg). Variants with other data are shown as many pictures as"
    " the base, so what is left out is replaced by the rest."
)
STOPPED = (
    " Variants that were stopped early have the numbers of the first prompts, are never called"
    " better or worse, and stay in their family."
)

ABSENT = "\N{EN DASH}"  # where a variant has no comparison
NO_EFFECT = {"outcome": "unavailable", "words": ABSENT, "strip": "", "change": "", "tip": ""}


@dataclass(frozen=True)
class MeasuredPictures:
    """A measured model with the folder of its pictures."""

    model: EvaluatedModel
    folder: Path

    def first(self, prompt: str) -> str:
        """The first picture of a prompt as a data URI; "" where there is none."""
        files = self.model.pictures.get("L", {}).get(prompt, ())
        return encode(self.folder / files[0]) if files else ""


@dataclass(frozen=True)
class ExperimentRow:
    """One axis: its floor, and variant → its comparison, where there is one."""

    axis: Axis
    floor: str
    comparisons: Mapping[str, Comparison]


@dataclass(frozen=True)
class ExperimentTable:
    """Axes × variants, the questions first; a sentence for each variant, and what to do next."""

    base: str
    variants: Sequence[str]
    rows: Sequence[ExperimentRow]
    sentences: Sequence[str]
    next_step: str


def experiment_table(
    found: Sequence[Effect], evaluation: Evaluation, experiment: Experiment
) -> ExperimentTable:
    """The effects as rows, in the axes' own units."""
    axes = sorted(evaluation.axes.values(), key=lambda axis: axis.id not in evaluation.questions)
    rows = []
    for axis in axes:
        own = [one for one in found if one.comparison.axis.id == axis.id]
        if own:
            floor = decimal(own[0].floor, axis.places)
            by_variant = {one.variant: one.comparison for one in own}
            rows.append(ExperimentRow(axis, floor, by_variant))
    return ExperimentTable(
        experiment.base[0],
        [variant.name for variant in experiment.compared],
        rows,
        sentences(found, experiment),
        next_step(found),
    )


def effect_rows(found: Sequence[Effect], experiment: Experiment) -> list[dict[str, object]]:
    """One row for each variant and axis, as JSON and CSV hold it; gains in the axis' unit."""
    words = {variant.name: variant.change.words for variant in experiment.variants}
    return [
        {
            "variant": one.variant,
            "change": words[one.variant],
            "axis": one.comparison.axis.id,
            "gain": one.comparison.gain,
            "low": one.comparison.low,
            "high": one.comparison.high,
            "p": one.comparison.p,
            "n": one.comparison.n,
            "floor": one.floor,
            "unit": one.comparison.axis.unit,
            "outcome": one.comparison.outcome,
            "exploratory": one.comparison.exploratory,
            "stopped": one.stopped,
        }
        for one in found
    ]


def as_dict(
    found: Sequence[Effect], evaluation: Evaluation, experiment: Experiment
) -> dict[str, object]:
    """What the JSON file holds."""
    return {
        "experiment": experiment.name,
        "signature": evaluation.signature,
        "questions": list(evaluation.questions),
        "base": list(experiment.base),
        "variants": {
            one.name: {
                "change": one.change.words,
                "stages": list(one.stages),
                "same_as": one.same_as,
            }
            for one in experiment.variants
        },
        "effects": effect_rows(found, experiment),
        "sentences": sentences(found, experiment),
        "next": next_step(found),
    }


def sentences(found: Sequence[Effect], experiment: Experiment) -> list[str]:
    """A sentence for each variant: what it makes better and worse."""
    lines = []
    for variant in experiment.variants:
        title = _title(variant.name, variant.change.words)
        if variant.same_as is not None:
            lines.append(f"{title}: the same settings as {variant.same_as}.")
            continue
        own = [one.comparison for one in found if one.variant == variant.name]
        parts = []
        for outcome in ("better", "worse"):
            named = [_named(one) for one in own if one.outcome == outcome]
            parts += [f"{outcome} {', '.join(named)}"] if named else []
        told = "; ".join(parts) or "changes no axis for certain"
        if any(one.stopped for one in found if one.variant == variant.name):
            told += f" (stopped after {own[0].prompts} prompts)"
        lines.append(f"{title}: {told}.")
    return lines


def next_step(found: Sequence[Effect]) -> str:
    """What to try next: what would settle the largest open effect on a question."""
    asked = [
        one for one in found if one.comparison.outcome == "open" and not one.comparison.exploratory
    ]
    if not asked:
        return "No question is open."
    largest = max(asked, key=lambda one: abs(one.faults))
    one = largest.comparison
    where = f"The largest open effect is {largest.variant} on {one.axis.short}, {one.change}"
    if abs(one.gain) <= largest.floor:
        floor = decimal(largest.floor, one.axis.places)
        trained = largest.floor > one.axis.margin
        what = "what another training changes" if trained else "the axis' margin"
        return f"{where}. It is within the floor of {floor}: no larger than {what}."
    return f"{where}: {one.settled_by}."


def write_page(
    table: ExperimentTable,
    experiment: Experiment,
    evaluation: Evaluation,
    pictures: Mapping[str, MeasuredPictures],
    path: Path,
) -> None:
    """Write the page. `pictures`: the measured stages with theirs."""
    rows = []
    for row in table.rows:
        found = row.comparisons
        reach = max(max(abs(one.low), abs(one.high)) for one in found.values()) or 1.0
        cells = [
            cell(found[name], reach) if name in found else NO_EFFECT for name in table.variants
        ]
        rows.append({"axis": row.axis, "floor": row.floor, "cells": cells})
    changes = {one.name: one.change.words for one in experiment.compared}
    columns = [(name, "" if _says_all(name, changes[name]) else changes[name]) for name in changes]
    questions = [evaluation.axes[id].short for id in evaluation.questions if id in evaluation.axes]
    page = {
        "contents": [("result", "Result"), ("pictures", "Pictures")],
        "name": experiment.name,
        "base": table.base,
        "character": experiment.recipe.character.name,
        "title": experiment.recipe.name,
        "facts": facts(evaluation),
        "twins": len(experiment.base) - 1,
        "replicates": max(len(one.stages) for one in experiment.compared),
        "files": [f"{path.stem}.json", f"{path.stem}.csv"],
        "report": (path.parent / "index.html").exists(),
        "variants": columns,
        "sentences": table.sentences,
        "next_step": table.next_step,
        "rows": rows,
        "pictures": _rows_of_pictures(experiment, evaluation, pictures),
        "rule": RULE.format(questions=", ".join(questions)) + (STOPPED if experiment.first else ""),
    }
    html = environment().get_template("experiment.html.j2").render(page=page)
    write_atomic(path, html.encode())


def publish_experiment(
    experiment: Experiment, project: Project, made: Mapping[str, Artifact]
) -> tuple[ExperimentTable, Path]:
    """Write the page of a finished experiment into the project's report, its JSON and CSV beside
    it. `made`: stage → what it made. Returns the table and the page's path."""
    looks = [made[stage].path for stage in (experiment.first, experiment.evaluation) if stage]
    *firsts, evaluation = [read_evaluation(folder / FILE) for folder in looks]
    found = effects(evaluation, experiment, *firsts)
    table = experiment_table(found, evaluation, experiment)
    path = inside(project.folder / "report", f"{file_of(experiment)}.html", "experiment")
    pictures = pictures_of(zip([*firsts, evaluation], looks, strict=True))
    with project.results():
        write_json(path.with_suffix(".json"), as_dict(found, evaluation, experiment))
        write_rows(path.with_suffix(".csv"), COLUMNS, effect_rows(found, experiment))
        write_page(table, experiment, evaluation, pictures, path)
    return table, path


def pictures_of(looks: Iterable[tuple[Evaluation, Path]]) -> dict[str, MeasuredPictures]:
    """Stage → its pictures in the last of the evaluations, each with its folder, that measured
    it."""
    return {
        row.name.partition("@")[0]: MeasuredPictures(row, folder)
        for evaluation, folder in looks
        for row in evaluation.models
    }


def file_of(experiment: Experiment) -> str:
    """The page's file name without its ending."""
    return f"experiment-{experiment.evaluation}"


def _title(name: str, words: str) -> str:
    """The change, with the variant's name where that says something else."""
    return capital(words) if _says_all(name, words) else f"{name} ({words})"


def _says_all(name: str, words: str) -> bool:
    return name == words.replace(" ", "_")


def _named(one: Comparison) -> str:
    mark = ", exploratory" if one.exploratory else ""
    return f"{one.axis.short} {one.change}{mark}"


def _rows_of_pictures(
    experiment: Experiment, evaluation: Evaluation, pictures: Mapping[str, MeasuredPictures]
) -> Sequence[Mapping[str, object]]:
    """Prompts spread over the plan: the picture of the base and of each variant from the same
    noise; "" where a variant was stopped before."""
    columns = {experiment.base[0]: pictures[experiment.base[0]]}
    columns |= {one.name: pictures[one.stages[0]] for one in experiment.compared}
    prompts = evaluation.plan.prompts
    step = max(1, len(prompts) // PROMPTS_SHOWN)
    rows = []
    for prompt in prompts[::step][:PROMPTS_SHOWN]:
        shown = [(name, own.first(prompt.id)) for name, own in columns.items()]
        if shown[0][1]:
            rows.append({"text": prompt.text["L"], "shown": shown})
    return rows
