"""The page of one evaluation: its result, the worst pictures, prompted and observed values, any two
models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.compare import LEVEL, WORDS, Comparison, Outcome, decided
from onmodel.evaluate.evaluation import FILE, EvaluatedModel, Evaluation, Score
from onmodel.evaluate.headlines import label
from onmodel.evaluate.observer_check import LEAST
from onmodel.report import heat
from onmodel.report.board import board, missing, table_of
from onmodel.report.grid import build_grid
from onmodel.report.pictures import SMALL, Thumbnails
from onmodel.report.result import top_of
from onmodel.report.source import ReportSource
from onmodel.report.verdict import comparisons, enumerated, verdict
from onmodel.report.wheel import wheel
from onmodel.text import decimal

LEAST_REACH = (
    5.0  # percentage points of the hue wheel's ring, at least: smaller gains shall look small
)
EFFECT: Mapping[Outcome, str] = {
    "better": "helps",
    "worse": "harms",
    "same": WORDS["same"],
    "open": WORDS["open"],
}  # outcome → what a negative prompt does
REGIONS = {"whole": "whole picture", "background": "border (background, mostly)"}


def page_of(
    source: ReportSource,
    thumbnails: Thumbnails,
    differences: Mapping[tuple[str, str], Sequence[Comparison]],
) -> dict[str, object]:
    """Everything that the template shows of `source.published`, as plain values."""
    evaluation, shown = source.published, source.shown
    assert evaluation is not None and shown is not None and source.published_name is not None
    found = comparisons(source)
    page: dict[str, object] = {
        "title": source.title,
        "character": source.character,
        "evaluation": source.published_name,
        "facts": facts(evaluation),
        "files": files(source.published_name),
        "json": _relative(source),
        "shown": shown,
        "shown_label": label(shown),
        "models": {name: label(name) for name in source.measured},
        "top": top_of(source, thumbnails),
        "sentences": verdict(source),
        "board": board(source, found),
        **table_of(source),
        "missing": missing(source),
        "grid": build_grid(source, thumbnails),
        "differences": {
            "axes": [axis.heading for axis in evaluation.axes.values()],
            "rows": _changes(differences),
        },
        "pulls": heat.pulls(evaluation.models),
        "matrices": _matrices(evaluation),
        **_colour(evaluation),
        "entangled": _entangled(evaluation),
        "negatives": _negatives(evaluation),
        "copies": _copies(source, thumbnails),
        "checks": check_rows(evaluation),
        "least": LEAST,
    }
    page["contents"] = [
        (id, words)
        for id, words, there in (
            ("result", "What changed", True),
            ("table", "All models", page["table"]),
            ("pictures", "Worst first", page["grid"]),
            ("two", "Two models", page["grid"]),
            ("style", "Style by subset", page["pulls"]),
            ("observers", "What the observers can read", page["checks"]),
            ("seen", "Asked and seen", page["matrices"]),
            ("colour", "Colour", page["wheels"]),
            ("entanglement", "Entanglement", page["entangled"]),
            ("negative", "Negative prompt", page["negatives"]),
            ("copies", "Nearest training pictures", page["copies"]),
        )
        if there
    ]
    return page


def facts(evaluation: Evaluation) -> str:
    """How large the evaluation is and how it sampled, in words."""
    plan = evaluation.plan
    words = [
        _count(len(evaluation.models), "model"),
        f"{_count(len(plan.prompts), 'prompt')} of suite {plan.suite}",
        _count(len(plan.seeds), "seed"),
        f"{plan.steps} steps of {plan.sampler} at guidance {plan.guidance:g} and LoRA weight"
        f" {plan.weight:g}",
    ]
    return ", ".join(words)


def file_of(evaluation: str) -> str:
    """The page's file name."""
    return f"evaluation-{evaluation}.html"


def files(evaluation: str) -> dict[str, str]:
    """The CSV files beside the page: what they hold → name."""
    return {
        what: f"evaluation-{evaluation}-{what}.csv" for what in ("scores", "prompts", "differences")
    }


def check_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """What each observer showed on pictures with known content, the worst first."""
    rows = sorted(evaluation.checks.values(), key=lambda one: (one.value or 0, one.subject))
    return [
        {
            "subject": one.subject.replace("_", " "),
            "value": "not known" if one.value is None else decimal(one.value, 2),
            "span": "" if one.value is None else f"{one.low:.2f}…{one.high:.2f}",
            "note": one.note,
            "measure": one.measure,
            "pictures": one.pictures,
            "source": one.source,
            "passed": one.passed,
        }
        for one in rows
    ]


def _relative(source: ReportSource) -> str:
    """The stage's own JSON, from the folder of the pages."""
    return (
        (source.folders[source.published_name or ""] / FILE).relative_to(source.project).as_posix()
    )


def _changes(
    found: Mapping[tuple[str, str], Sequence[Comparison]],
) -> dict[str, dict[str, list[list[str]]]]:
    """Model → other → for each axis the outcome, its words and the change."""
    rows: dict[str, dict[str, list[list[str]]]] = {}
    for (model, against), line in found.items():
        rows.setdefault(model, {})[against] = [[one.outcome, one.words, one.change] for one in line]
    return rows


