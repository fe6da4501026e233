"""Where the figure stands and how large it is, from the pixels that look like nothing on the
picture's border.

The border's colours are the background; what is far from all of them is figure. Place, size and
shape are moments of those pixels, since a box's edges jump with every star in the sky. Works best
on drawings; it is no detector.
"""

import numpy as np
from PIL import Image

from onmodel.evaluate.observers.colour import border_mask, to_lab

DIFFERENT = 10.0  # CIE76 distance from every colour of the border
STEP = 8.0  # resolution of the border's colours
FREQUENT = 0.004  # share of the border that a colour needs to be one of the background's
FEWEST = 0.01  # share of the picture below which there is no figure to measure


def figure_box(image: Image.Image) -> np.ndarray:
    """Centre x, centre y, size (root of the area), log of height over width; x, y and size in
    shares of the picture.

    Size and shape are those of the upright rectangle with the same spread of pixels.
    """
    lab = to_lab(image)
    height, width = lab.shape[:2]
    found, count = np.unique(
        np.round(lab[border_mask(height, width)] / STEP), axis=0, return_counts=True
    )
    background = found[count >= FREQUENT * count.sum()] * STEP
    distance = [np.linalg.norm(lab - colour, axis=-1) for colour in background]
    y, x = (
        np.nonzero(np.min(distance, axis=0) > DIFFERENT)
        if distance
        else np.nonzero(np.ones((height, width)))
    )
    if (
        len(x) < FEWEST * lab[..., 0].size
    ):  # one colour all over: the figure fills the picture, or there is none
        return np.array([0.5, 0.5, 1.0, 0.0], dtype=np.float32)
    wide, tall = (
        max(float(np.std(a)) * 12**0.5, 1.0) / side for a, side in ((x, width), (y, height))
    )
    centre = (x.mean() + 0.5) / width, (y.mean() + 0.5) / height
    return np.array([*centre, (wide * tall) ** 0.5, np.log(tall / wide)], dtype=np.float32)
