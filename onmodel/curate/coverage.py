"""Coverage of a data set before training: weighted counts of attribute values, missing values,
associations between attributes and subsets, and colours outside the palette.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from onmodel.curate.findings import AuditFinding
from onmodel.curate.labels import Sight
from onmodel.curate.vocabulary import Vocabulary
from onmodel.evaluate.observers.colour import SECTORS

ASSOCIATED = 0.25  # Cramér's V, corrected, from which two attributes go together
CHANCE = 1e-3  # p of the chi-squared test, shared out over all tests (Bonferroni)
SKEWED = 2.5  # times its even share that one value takes of a subset
HUE, HUE_TIMES = (
    0.04,
    2.0,
)  # share of a subset's area in a hue outside the palette, and times the other subsets' share
FEWEST = 10  # labelled pictures of a subset before its shares are judged


@dataclass(frozen=True)
class CountedPicture:
    """A labelled picture as coverage counts it: its subset, its weight (repeats per epoch), and
    attribute → values."""

    subset: str
    weight: float
    values: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Coverage:
    """Of one attribute: weighted counts by value, all of them, and by subset; the effective number
    of values (the exponential of the entropy, Hill 1973) of `possible`; `silent` is the weight of
    the pictures without a value."""

    counts: Mapping[str, float]
    by_subset: Mapping[str, Mapping[str, float]]
    effective: float
    possible: int
    silent: float

    @property
    def never(self) -> list[str]:
        return [value for value, count in self.counts.items() if not count]


def count_picture(
    subset: str,
    weight: float,
    tags: Sequence[str],
    vocabulary: Vocabulary,
    design: Mapping[str, Sequence[str]],
) -> CountedPicture:
    """Count a picture by its tags; attributes without a tag have the design's values."""
    return CountedPicture(subset, weight, {**design, **vocabulary.said(tags)})


def coverage(pictures: Sequence[CountedPicture], vocabulary: Vocabulary) -> dict[str, Coverage]:
    """Attribute → its coverage, for attributes that at least one picture shows."""
    found = {}
    subsets = list(dict.fromkeys(picture.subset for picture in pictures))
    for attribute, values in vocabulary.attributes.items():
        counts = {value: 0.0 for value, tag in values.items() if tag}
        by_subset = {subset: dict(counts) for subset in subsets}
        silent = 0.0
        for picture in pictures:
            own = picture.values.get(attribute, ())
            silent += picture.weight * (not own)
            for value in own:
                counts[value] += picture.weight / len(own)
                by_subset[picture.subset][value] += picture.weight / len(own)
        if any(counts.values()):
            found[attribute] = Coverage(
                counts, by_subset, effective_number(list(counts.values())), len(counts), silent
            )
    return found


def effective_number(counts: Sequence[float]) -> float:
    """exp(entropy): how many equally frequent values would be as even."""
    shares = np.array([count for count in counts if count > 0], dtype=float)
    shares /= shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def cramers_v(table: np.ndarray) -> tuple[float, float]:
    """Association [0, 1] of a table of counts [a, b], corrected for bias (Bergsma 2013, J. Korean
    Stat. Soc.), and p.

    Rows and columns without counts are left out; a table of one row or column has none.
    """
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    rows, columns = table.shape
    n = table.sum()
    if min(rows, columns) < 2 or n < 2:
        return 0.0, 1.0
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n
    statistic = float(((table - expected) ** 2 / expected).sum())
    phi2 = max(0.0, statistic / n - (rows - 1) * (columns - 1) / (n - 1))
    least = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    from scipy.special import chdtrc

    tail = float(chdtrc((rows - 1) * (columns - 1), statistic))
    return float(np.sqrt(phi2 / least)) if least > 0 else 0.0, tail