def _matrices(evaluation: Evaluation) -> list[dict[str, object]]:
    """For every judged attribute the matrix of each model, and that of the base with the
    description."""
    prompts, rows = evaluation.plan.prompts, evaluation.models
    control = evaluation.controls.get("D")
    matrices: list[dict[str, object]] = []
    judged = [heat.attributes(prompts, row) for row in rows]
    for attribute in judged[0]:
        if not all(attribute in others for others in judged[1:]):
            continue
        matrices.append(
            {
                "attribute": attribute.replace("_", " "),
                "models": {row.name: heat.confusion(prompts, row, attribute) for row in rows},
                "control": heat.confusion(prompts, control, attribute) if control else None,
            }
        )
    return matrices


def _colour(evaluation: Evaluation) -> dict[str, object]:
    """Wheels by region and the table by kind of prompt for every model; one reach for all, so that
    they compare."""
    found = {
        row.name: {"whole": gain.whole, "background": gain.background}
        for row in evaluation.models
        if (gain := row.hue_gain)
    }
    values = [
        abs(value)
        for area in found.values()
        for region in area.values()
        for value in region.values()
    ]
    reach = max([LEAST_REACH, *values])
    wheels: dict[str, list[dict[str, object]]] = {}
    for name, area in found.items():
        for region, words in REGIONS.items():
            svg = wheel(f"unintended colour of {label(name)}, {words}", area[region], reach)
            wheels.setdefault(name, []).append({"words": words, "svg": svg})
    prompts = evaluation.plan.prompts
    tables = {row.name: heat.hues(prompts, row, reach) for row in evaluation.models}
    return {"wheels": wheels, "hues": tables}


def _entangled(evaluation: Evaluation) -> dict[str, heat.Heat]:
    """Model → its matrix, for the models that have one."""
    axis = evaluation.axes.get("entanglement")
    fault = axis.fault if axis else 1.0
    found = {row.name: heat.entangled(row, fault) for row in evaluation.models}
    return {name: table for name, table in found.items() if table}


@dataclass(frozen=True)
class NegativeRow:
    """What a model's negative prompt does to one axis; `words` and numbers as they are printed."""

    axis: Axis
    outcome: Outcome
    words: str
    change: str
    off: str
    on: str
    remains: bool


def _negatives(evaluation: Evaluation) -> dict[str, dict[str, object]]:
    """Model → what its negative prompt does: a sentence, and a row for each axis. Empty where that
    was not measured."""
    found: dict[str, dict[str, object]] = {}
    for model in evaluation.models:
        rows = _negative_rows(model, evaluation.axes.values()) if model.negative else []
        if rows:
            found[model.name] = {"rows": rows, "sentence": _effect(rows)}
    return found


def _negative_rows(model: EvaluatedModel, axes: Iterable[Axis]) -> list[NegativeRow]:
    assert model.negative is not None
    rows = []
    for axis in axes:
        one, off = model.negative.effect.get(axis.id), model.negative.without.get(axis.id)
        on = model.score(axis.id)
        if one is None or on is None or not isinstance(off, Score):
            continue
        gain, low, high = (axis.fault * x for x in (one.gain, one.low, one.high))
        whole = Comparison(axis, "", "open", gain, low, high)
        change = decided(whole, one.p, LEVEL, axis.noticed)  # of one file: no training between
        rows.append(
            NegativeRow(
                axis,
                change.outcome,
                EFFECT[change.outcome],
                change.change,
                off=axis.text(off.value),
                on=axis.text(on.value),
                remains=one.remains,
            )
        )
    return rows


def _effect(rows: Sequence[NegativeRow]) -> str:
    """What a negative prompt does and what it leaves, in a sentence."""
    better = [row for row in rows if row.outcome == "better"]
    cured = [row.axis.short for row in better if not row.remains]
    kept = [row.axis.short for row in better if row.remains]
    worse = [row.axis.short for row in rows if row.outcome == "worse"]
    parts = [f"helps {enumerated(kept)} without reaching the ideal there"] if kept else []
    parts += [f"brings {enumerated(cured)} to the ideal, as far as this can tell"] if cured else []
    parts += [f"harms {enumerated(worse)}"] if worse else []
    return f"The negative prompt {'; '.join(parts) or 'changes no axis for certain'}."


@dataclass(frozen=True)
class CopyPair:
    """A generated picture beside the training picture that is nearest to it; both as data URIs."""

    similarity: str
    over: bool
    prompt: str
    seed: int
    training: str
    made: str
    trained: str


@dataclass(frozen=True)
class CopyPairs:
    """The nearest pairs of one model, and the similarity above which a picture is a copy."""

    threshold: str
    pairs: Sequence[CopyPair]


def _copies(source: ReportSource, thumbnails: Thumbnails) -> dict[str, CopyPairs]:
    """Model → the generated pictures that are nearest to a training picture, beside it; highest
    similarity first."""
    evaluation, stage = source.published, source.published_name or ""
    training = _training(source)
    found = {}
    for model in evaluation.models if evaluation else ():
        copies = model.near_copies
        if copies is None:
            continue
        pairs = [
            CopyPair(
                similarity=decimal(one.similarity, 3),
                over=one.similarity > copies.threshold,
                prompt=one.prompt,
                seed=one.seed,
                training=one.training,
                made=thumbnails.encoded(stage, model.pictures["L"][one.prompt][one.seed], SMALL),
                trained=thumbnails.encoded(*training[one.training], SMALL),
            )
            for one in copies.nearest
            if one.training in training
        ]
        found[model.name] = CopyPairs(decimal(copies.threshold, 3), pairs)
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
