"""Grain: how much noise lies on surfaces that should be smooth, in levels of grey.

The Laplacian difference mask of Immerkær (1996, "Fast Noise Variance Estimation") answers to neither flats nor slopes;
its median absolute answer, not the mean, leaves lines and texture out as long as they cover less than half.
"""

import numpy as np
from PIL import Image


def grain(image: Image.Image) -> np.ndarray:
    """Standard deviation of white noise [] that would give this answer, 0 for a clean drawing."""
    grey = np.asarray(image.convert("L"), dtype=np.float32)
    across = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    answer = across[:-2] - 2 * across[1:-1] + across[2:]
    return np.asarray(np.median(np.abs(answer)) / (6 * 0.6745), dtype=np.float32)