def associations(
    pictures: Sequence[CountedPicture], vocabulary: Vocabulary, ones: Sequence[str] = ()
) -> list[tuple[str, str, float, float]]:
    """(attribute or "subset", attribute, V, p) for every pair, the strongest first, or those with
    one of `ones`.

    Pictures count once each.
    """
    columns: dict[str, list[str]] = {"subset": [picture.subset for picture in pictures]}
    for attribute in vocabulary.attributes:
        column = [(picture.values.get(attribute) or [""])[0] for picture in pictures]
        if len(set(column) - {""}) > 1:
            columns[attribute] = column
    rows = []
    for one, other in combinations(columns, 2):
        if ones and one not in ones:
            continue
        silent = {
            name: "" if name != "subset" else None for name in (one, other)
        }  # a subset may be called ""
        pairs = [
            (a, b)
            for a, b in zip(columns[one], columns[other], strict=True)
            if a != silent[one] and b != silent[other]
        ]
        if len(pairs) < FEWEST:
            continue
        (a, i), (b, j) = (
            np.unique(column, return_inverse=True) for column in zip(*pairs, strict=True)
        )
        table = np.zeros((len(a), len(b)))
        np.add.at(table, (i, j), 1)
        rows.append((one, other, *cramers_v(table)))
    return sorted(rows, key=lambda row: -row[2])


def audit_coverage(
    pictures: Sequence[CountedPicture],
    vocabulary: Vocabulary,
    free: Sequence[str],
    sectors: np.ndarray,
    sight: Sight | None = None,
) -> list[AuditFinding]:
    """Never shown, skewed, going together, and hues outside the palette. `sectors` [N, 12] of
    colour.py. The values of a vocabulary are called missing only where `sight`, when there is a
    tagger, confirms what the captions say of their attribute."""
    found = []
    for attribute, cover in coverage(pictures, vocabulary).items():
        if attribute not in free:
            continue
        if cover.never and (sight is None or sight.judges(attribute)):
            evidence = f"never shown: {', '.join(cover.never)}"
            found.append(AuditFinding("never shown", "warning", "", attribute, evidence))
        for subset, counts in cover.by_subset.items():
            value, most = max(counts.items(), key=lambda row: row[1])
            pieces = sum(
                picture.subset == subset and attribute in picture.values for picture in pictures
            )
            share = most / sum(counts.values()) if sum(counts.values()) else 0.0
            if pieces >= FEWEST and share >= min(0.9, SKEWED / cover.possible):
                evidence = (
                    f"{value} is {share:.0%} of it;"
                    f" {effective_number(list(counts.values())):.1f} of "
                )
                evidence += f"{cover.possible} values count"
                found.append(
                    AuditFinding("skewed subset", "warning", "", f"{subset}: {attribute}", evidence)
                )
    rows = [row for row in associations(pictures, vocabulary) if row[0] != "subset"]
    for subset in dict.fromkeys(picture.subset for picture in pictures):  # each against the others
        own = [
            replace(picture, subset=subset if picture.subset == subset else "")
            for picture in pictures
        ]
        rows += [(subset, *row[1:]) for row in associations(own, vocabulary, ("subset",))]
    for one, other, v, p in rows:
        if v >= ASSOCIATED and p <= CHANCE / max(1, len(rows)) and {one, other} & set(free):
            evidence = f"they go together: V = {v:.2f}; what one teaches, the other will show"
            found.append(AuditFinding("confound", "warning", "", f"{one} × {other}", evidence))
    return found + _hues(pictures, sectors)


def _hues(pictures: Sequence[CountedPicture], sectors: np.ndarray) -> list[AuditFinding]:
    """Hues outside the palette that one subset shows clearly more of than the others."""
    found = []
    weights = np.array([picture.weight for picture in pictures])
    for subset in dict.fromkeys(picture.subset for picture in pictures):
        own = np.array([picture.subset == subset for picture in pictures])
        if (
            own.sum() < FEWEST
            or (~own).sum() < FEWEST
            or not weights[own].sum()
            or not weights[~own].sum()
        ):
            continue
        mine, theirs = (
            np.average(sectors[part], axis=0, weights=weights[part]) for part in (own, ~own)
        )
        for hue, a, b in zip(SECTORS, mine, theirs, strict=True):
            if a >= HUE and a >= HUE_TIMES * max(b, 0.01):
                evidence = (
                    f"{a:.1%} of its area is {hue} outside the palette, of the other subsets'"
                    f" {b:.1%}"
                )
                found.append(
                    AuditFinding("unintended hue", "warning", "", f"{subset}: {hue}", evidence)
                )
    return found
