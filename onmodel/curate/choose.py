"""Choose the best k of n pictures: sharp, on-model and diverse.

Greedy facility location: the sum over all pictures of the similarity to the nearest chosen one is
submodular, so the greedy choice reaches 1 − 1/e of the optimum (Nemhauser, Wolsey and Fisher 1978).
The merit of each chosen picture is added.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from onmodel.errors import InputError

NEIGHBOURHOOD = (
    0.5  # of the median distance: how near a chosen picture must be to stand for another
)


def likenesses(features: np.ndarray) -> np.ndarray:
    """exp(−(d / scale)²) [N, N] of features [N, F], each column scaled to unit spread; 1 is the
    same."""
    scaled = (features - features.mean(0)) / np.maximum(features.std(0), 1e-9)
    squared = ((scaled**2).sum(1)[:, None] + (scaled**2).sum(1)[None] - 2 * scaled @ scaled.T).clip(
        0
    )
    scale = (
        NEIGHBOURHOOD * float(np.median(np.sqrt(squared[np.triu_indices(len(squared), 1)]))) or 1.0
    )
    return np.exp(-squared / scale**2)


def choose_best(
    features: np.ndarray,
    merit: np.ndarray,
    groups: Sequence[int],
    count: int,
    spread: float = 1.0,
    labels: Sequence[frozenset[str]] = (),
    at_least: Mapping[str, int] | None = None,
    at_most: Mapping[str, int] | None = None,
) -> list[int]:
    """Indices of the chosen pictures, in the order of choice; at most one of each group of repeats.

    `features` [N, F] say what is alike, `merit` [N] 0…1 how good each picture is. With `spread` 0
    only merit counts. `labels` are what quotas speak of: at least, and at most, so many chosen
    pictures with a label. Raises InputError when quotas cannot be met or pictures are too few.
    """
    n = len(merit)
    least, most = dict(at_least or {}), dict(at_most or {})
    marks = list(labels) or [frozenset()] * n
    have = Counter(label for row in marks for label in row)
    for label, wanted in least.items():
        if have[label] < wanted or wanted > most.get(label, wanted):
            raise InputError(
                "quota",
                f"{label} ≥ {wanted}",
                f"{have[label]} pictures have it, at most "
                f"{most.get(label, have[label])} are wanted",
            )
    if len(set(groups)) < count:
        raise InputError(
            "count", count, f"only {len(set(groups))} pictures are not repeats of each other"
        )
    alike = likenesses(features)
    covered = np.zeros(n)
    chosen: list[int] = []
    used: set[int] = set()
    got: Counter[str] = Counter()
    while len(chosen) < count:
        missing = {
            label: wanted - got[label] for label, wanted in least.items() if got[label] < wanted
        }
        full = {label for label, number in most.items() if got[label] >= number}
        open_ = [i for i in range(n) if groups[i] not in used and not marks[i] & full]
        if missing and max(missing.values()) >= count - len(chosen):
            urgent = max(missing, key=lambda label: missing[label])
            open_ = [i for i in open_ if urgent in marks[i]]
        elif missing:
            open_ = [i for i in open_ if marks[i] & missing.keys()] or open_
        if not open_:
            raise InputError(
                "quota",
                f"{len(chosen)} of {count} chosen",
                "no picture is left that the quotas allow",
            )
        gain = np.maximum(alike[:, open_] - covered[:, None], 0).sum(0) / n
        best = open_[int(np.argmax(spread * gain + merit[open_] / count))]
        chosen.append(best)
        used.add(groups[best])
        got.update(marks[best])
        covered = np.maximum(covered, alike[:, best])
    return chosen
