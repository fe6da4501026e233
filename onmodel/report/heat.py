"""Tables with cells shaded by their number: prompted against observed, style by subset, hues by
kind of prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from onmodel.evaluate.evaluation import EvaluatedModel
from onmodel.evaluate.headlines import label
from onmodel.evaluate.observers.colour import SECTORS
from onmodel.sample.suites import Prompt
from onmodel.text import decimal

FAINT = 0.5  # percentage points that are not worth a shade


@dataclass(frozen=True)
class HeatCell:
    """`shade` is −1…1, the share of the scale's reach; `marked` is the diagonal. No text where
    nothing is known."""

    text: str
    shade: float
    marked: bool = False


@dataclass(frozen=True)
class HeatRow:
    """`count`: prompts behind the row."""

    label: str
    count: int
    cells: Sequence[HeatCell]


@dataclass(frozen=True)
class Heat:
    """One table."""

    columns: Sequence[str]
    rows: Sequence[HeatRow]


def pulls(models: Sequence[EvaluatedModel]) -> Heat | None:
    """Model × training subset: the share of the way to the subset's style that unstyled pictures
    went; None without training pictures. A subset that is drawn as the base draws has no way to go,
    and no number."""
    found = {row.name: row.style_pull.pull_by_subset for row in models if row.style_pull}
    subsets = list(dict.fromkeys(subset for row in found.values() for subset in row))
    rows = []
    for name, row in found.items():
        if row:
            rows.append(HeatRow(label(name), 0, [_pull(row.get(subset)) for subset in subsets]))
    return Heat(subsets, rows) if rows else None


def _pull(share: float | None) -> HeatCell:
    return (
        HeatCell("", 0.0)
        if share is None
        else HeatCell(decimal(share, 2), max(-1.0, min(1.0, share)))
    )


def attributes(prompts: Sequence[Prompt], row: EvaluatedModel) -> list[str]:
    """The attributes that were judged with at least two asked values, expression, framing and view
    first."""
    asked: dict[str, set[str]] = {}
    for prompt in prompts:
        for attribute in row.answers.get(prompt.id, {}):
            asked.setdefault(attribute, set()).add(prompt.asked[attribute])
    first = ("expression", "framing", "view")
    found = [name for name, values in asked.items() if len(values) > 1]
    return sorted(
        found, key=lambda name: (first.index(name) if name in first else len(first), name)
    )


def confusion(prompts: Sequence[Prompt], row: EvaluatedModel, attribute: str) -> Heat:
    """Asked value × seen value: the mean probability over the prompts that ask it, each the mean
    over its seeds."""
    found = confusions(prompts, row, attribute)
    columns = list(next(iter(found.values()))[1])
    rows = []
    for asked, (count, means) in found.items():
        cells = [HeatCell(decimal(value, 2), value, seen == asked) for seen, value in means.items()]
        rows.append(HeatRow(asked, count, cells))
    return Heat(columns, rows)


def confusions(
    prompts: Sequence[Prompt], row: EvaluatedModel, attribute: str
) -> dict[str, tuple[int, dict[str, float]]]:
    """Asked value → prompts that ask it, and seen value → mean probability."""
    readings: dict[str, list[dict[str, float]]] = {}
    order: list[str] = []
    for prompt in prompts:
        answer = row.answers.get(prompt.id, {}).get(attribute)
        if answer:
            order = list(answer)
            means = {value: sum(seeds) / len(seeds) for value, seeds in answer.items()}
            readings.setdefault(prompt.asked[attribute], []).append(means)
    found: dict[str, tuple[int, dict[str, float]]] = {}
    for asked in order:
        if rows := readings.get(asked):
            found[asked] = (len(rows), {})
            for seen in order:
                found[asked][1][seen] = _mean([row[seen] for row in rows])
    return found


def entangled(row: EvaluatedModel, fault: float) -> Heat | None:
    """Asked attribute × open attribute: the shift beyond the base's; a whole `fault` is the darkest
    shade."""
    if row.entangled is None or not row.entangled.matrix:
        return None
    matrix = row.entangled.matrix
    names = list(matrix)
    rows = []
    for asked in names:
        cells = [_shift(matrix[asked].get(name), fault) for name in names]
        rows.append(HeatRow(_words(asked), 0, cells))
    return Heat([_words(name) for name in names], rows)


def hues(prompts: Sequence[Prompt], row: EvaluatedModel, reach: float) -> Heat | None:
    """Kind of prompt × hue: mean percentage points of the picture gained over the base; `reach` is
    darkest."""
    if row.hue_gain is None or not row.hue_gain.prompts:
        return None
    by_prompt = row.hue_gain.prompts
    kinds: dict[str, list[Sequence[float]]] = {}
    for prompt in prompts:
        if prompt.id in by_prompt:
            kinds.setdefault(prompt.kind, []).append(by_prompt[prompt.id]["whole"])
    rows = []
    for kind, found in kinds.items():
        means = [_mean(column) for column in zip(*found, strict=True)]
        rows.append(HeatRow(kind, len(found), [_points(value, reach) for value in means]))
    return Heat(SECTORS, rows)


def _shift(value: float | None, fault: float) -> HeatCell:
    return (
        HeatCell("", 0.0)
        if value is None
        else HeatCell(decimal(value, 2, signed=True), _clipped(value / fault))
    )


def _points(value: float, reach: float) -> HeatCell:
    return HeatCell(
        decimal(value, 1, signed=True), _clipped(value / reach) if abs(value) >= FAINT else 0.0
    )


def _clipped(value: float) -> float:
    return round(max(-1.0, min(1.0, value)), 2)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
