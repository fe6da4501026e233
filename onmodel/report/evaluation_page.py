"""The page of one evaluation: what it found, where it fails first, what was asked and what was
seen, any two models."""

from collections.abc import Mapping, Sequence
from typing import Any

from onmodel.report import heat
from onmodel.report.board import board, missing, table_of
from onmodel.report.grid import build_grid
from onmodel.report.pictures import SMALL, Thumbnails
from onmodel.report.source import ReportSource, axes_of, label
from onmodel.report.svg import decimal
from onmodel.report.verdict import (
    WORDS,
    Comparison,
    comparisons,
    decided,
    enumerated,
    summary,
    verdict,
)
from onmodel.report.wheel import wheel

LEAST_REACH = (
    5.0  # percentage points of the hue wheel's ring, at least: smaller gains shall look small
)
EFFECT = {
    "better": "helps",
    "worse": "harms",
    "close": "too close to call",
}  # outcome → what a negative prompt does
REGIONS = {"whole": "whole picture", "background": "border (background, mostly)"}


def page_of(
    source: ReportSource,
    thumbnails: Thumbnails,
    differences: Mapping[tuple[str, str], Sequence[Comparison]],
) -> dict[str, Any]:
    """Everything that the template shows of `source.published`, as plain values."""
    evaluation, shown = source.published, source.shown
    assert evaluation is not None and shown is not None and source.published_name is not None
    found = comparisons(source)
    page: dict[str, Any] = {
        "title": source.title,
        "character": source.character,
        "evaluation": source.published_name,
        "facts": facts(evaluation),
        "files": files(source.published_name),
        "json": _relative(source),
        "shown": shown,
        "shown_label": label(shown),
        "models": {name: label(name) for name in source.measured},
        "summary": summary(found, shown),
        "sentences": verdict(source),
        "board": board(source, found),
        **table_of(source),
        "missing": missing(source),
        "grid": build_grid(source, thumbnails),
        "differences": {
            "axes": [axis.heading for axis in axes_of(evaluation)],
            "rows": _changes(differences),
        },
        "pulls": heat.pulls(evaluation["models"]),
        "matrices": _matrices(evaluation),
        **_colour(evaluation),
        "entangled": _entangled(evaluation),
        "negatives": _negatives(evaluation),
        "copies": _copies(source, thumbnails),
    }
    page["contents"] = [
        (id, words)
        for id, words, there in (
            ("result", "What changed", True),
            ("table", "All models", page["table"]),
            ("pictures", "Worst first", page["grid"]),
            ("two", "Two models", page["grid"]),
            ("style", "Style by subset", page["pulls"]),
            ("seen", "Asked and seen", page["matrices"]),
            ("colour", "Colour", page["wheels"]),
            ("entanglement", "Entanglement", page["entangled"]),
            ("negative", "Negative prompt", page["negatives"]),
            ("copies", "Nearest training pictures", page["copies"]),
        )
        if there
    ]
    return page


def facts(evaluation: Mapping[str, Any]) -> str:
    """How large the evaluation is and how it sampled, in words."""
    plan = evaluation["plan"]
    models, prompts, seeds = len(evaluation["models"]), len(plan["prompts"]), len(plan["seeds"])
    words = [
        _count(models, "model"),
        f"{_count(prompts, 'prompt')} of suite {plan['suite']}",
        _count(seeds, "seed"),
    ]
    if "steps" in plan:
        words.append(
            f"{plan['steps']} steps at guidance {plan['guidance']:g} and LoRA weight"
            f" {plan['weight']:g}"
        )
    return ", ".join(words)


def file_of(evaluation: str) -> str:
    """The page's file name."""
    return f"evaluation-{evaluation}.html"


def files(evaluation: str) -> dict[str, str]:
    """The CSV files beside the page: what they hold → name."""
    return {
        what: f"evaluation-{evaluation}-{what}.csv" for what in ("scores", "prompts", "differences")
    }


def _relative(source: ReportSource) -> str:
    """The stage's own JSON, from the folder of the pages."""
    return (
        (source.folders[source.published_name or ""] / "evaluation.json")
        .relative_to(source.project)
        .as_posix()
    )


def _changes(
    found: Mapping[tuple[str, str], Sequence[Comparison]],
) -> dict[str, dict[str, list[list[str]]]]:
    """Model → other → for each axis the outcome, its words and the change."""
    rows: dict[str, dict[str, list[list[str]]]] = {}
    for (model, against), line in found.items():
        rows.setdefault(model, {})[against] = [
            [one.outcome, WORDS[one.outcome], one.change] for one in line
        ]
    return rows


