"""The paired pictures: one row per prompt, one column per model or control, the same noise in a
row, worst prompts first.

The text under a picture lists what it missed: attributes where the tagger gives another value a
higher probability than the prompted one, and an identity similarity below the threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.evaluation import EvaluatedModel
from onmodel.evaluate.headlines import label
from onmodel.report.pictures import Thumbnails
from onmodel.report.source import ReportSource
from onmodel.sample.suites import Prompt

PAGE_PICTURES = 8_000_000  # characters of data URIs that the grid may add to the page
HERO = 8
WORDS_OF = {"R": "D", "Z": "L"}  # whose words a control without its own is asked in
UNKNOWN = -1.0  # badness of a prompt that an axis says nothing of: behind all others
FIRST = (
    "reproduction",
    "responsiveness",
)  # what makes a prompt the worst: another character, or not what was prompted
ARMS = {
    "N": "no trigger",
    "B": "base, same prompt",
    "D": "base, design in words",
    "R": "base, other noise",
    "Z": "null LoRA",
}


@dataclass(frozen=True)
class GridColumn:
    """One model under one arm."""

    label: str
    role: str
    arm: str
    row: EvaluatedModel


@dataclass(frozen=True)
class GridCell:
    """What one button shows; `uris` and `misses` (what that picture missed) one per seed; `model`
    for arm L."""

    label: str
    model: str | None
    role: str
    text: str
    scores: str
    uris: Sequence[str]
    misses: Sequence[str]


@dataclass(frozen=True)
class GridRow:
    """One prompt; `orders`: model → rank of the prompt (0 is worst) for each of the grid's
    `keys`."""

    id: str
    kind: str
    text: str
    orders: Mapping[str, Sequence[int]]
    cells: Sequence[GridCell]


@dataclass(frozen=True)
class Grid:
    """The whole section; `keys`: sort key → its words; `left_out` says what did not fit on the
    page."""

    rows: Sequence[GridRow]
    seeds: Sequence[int]
    kinds: Sequence[str]
    keys: Mapping[str, str]
    columns: Sequence[str]
    width: int
    height: int
    left_out: str


def build_grid(
    source: ReportSource, thumbnails: Thumbnails, budget: int = PAGE_PICTURES
) -> Grid | None:
    """Prompts worst first, as many seeds (then prompts) as `budget` bytes allow. None when nothing
    was generated."""
    evaluation, stage = source.published, source.published_name
    if evaluation is None or stage is None or source.shown is None:
        return None
    model = source.measured[source.shown]
    axes = [axis for axis in evaluation.axes.values() if model.values(axis.id)]
    prompts, all_seeds = evaluation.plan.prompts, evaluation.plan.seeds
    orders = {name: _orders(row, axes, prompts) for name, row in source.measured.items()}
    shown = orders[source.shown]
    worst_first = sorted(prompts, key=lambda prompt: shown[prompt.id]["asked"])
    columns = _columns(source)
    kept, seeds = _fit(stage, worst_first, columns, len(all_seeds), thumbnails, budget)
    keys = {
        "asked": "worst identity and prompt following",
        "overall": "worst over all axes",
        **{axis.id: f"worst {axis.short}" for axis in axes},
        "plan": "as planned",
    }
    rows = []
    for prompt in kept:
        places = {}
        for name, ranks in orders.items():
            places[name] = [ranks[prompt.id][key] for key in keys]
        cells = [_cell(stage, column, prompt, seeds, axes, thumbnails) for column in columns]
        rows.append(GridRow(prompt.id, prompt.kind, prompt.text["L"], places, cells))
    width, height = evaluation.plan.size
    kinds = list(dict.fromkeys(prompt.kind for prompt in kept))
    left_out = _left_out(len(kept), len(prompts), seeds, len(all_seeds))
    names = [column.label for column in columns]
    return Grid(rows, all_seeds[:seeds], kinds, keys, names, width, height, left_out)


def hero(source: ReportSource, thumbnails: Thumbnails) -> list[dict[str, object]]:
    """The shown model's best-scoring pictures, different kinds of prompts first."""
    evaluation, stage = source.published, source.published_name
    if evaluation is None or stage is None or source.shown is None:
        return []
    row = source.measured[source.shown]
    prompts = evaluation.plan.prompts
    orders = _orders(row, list(evaluation.axes.values()), prompts)
    best_first = sorted(prompts, key=lambda prompt: -orders[prompt.id]["overall"])
    turn: dict[str, int] = {}
    ranked = []
    for prompt in best_first:
        turn[prompt.kind] = turn.get(prompt.kind, 0) + 1
        ranked.append((turn[prompt.kind], prompt))
    chosen = [prompt for _, prompt in sorted(ranked, key=lambda pair: pair[0])][:HERO]
    width, height = evaluation.plan.size
    return [
        {
            "uri": thumbnails.encoded(stage, files[0]),
            "text": prompt.text["L"],
            "width": width,
            "height": height,
        }
        for prompt in chosen
        if (files := row.pictures.get("L", {}).get(prompt.id))
    ]


