"""Groups of pictures that are the same picture: resaved, scaled, or moved by a pixel.

A perceptual hash alone cannot tell this for flat cartoon drawings: a move by one pixel changes more bits of it than
another expression does. So a hash only proposes pairs, and the place where two small versions differ most decides.
Measured on toon pictures of 96 px (`difference`, in levels of 256): saved as JPEG at quality 60 or 90, moved, doubled
in size: at most 45; another expression on the same drawing: at least 56 in portraits, and below 45 in one full body of
six, where a mouth is three pixels.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from PIL import Image, ImageFilter

from onmodel.dataset.buckets import flatten

SIDE = 96  # of the small versions that pairs are compared by
CELL = 2
SAME = 45.0
_MARGIN = 4  # pixels at the rim that are not compared: what a move brings in
_ASPECT = 1.03
BANDS = 8  # of 16 bits each
NEAR = 2 * BANDS - 1  # bits: two hashes this far apart differ by at most one bit in some band


@dataclass(frozen=True, slots=True)
class Small:
    """A small version [SIDE, SIDE, 3] of a picture, with the least and the greatest value around each pixel.

    The latter forgive a small move. `aspect` is width / height of the picture itself.
    """

    aspect: float
    pixels: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, image: Image.Image) -> "Small":
        small = flatten(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        around = small.filter(ImageFilter.MinFilter(3)), small.filter(ImageFilter.MaxFilter(3))
        versions = (np.asarray(version, dtype=np.int16) for version in (small, *around))
        return cls(image.width / image.height, *versions)


def group_duplicates(small: Sequence[Small]) -> list[int]:
    """A group number for each picture, from 0 in order of first appearance; same picture, same group."""
    parents = list(range(len(small)))

    def top(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    for a, b in _candidates([_hash(picture) for picture in small]):
        if top(a) != top(b) and _same(small[a], small[b]):
            parents[max(top(a), top(b))] = min(top(a), top(b))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(top(i), len(numbers)) for i in range(len(small))]


def difference(a: Small, b: Small) -> float:
    """How far the worst 2×2 pixels of two small versions lie outside what the other has within one pixel, 0…255."""
    outside = np.maximum(a.pixels - b.high, b.low - a.pixels), np.maximum(b.pixels - a.high, a.low - b.pixels)
    gap = np.maximum(*outside).clip(0)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].mean(axis=2)
    cells = (SIDE - 2 * _MARGIN) // CELL
    return float(gap.reshape(cells, CELL, cells, CELL).mean(axis=(1, 3)).max())


def _candidates(hashes: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Every pair at most NEAR bits apart, without comparing all pairs.

    Multi-index hashing (Norouzi, Punjani and Fleet 2012): in some band such a pair is equal or differs by one bit.
    """
    seen: set[tuple[int, int]] = set()
    for band in range(BANDS):
        table: dict[int, list[int]] = defaultdict(list)
        for i, bands in enumerate(hashes):
            table[int(bands[band])].append(i)
        for value, members in table.items():
            near = [j for bit in range(16) if value ^ 1 << bit > value for j in table.get(value ^ 1 << bit, ())]
            for pair in [*combinations(members, 2), *((min(i, j), max(i, j)) for i in members for j in near)]:
                if pair not in seen:
                    seen.add(pair)
                    if np.bitwise_count(hashes[pair[0]] ^ hashes[pair[1]]).sum() <= NEAR:
                        yield pair


def _hash(small: Small) -> np.ndarray:
    """128 bits as 8 numbers of 16: is each of 8×8 places brighter than its left and than its upper neighbour?"""
    grey = Image.fromarray(small.pixels.mean(axis=2).astype(np.uint8))
    across = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    down = np.asarray(grey.resize((8, 9), Image.Resampling.LANCZOS), dtype=np.int16)
    bits = np.concatenate([(across[:, 1:] > across[:, :-1]).ravel(), (down[1:] > down[:-1]).ravel()])
    return np.packbits(bits).view(np.uint16)


def _same(a: Small, b: Small) -> bool:
    return 1 / _ASPECT <= a.aspect / b.aspect <= _ASPECT and difference(a, b) <= SAME