def _matrices(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For every judged attribute the matrix of each model, and that of the base with the
    description."""
    prompts, rows = evaluation["plan"]["prompts"], evaluation["models"]
    control = evaluation["controls"].get("D")
    return [
        {
            "attribute": attribute.replace("_", " "),
            "models": {row["name"]: heat.confusion(prompts, row, attribute) for row in rows},
            "control": heat.confusion(prompts, control, attribute) if control else None,
        }
        for attribute in heat.attributes(prompts, rows[0])
    ]


def _colour(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Wheels by region and the table by kind of prompt for every model; one reach for all, so that
    they compare."""
    found = {
        row["name"]: area
        for row in evaluation["models"]
        if (area := row["details"].get("colour_area"))
    }
    values = [
        abs(value)
        for area in found.values()
        for region in REGIONS
        for value in area[region].values()
    ]
    reach = max([LEAST_REACH, *values])
    wheels = {
        name: [
            {
                "words": words,
                "svg": wheel(f"unintended colour of {label(name)}, {words}", area[region], reach),
            }
            for region, words in REGIONS.items()
        ]
        for name, area in found.items()
    }
    prompts = evaluation["plan"]["prompts"]
    tables = {row["name"]: heat.hues(prompts, row, reach) for row in evaluation["models"]}
    return {"wheels": wheels, "hues": tables}


def _entangled(evaluation: Mapping[str, Any]) -> dict[str, heat.Heat]:
    """Model → its matrix, for the models that have one."""
    fault = evaluation["axes"].get("entanglement", {}).get("fault", 1.0)
    found = {row["name"]: heat.entangled(row, fault) for row in evaluation["models"]}
    return {name: table for name, table in found.items() if table}


def _negatives(evaluation: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Model → what its negative prompt does: a sentence, and a row for each axis. Empty where that
    was not measured."""
    found = {}
    for row in evaluation["models"]:
        told = row.get("negative", {}).get("effect", {})
        rows = []
        for axis in (axis for axis in axes_of(evaluation) if axis.id in told):
            one = told[axis.id]
            gain, low, high = (axis.record.fault * one[key] for key in ("gain", "low", "high"))
            change = decided(Comparison(axis, "", "close", gain, low, high), one["p"])
            rows.append(
                {
                    "axis": axis,
                    "outcome": change.outcome,
                    "words": EFFECT[change.outcome],
                    "change": change.change,
                    "without": axis.text(row["negative"]["without"][axis.id]["value"]),
                    "with": axis.text(row["axes"][axis.id]["value"]),
                    "remains": one["remains"],
                }
            )
        if rows:
            found[row["name"]] = {"rows": rows, "sentence": _effect(rows)}
    return found


def _effect(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a negative prompt does and what it leaves, in a sentence."""
    titles = {
        word: [row["axis"].short for row in rows if row["outcome"] == word] for word in EFFECT
    }
    cured = [row["axis"].short for row in rows if row["outcome"] == "better" and not row["remains"]]
    kept = [name for name in titles["better"] if name not in cured]
    parts = [f"helps {enumerated(kept)} without reaching the ideal there"] if kept else []
    parts += [f"brings {enumerated(cured)} to the ideal, as far as this can tell"] if cured else []
    parts += [f"harms {enumerated(titles['worse'])}"] if titles["worse"] else []
    return f"The negative prompt {'; '.join(parts) or 'changes no axis for certain'}."


def _copies(source: ReportSource, thumbnails: Thumbnails) -> dict[str, dict[str, Any]]:
    """Model → the generated pictures that are nearest to a training picture, beside it; highest
    similarity first."""
    evaluation, stage = source.published or {}, source.published_name or ""
    training = _training(source)
    found = {}
    for row in evaluation["models"]:
        told = row["details"].get("memorisation")
        if not told:
            continue
        pairs = [
            {
                "similarity": decimal(one["similarity"], 3),
                "over": one["similarity"] > told["threshold"],
                "prompt": one["prompt"],
                "seed": one["seed"],
                "training": one["training"],
                "made": thumbnails.encoded(
                    stage, row["pictures"]["L"][one["prompt"]][one["seed"]], SMALL
                ),
                "trained": thumbnails.encoded(*training[one["training"]], SMALL),
            }
            for one in told["nearest"]
            if one["training"] in training
        ]
        found[row["name"]] = {"threshold": decimal(told["threshold"], 3), "pairs": pairs}
    return found


def _training(source: ReportSource) -> dict[str, tuple[str, str]]:
    """Name of a training picture, as memorisation tells it → its stage and file."""
    stages = source.stages.get(source.published_name or "", {}).get("training", ())
    return {
        f"{item['subset']}/{item['image'].rpartition('/')[2]}": (stage, item["image"])
        for stage in stages
        for item in source.datasets[stage]["items"]
    }


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