def _columns(source: ReportSource) -> list[GridColumn]:
    """Models in the evaluation's order with the shown one last; then it without trigger, then the
    controls."""
    models = sorted(source.measured.values(), key=lambda row: row.name == source.shown)
    columns = [GridColumn(label(row.name), "model", "L", row) for row in models[:-1]]
    columns.append(GridColumn(label(source.shown or ""), "final", "L", models[-1]))
    columns.append(
        GridColumn(f"{label(source.shown or '')}, {ARMS['N']}", "aside", "N", models[-1])
    )
    controls = sorted(source.published.controls.items() if source.published else ())
    for at, (arm, row) in enumerate((arm, row) for arm, row in controls if row.pictures.get(arm)):
        columns.append(GridColumn(ARMS[arm], "model" if at else "aside", arm, row))
    return columns


def _fit(
    stage: str,
    prompts: Sequence[Prompt],
    columns: Sequence[GridColumn],
    seeds: int,
    thumbnails: Thumbnails,
    budget: int,
) -> tuple[Sequence[Prompt], int]:
    """Which prompts and how many seeds fit into the budget: every prompt at one seed comes before a
    second seed."""
    total = 0
    for seed in range(seeds):
        for count, prompt in enumerate(prompts):
            files = [file for column in columns for file in _files(column, prompt)[seed : seed + 1]]
            total += sum(len(thumbnails.encoded(stage, file)) for file in files)
            if total > budget:
                return (prompts[: max(count, 1)], 1) if seed == 0 else (prompts, seed)
    return prompts, seeds


def _left_out(prompts: int, of_prompts: int, seeds: int, of_seeds: int) -> str:
    """What the page leaves out to stay small, as a sentence."""
    if prompts < of_prompts:
        return (
            f"To keep this page small, the {prompts} worst of {of_prompts} prompts are shown, at"
            " the first seed."
        )
    if seeds < of_seeds:
        return (
            f"To keep this page small, {seeds} of {of_seeds} seeds are shown; the rest lie in the"
            " project."
        )
    return ""


def _cell(
    stage: str,
    column: GridColumn,
    prompt: Prompt,
    seeds: int,
    axes: Sequence[Axis],
    thumbnails: Thumbnails,
) -> GridCell:
    scores = (
        [] if column.arm == "N" else _scores(column.row, axes, prompt.id)
    )  # the numbers are those of arm L
    files = _files(column, prompt)[:seeds]
    return GridCell(
        label=column.label,
        model=column.row.name if column.arm == "L" else None,
        role=column.role,
        text=prompt.text[WORDS_OF.get(column.arm, column.arm)],
        scores=" \N{MIDDLE DOT} ".join(f"{score['title']} {score['text']}" for score in scores),
        uris=[thumbnails.encoded(stage, file) for file in files],
        misses=[
            "" if column.arm == "N" else ", ".join(missed(column.row, prompt, seed))
            for seed in range(len(files))
        ],
    )


def missed(row: EvaluatedModel, prompt: Prompt, seed: int) -> list[str]:
    """What one picture missed: `smile → sad` where sad has the highest probability, `other
    character` where the identity similarity is below the threshold."""
    words = []
    for attribute, readings in row.answers.get(prompt.id, {}).items():
        asked = prompt.asked[attribute]
        likeliest = max(readings, key=lambda value: (readings[value][seed], value == asked))
        if likeliest != asked:
            words.append(f"{asked} \N{RIGHTWARDS ARROW} {likeliest}")
    identity = row.agreement
    agreement = identity.agreement.get(prompt.id) if identity else None
    if identity and agreement and agreement[seed] < identity.threshold:
        words.append("other character")
    return words


def _files(column: GridColumn, prompt: Prompt) -> Sequence[str]:
    files: Sequence[str] = column.row.pictures.get(column.arm, {}).get(prompt.id, ())
    return files


def _scores(row: EvaluatedModel, axes: Sequence[Axis], prompt: str) -> list[dict[str, str]]:
    return [
        {"title": axis.short, "text": axis.text(value)}
        for axis in axes
        if (value := row.values(axis.id).get(prompt)) is not None
    ]


def _orders(
    row: EvaluatedModel, axes: Sequence[Axis], prompts: Sequence[Prompt]
) -> dict[str, dict[str, int]]:
    """Rank of every prompt (0 is worst): per axis, as planned, and by mean relative cost over FIRST
    and all axes."""
    ids = [prompt.id for prompt in prompts]
    costs = {axis.id: badness(axis, row.values(axis.id)) for axis in axes}
    keys = {"asked": [id for id in costs if id in FIRST], "overall": list(costs)}
    joined: dict[str, dict[str, float]] = {key: {} for key in keys}
    for key, of in keys.items():
        for id in ids:
            joined[key][id] = _mean([costs[axis][id] for axis in of if id in costs[axis]])
    ranks: dict[str, dict[str, int]] = {id: {"plan": at} for at, id in enumerate(ids)}
    for key, values in {**joined, **costs}.items():
        for rank, id in enumerate(
            sorted(ids, key=lambda id: values.get(id, UNKNOWN), reverse=True)
        ):
            ranks[id][key] = rank
    return ranks


def badness(axis: Axis, values: Mapping[str, float]) -> dict[str, float]:
    """Cost of each prompt as a share 0..1 between the model's best and worst prompt on the axis."""
    costs = {id: axis.cost(value) for id, value in values.items()}
    low, high = min(costs.values(), default=0.0), max(costs.values(), default=0.0)
    return {id: (cost - low) / (high - low) if high > low else 0.0 for id, cost in costs.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else UNKNOWN
