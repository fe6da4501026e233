"""What the kept pictures show, as bars and tables whose parts filter the grid."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.curate.coverage import ASSOCIATED, CHANCE, associations, coverage
from onmodel.errors import InputError
from onmodel.studio.datasets import OpenDataset, opened_dataset
from onmodel.studio.render import character_of, fragment

SUBSET = "subset"
MOST_PAIRS = 12
USUAL = 0.05  # p, shared out over all pairs, above which a pair may go together by chance
SHADES = 5  # of the cells of a table
MOST_CELLS = 24  # rows or columns of a table


@dataclass(frozen=True)
class CountBar:
    """A number of kept pictures and the query that finds them. `size` is its part of the largest
    number: 0–100 of a bar, 0–SHADES of a table's cell."""

    label: str
    query: str
    pictures: int
    size: float


@dataclass(frozen=True)
class AttributeChart:
    """The values of an attribute. `effective` of `possible` values count, by exposures; `never`
    are not shown; `free`: prompts choose it."""

    name: str
    bars: Sequence[CountBar]
    effective: float
    possible: int
    never: Sequence[str]
    free: bool


@dataclass(frozen=True)
class PairBar:
    """Two attributes, or the subset and an attribute, and how strongly they go together (Cramér's
    V, 0–1). `chance`: so much is usual by chance. `confound`: the audit's thresholds are passed."""

    one: str
    other: str
    v: float
    chance: bool
    confound: bool


@dataclass(frozen=True)
class CrossTable:
    """Numbers of kept pictures by the values of two attributes: `rows` of one, `columns` of the
    other. `cells`: for each row the bars of its columns."""

    one: str
    other: str
    rows: Sequence[str]
    columns: Sequence[str]
    cells: Sequence[Sequence[CountBar]]


def attribute_charts(opened: OpenDataset) -> list[AttributeChart]:
    """A chart for each attribute that at least one kept picture shows, free ones first."""
    shown = opened.shown
    kept = [shown.counted[piece.name] for piece in opened.workshop.kept]
    numbers = Counter(
        value for piece in opened.workshop.kept for value in shown.by_picture[piece.name]
    )
    found = []
    for name, row in coverage(kept, shown.vocabulary).items():
        pictures = {value: numbers[f"{name}={value}".casefold()] for value in row.counts}
        pictures = {value: number for value, number in pictures.items() if number}
        most = max([*pictures.values(), numbers[f"{name}="]])
        ordered = sorted(pictures, key=lambda value: -pictures[value])
        bars = [_bar(value, _query(name, value), pictures[value], most) for value in ordered]
        if silent := numbers[f"{name}="]:
            bars.append(_bar("", _query(name, ""), silent, most))
        free = name in shown.free
        found.append(AttributeChart(name, bars, row.effective, row.possible, row.never, free))
    return sorted(found, key=lambda chart: not chart.free)


def pair_bars(opened: OpenDataset) -> list[PairBar]:
    """The pairs that go together most, the strongest first."""
    kept = [opened.shown.counted[piece.name] for piece in opened.workshop.kept]
    rows = associations(kept, opened.shown.vocabulary)
    tests, free = max(1, len(rows)), set(opened.shown.free)  # Bonferroni, as the audit does
    found = []
    for one, other, v, p in rows[:MOST_PAIRS]:
        confound = v >= ASSOCIATED and p <= CHANCE / tests and bool({one, other} & free)
        if v > 0:
            found.append(PairBar(one, other, v, p > USUAL / tests, confound))
    return found


def cross_table(opened: OpenDataset, one: str, other: str) -> CrossTable:
    """The kept pictures by the values of two attributes. Raises InputError for an unknown one."""
    known = opened.shown.vocabulary.attributes
    for name in (one, other):
        if name not in known and name != SUBSET:
            raise InputError("attribute", name, f"use {SUBSET}, {', '.join(known)}")
    pairs: Counter[tuple[str, str]] = Counter()
    for piece in opened.workshop.kept:
        values = opened.shown.counted[piece.name].values
        first, second = (
            (piece.subset,) if name == SUBSET else values.get(name, ()) for name in (one, other)
        )
        pairs.update(product(first, second))
    sums: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for pair, number in pairs.items():
        for values_of, value in zip(sums, pair, strict=True):
            values_of[value] += number
    rows, columns = ([value for value, _ in part.most_common(MOST_CELLS)] for part in sums)
    most = max(pairs.values(), default=1)
    cells = [
        [_cell((one, row), (other, column), pairs[row, column], most) for column in columns]
        for row in rows
    ]
    return CrossTable(one, other, rows, columns, cells)


def _cell(one: tuple[str, str], other: tuple[str, str], number: int, most: int) -> CountBar:
    query = " ".join(_term(*pair) for pair in (one, other))
    shade = round(SHADES * number / most + 0.49) if number else 0
    return CountBar(f"{one[1]}, {other[1]}", f"is:kept {query}", number, shade)


def _bar(label: str, query: str, pictures: int, most: int) -> CountBar:
    return CountBar(label, query, pictures, round(100 * pictures / most, 1))


def _query(attribute: str, value: str) -> str:
    return f"is:kept {_term(attribute, value)}"


def _term(attribute: str, value: str) -> str:
    key, text = (SUBSET, value) if attribute == SUBSET else ("shows", f"{attribute}={value}")
    return f'{key}:"{text}"' if " " in text else f"{key}:{text}"


def show(request: Request) -> Response:
    """Coverage of each attribute, and the pairs that go together."""
    opened = opened_dataset(request)
    values = {"charts": attribute_charts(opened), "pairs": pair_bars(opened)}
    return fragment(request, "coverage.html.j2", character=character_of(request), **values)


def cross(request: Request) -> Response:
    """The table of two attributes: query fields `one` and `other`."""
    one, other = (request.query_params.get(key, "") for key in ("one", "other"))
    table = cross_table(opened_dataset(request), one, other)
    return fragment(request, "cross_table.html.j2", table=table)


ROUTES = (
    Route("/c/{character}/data/coverage", show),
    Route("/c/{character}/data/cross", cross),
)
