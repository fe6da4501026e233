"""Where the figure stands: its box, found as what differs from a background that is read off the borders.

Each row's background is interpolated between its left and right border, which follows skies and walls. Scenery in the
middle is taken for figure; that is composition too. Works best on drawings; it is no detector.
"""

import numpy as np
from PIL import Image

from onmodel.evaluate.observers.colour import to_lab

DIFFERENT = 15.0  # CIE76 distance from the background
EDGE = 0.06  # share of the width that is read as border
TAILS = (0.03, 0.97)  # the box holds this part of the figure's pixels in each direction


def figure_box(image: Image.Image) -> np.ndarray:
    """Centre x, centre y, size (root of the area), log of height over width; x, y and size in shares of the picture."""
    lab = to_lab(image)
    width = lab.shape[1]
    edge = max(1, round(EDGE * width))
    left, right = np.median(lab[:, :edge], axis=1), np.median(lab[:, -edge:], axis=1)
    across = np.linspace(0, 1, width)[None, :, None]
    figure = np.linalg.norm(lab - (left[:, None] * (1 - across) + right[:, None] * across), axis=-1) > DIFFERENT
    if figure.mean() < 0.01:  # one colour all over: the figure fills the picture, or there is none
        return np.array([0.5, 0.5, 1.0, 0.0], dtype=np.float32)
    (x0, x1), (y0, y1) = _extent(figure.sum(0)), _extent(figure.sum(1))
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, ((x1 - x0) * (y1 - y0)) ** 0.5, np.log((y1 - y0) / (x1 - x0))],
                    dtype=np.float32)  # fmt: skip


def _extent(counts: np.ndarray) -> tuple[float, float]:
    """The interval that holds the middle of a histogram, in shares of its length, at least one bin wide."""
    reached = np.cumsum(counts) / counts.sum()
    first, last = (int(np.searchsorted(reached, share)) for share in TAILS)
    return first / len(counts), (last + 1) / len(counts)
