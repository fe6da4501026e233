"""Grain: how much noise lies on surfaces that should be smooth, in levels of grey.

The Laplacian difference mask of Immerkær (1996, "Fast Noise Variance Estimation") answers to
neither flats nor slopes. Noise lies everywhere, texture and JPEG's waves beside lines do not: the
picture's smoothest tiles are asked, each by its median absolute answer. Tiles of pure white or
black, where noise is cut off, are not.
"""

import numpy as np
from PIL import Image

TILE = 12  # pixels
SMOOTHEST = 10  # percentile of the tiles
ANSWER = (
    6 * 0.6745 * 0.87
)  # of that tile to noise of deviation 1: norm of the mask, median of |N(0, 1)|, percentile
CLIPPED = 0.25  # share of white and black pixels above which a tile is left out


def grain(image: Image.Image) -> np.ndarray:
    """Standard deviation of white noise [] that would give this answer, 0 for a clean drawing."""
    grey = np.asarray(image.convert("L"), dtype=np.float32)
    across = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    answer = np.median(_tiles(np.abs(across[:-2] - 2 * across[1:-1] + across[2:])), axis=1)
    inner = grey[1:-1, 1:-1]
    whole = _tiles((inner == 0) | (inner == 255)).mean(1) <= CLIPPED
    smoothest = np.percentile(answer[whole] if whole.any() else answer, SMOOTHEST)
    return np.asarray(smoothest / ANSWER, dtype=np.float32)


def _tiles(picture_hw: np.ndarray) -> np.ndarray:
    """The pixels of each tile [tiles, pixels]; a smaller picture is one, and what is left at the
    edges is cut away."""
    height, width = picture_hw.shape
    side = min(TILE, height, width)
    rows, columns = height // side, width // side
    cut = picture_hw[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return cut.transpose(0, 2, 1, 3).reshape(rows * columns, side * side)
