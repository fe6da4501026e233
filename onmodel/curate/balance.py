"""Repeats of subsets that bring what is shown near a target, and what each change costs. The person
decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from onmodel.curate.coverage import CountedPicture, effective_number
from onmodel.curate.vocabulary import Vocabulary
from onmodel.errors import InputError

MOST = 8  # repeats that are tried
EXHAUSTIVE = 200_000  # combinations up to which all are tried
# of the share of effective pictures that uneven repeats lose, against distances from targets
PRICE = 0.1


@dataclass(frozen=True)
class Balance:
    """A proposal. `distance`: half the sum of the differences from the target, of shares, averaged
    over attributes (0 is met, 1 is nothing in common); `effective` pictures are (Σw)² / Σw².
    `steps`: one repeat more or less of a subset → distance then."""

    repeats: Mapping[str, int]
    distance: float
    before: float
    effective: float
    steps: Mapping[str, float]
    shares: Mapping[str, Mapping[str, float]]


def balance(
    pictures: Sequence[CountedPicture],
    vocabulary: Vocabulary,
    targets: Mapping[str, Mapping[str, float]],
    now: Mapping[str, int],
) -> Balance:
    """The repeats (1 … MOST) whose shares come nearest to the targets: attribute → value → share
    (sums to 1).

    All combinations are tried where they are few; else one subset after another is bettered, from
    `now` on. Raises InputError for an attribute or a value that is unknown.
    """
    subsets = list(dict.fromkeys(picture.subset for picture in pictures))
    tables = []
    for attribute, target in targets.items():
        values = [value for value, tag in vocabulary.attributes.get(attribute, {}).items() if tag]
        unknown = [value for value in target if value not in values]
        if not values or unknown:
            known = ", ".join(values or vocabulary.attributes)
            raise InputError(
                "target", unknown[0] if values else attribute, f"unknown here; there are {known}"
            )
        counts = np.zeros((len(subsets), len(values)))
        for picture in pictures:
            own = picture.values.get(attribute, ())
            for value in own:
                counts[subsets.index(picture.subset), values.index(value)] += 1 / len(own)
        tables.append(
            (attribute, values, counts, np.array([target.get(value, 0.0) for value in values]))
        )
    sizes = np.array([sum(picture.subset == subset for picture in pictures) for subset in subsets])

    def distances(repeats: np.ndarray) -> np.ndarray:
        """Of rows [n, subsets]: the mean distance over the targets [n]; 0 without a target,
        as where every picture shows the same."""
        if not tables:
            return np.zeros(len(repeats))
        rows = []
        for _, _, counts, target in tables:
            shown = repeats @ counts
            rows.append(
                np.abs(shown / np.maximum(shown.sum(1, keepdims=True), 1e-9) - target).sum(1) / 2
            )
        return np.asarray(np.mean(rows, axis=0))

    def cost(repeats: np.ndarray) -> np.ndarray:
        lost = 1 - (repeats @ sizes) ** 2 / (repeats**2 @ sizes) / sizes.sum()
        return np.asarray(distances(repeats) + PRICE * lost)

    best = np.array([now.get(subset, 1) for subset in subsets], dtype=float)
    before = float(distances(best[None])[0])
    if MOST ** len(subsets) <= EXHAUSTIVE:
        every = np.array(list(product(range(1, MOST + 1), repeat=len(subsets))), dtype=float)
        best = every[cost(every).argmin()]
    else:
        while True:
            tried = np.repeat(best[None], MOST * len(subsets), axis=0)
            for i in range(len(subsets)):
                tried[i * MOST : (i + 1) * MOST, i] = np.arange(1, MOST + 1)
            costs = cost(tried)
            if costs.min() >= cost(best[None])[0] - 1e-12:
                break
            best = tried[costs.argmin()]
    divisor = int(np.gcd.reduce(best.astype(int)))
    best = best / divisor  # 2 and 4 show what 1 and 2 show
    steps = {}
    for i, subset in enumerate(subsets):
        for move in (-1, 1):
            other = best.copy()
            other[i] += move
            if 1 <= other[i] <= MOST:
                steps[f"{subset} × {int(other[i])}"] = float(distances(other[None])[0])
    shares = {}
    for attribute, values, counts, _ in tables:
        shown = best @ counts
        shares[attribute] = {
            v: float(n) for v, n in zip(values, shown / max(shown.sum(), 1e-9), strict=True)
        }
    return Balance(
        {subset: int(n) for subset, n in zip(subsets, best, strict=True)},
        float(distances(best[None])[0]),
        before,
        float((best @ sizes) ** 2 / (best**2 @ sizes)),
        steps,
        shares,
    )


def even_targets(
    pictures: Sequence[CountedPicture], vocabulary: Vocabulary, free: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Equal shares of every value that is shown at all, for the free attributes with two values or
    more."""
    targets = {}
    for attribute in free:
        shown = {value for picture in pictures for value in picture.values.get(attribute, ())}
        if len(shown) > 1:
            targets[attribute] = {value: 1 / len(shown) for value in sorted(shown)}
    return targets


def effective_of(shares: Mapping[str, float]) -> float:
    """How many values count, of an attribute's shares."""
    return effective_number(list(shares.values()))
