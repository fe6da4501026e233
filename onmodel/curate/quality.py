"""Quality of pictures: blur, frames and colour casts, measured in a way that suits flat drawings.
Each value is compared with those of the other pictures of the set.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from onmodel.curate.findings import AuditFinding, Fix

SIDE = 512  # pictures are reduced to about this side first
SHARPEST = 0.01  # share of the pixels that tell how sharp the edges are
EXTREME = 0.02  # share of the pixels that are the lightest, or the darkest
BLURRED = 0.7  # of the set's median sharpness
FEWEST = 12  # pictures that are compared with each other
COOL = 0.02  # share of the pixels that are the bluest, or the yellowest
CAST, LEAST_CAST = (
    7.0,
    4.0,
)  # b* (CIELAB) that the lightest pixels are off the others', and the darkest and bluest
FRAME, STEP = (
    0.9,
    30.0,
)  # share of a side along which the frame's inner edge runs; levels that it jumps


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one picture: `sharpness` 0…1 (a one-pixel edge is 1), `light` and `dark` L*a*b* of the
    lightest and darkest pixels, `reach` the least and the greatest b* (but for the utmost), `frame`
    the share of the picture that a plain frame takes."""

    width: int
    height: int
    sharpness: float
    light: tuple[float, float, float]
    dark: tuple[float, float, float]
    reach: tuple[float, float]
    frame: float

    @classmethod
    def of(cls, image: Image.Image) -> "Quality":
        """Measure an RGB picture."""
        small = image.reduce(max(1, max(image.size) // SIDE))
        grey = np.asarray(small.convert("L"), dtype=np.int16)
        lab = _lab(small)
        return cls(*image.size, _sharpness(grey), *_extremes(lab), _reach(lab), _frame(grey))


def _sharpness(grey: np.ndarray) -> float:
    """Steepest slopes against those of the picture at half size: an edge keeps its height when a
    sharp picture shrinks, a blurred one grows twice as steep."""
    half = grey[: len(grey) // 2 * 2, : grey.shape[1] // 2 * 2]
    quarters = half.reshape(len(half) // 2, 2, -1, 2).sum(axis=(1, 3))
    fine, coarse = _steepest(grey), _steepest(quarters) / 4
    return float(min(1.0, fine / coarse)) if coarse > 1 else 1.0


def _steepest(grey: np.ndarray) -> float:
    """The mean of the steepest slopes of whole levels. Counted: a tenth of the time of a
    partition."""
    slopes = np.abs(np.diff(grey, axis=1)).ravel()
    count = max(1, int(SHARPEST * slopes.size))
    numbers = np.bincount(slopes)[::-1]
    taken = np.diff(np.minimum(numbers.cumsum(), count), prepend=0)
    total = taken @ np.arange(len(numbers))[::-1]
    return float(np.float32(total) / np.float32(count))


def _lab(image: Image.Image) -> np.ndarray:
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(np.asarray(image.reduce(max(1, max(image.size) // 128)))))


def _extremes(lab: np.ndarray) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    pixels = lab.reshape(-1, 3)
    count = max(1, int(EXTREME * len(pixels)))
    order = np.argpartition(pixels[:, 0], (count, len(pixels) - count))
    light, dark = (
        np.median(pixels[part], axis=0).tolist() for part in (order[-count:], order[:count])
    )
    return tuple(light), tuple(dark)


def _reach(lab: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(lab[..., 2], (COOL, 1 - COOL)).tolist()
    return low, high


def _frame(grey: np.ndarray) -> float:
    """The share of the picture in bars above and below, or left and right, that end in a straight
    edge."""
    best = 0.0
    for view in (grey, grey.T):
        bars = [_bar(side) for side in (view, view[::-1])]
        if all(bars):
            best = max(best, sum(bars) / len(view))
    return best


def _bar(grey: np.ndarray) -> int:
    """Rows of one colour before an edge that runs along nearly the whole side; 0 without."""
    plain = (np.abs(grey - grey[0, 0]).max(axis=1) < 12)[: len(grey) // 3]
    rows = len(plain) if plain.all() else int(plain.argmin())
    if rows < 2 or rows == len(plain):
        return 0
    return rows if (np.abs(grey[rows + 1] - grey[rows - 1]) > STEP).mean() >= FRAME else 0


def audit_quality(
    names: Sequence[str], quality: Sequence[Quality], kinds: Mapping[str, str]
) -> list[AuditFinding]:
    """Findings about blur, frames and colour casts. `kinds`: picture → `style/framing/background`;
    casts are judged within a kind: a pastel has no black, a night scene no white."""
    found: list[AuditFinding] = []
    sharp = np.array([row.sharpness for row in quality])
    usual = float(np.median(sharp)) if len(sharp) else 1.0
    for name, row in zip(names, quality, strict=True):
        if row.sharpness < BLURRED * usual:
            evidence = f"its edges are {row.sharpness / usual:.0%} as sharp as the set's"
            found.append(
                AuditFinding("blurred", "warning", name, "sharpness", evidence, Fix(aside=True))
            )
        if row.frame:
            evidence = f"a frame takes {row.frame:.0%} of it; cut it away"
            found.append(AuditFinding("frame", "warning", name, "frame", evidence))
    return found + _casts(names, quality, kinds)


def alike(kinds: Sequence[str]) -> np.ndarray:
    """Names of groups [N] to compare within: `a/b/c` where FEWEST pictures are, else `a/b`, else
    `a`, else all."""
    names = list(kinds)
    for _ in range(1 + max((kind.count("/") for kind in names), default=0)):
        counts = Counter(names)
        names = [kind if counts[kind] >= FEWEST else kind.rpartition("/")[0] for kind in names]
    return np.array(names, dtype=object)


def _casts(
    names: Sequence[str], quality: Sequence[Quality], kinds: Mapping[str, str]
) -> list[AuditFinding]:
    """Findings about colour casts. Drawings have white and black areas: where the lightest, the
    darkest and the bluest (or yellowest) pixels all differ from the kind's median in one direction,
    the whole picture has a cast, not one coloured object."""
    found = []
    groups = alike([kinds.get(name, "") for name in names])
    b = np.array([[row.light[2], row.dark[2], *row.reach] for row in quality]).reshape(-1, 4)
    for kind in dict.fromkeys(groups.tolist()):
        own = groups == kind
        shift = b - np.median(b[own], axis=0)
        for i in np.flatnonzero(own).tolist():
            light, dark, least, most = shift[i].tolist()
            for colour, sign, last in (("yellow", 1, least), ("blue", -1, most)):
                if sign * light >= CAST and min(sign * dark, sign * last) >= LEAST_CAST:
                    evidence = (
                        f"lightest, darkest and last pixels lie {light:+.0f}, {dark:+.0f},"
                        f" {last:+.0f} b* off"
                    )
                    found.append(
                        AuditFinding(
                            f"{colour} cast", "warning", names[i], colour, evidence, Fix(aside=True)
                        )
                    )
    return found
