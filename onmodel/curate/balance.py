"""Repeats of subsets that bring the shares of attributes near a target, and the effect of each
change. They are a proposal."""

from collections import Counter
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
    """Proposed repeats by subset.

    `distance`: half the sum of the differences between shares and target, averaged over attributes
    (0: met, 1: nothing in common); `before` is that of the present repeats. `effective` pictures
    are (Σw)² / Σw². `steps`: one repeat more or less of a subset → the distance then. `shares`:
    attribute → value → share.
    """

    repeats: Mapping[str, int]
    distance: float
    before: float
    effective: float
    steps: Mapping[str, float]
    shares: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class _Target:
    """The target of one attribute: shares [V] of its values, and counts [S, V] of the pictures of
    each subset with each value."""

    attribute: str
    values: Sequence[str]
    counts: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class _Mix:
    """What repeats of S subsets are judged by: the targets, and the sizes [S] of the subsets."""

    targets: Sequence[_Target]
    sizes: np.ndarray

    def distances(self, repeats: np.ndarray) -> np.ndarray:
        """Of rows [n, S]: the mean distance over the targets [n]; 0 without a target, as where
        every picture shows the same."""
        if not self.targets:
            return np.zeros(len(repeats))
        rows = []
        for target in self.targets:
            shown = repeats @ target.counts
            total = np.maximum(shown.sum(1, keepdims=True), 1e-9)
            rows.append(np.abs(shown / total - target.shares).sum(1) / 2)
        return np.asarray(np.mean(rows, axis=0))

    def distance(self, repeats: np.ndarray) -> float:
        """The distance of one row [S]."""
        return float(self.distances(repeats[None])[0])

    def cost(self, repeats: np.ndarray) -> np.ndarray:
        """Of rows [n, S]: distance and the price of uneven repeats [n]."""
        lost = 1 - (repeats @ self.sizes) ** 2 / (repeats**2 @ self.sizes) / self.sizes.sum()
        return np.asarray(self.distances(repeats) + PRICE * lost)


def balance(
    pictures: Sequence[CountedPicture],
    vocabulary: Vocabulary,
    targets: Mapping[str, Mapping[str, float]],
    now: Mapping[str, int],
) -> Balance:
    """The repeats (1 … MOST) whose shares are nearest to the targets: attribute → value → share
    (sums to 1).

    All combinations are tried where they are few; otherwise one subset after another is improved,
    starting from `now`. Raises InputError for an unknown attribute or value.
    """
    subsets = list(dict.fromkeys(picture.subset for picture in pictures))
    rows = [_target(*row, pictures, subsets, vocabulary) for row in targets.items()]
    pictures_in = Counter(picture.subset for picture in pictures)
    mix = _Mix(rows, np.array([pictures_in[subset] for subset in subsets]))
    start = np.array([now.get(subset, 1) for subset in subsets], dtype=float)
    best = _best_of_all(mix) if MOST ** len(subsets) <= EXHAUSTIVE else _improved(mix, start)
    best = best / int(np.gcd.reduce(best.astype(int)))  # 2 and 4 show what 1 and 2 show
    return Balance(
        {subset: int(n) for subset, n in zip(subsets, best, strict=True)},
        mix.distance(best),
        mix.distance(start),
        float((best @ mix.sizes) ** 2 / (best**2 @ mix.sizes)),
        _steps(mix, best, subsets),
        {target.attribute: _shares(target, best) for target in mix.targets},
    )


def _target(
    attribute: str,
    target: Mapping[str, float],
    pictures: Sequence[CountedPicture],
    subsets: Sequence[str],
    vocabulary: Vocabulary,
) -> _Target:
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
    shares = np.array([target.get(value, 0.0) for value in values])
    return _Target(attribute, values, counts, shares)


def _best_of_all(mix: _Mix) -> np.ndarray:
    """The best repeats [S] of all combinations."""
    every = np.array(list(product(range(1, MOST + 1), repeat=len(mix.sizes))), dtype=float)
    return np.asarray(every[mix.cost(every).argmin()])


def _improved(mix: _Mix, start: np.ndarray) -> np.ndarray:
    """Repeats [S] that no change of a single subset improves, found from `start` on."""
    best, subsets = start, len(start)
    while True:
        tried = np.repeat(best[None], MOST * subsets, axis=0)
        for i in range(subsets):
            tried[i * MOST : (i + 1) * MOST, i] = np.arange(1, MOST + 1)
        costs = mix.cost(tried)
        if costs.min() >= mix.cost(best[None])[0] - 1e-12:
            return best
        best = tried[costs.argmin()]


def _steps(mix: _Mix, best: np.ndarray, subsets: Sequence[str]) -> dict[str, float]:
    """One repeat more or less of a subset → the distance then."""
    steps = {}
    for i, subset in enumerate(subsets):
        for move in (-1, 1):
            other = best.copy()
            other[i] += move
            if 1 <= other[i] <= MOST:
                steps[f"{subset} × {int(other[i])}"] = mix.distance(other)
    return steps


def _shares(target: _Target, repeats: np.ndarray) -> dict[str, float]:
    """Value → its share with these repeats [S]."""
    shown = repeats @ target.counts
    shares = shown / max(shown.sum(), 1e-9)
    return {value: float(n) for value, n in zip(target.values, shares, strict=True)}


def even_targets(
    pictures: Sequence[CountedPicture], vocabulary: Vocabulary, free: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Equal shares of all values that occur, for the free attributes with at least two of them."""
    targets = {}
    for attribute in free:
        shown = {value for picture in pictures for value in picture.values.get(attribute, ())}
        if len(shown) > 1:
            targets[attribute] = {value: 1 / len(shown) for value in sorted(shown)}
    return targets


def effective_of(shares: Mapping[str, float]) -> float:
    """The effective number of values of an attribute's shares."""
    return effective_number(list(shares.values()))
