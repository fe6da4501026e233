"""A copy embedding from pixels: where which colours lie, coarsely. It finds a picture drawn again,
no style, no pose.

16 × 16 cells of mean L*a*b* without the picture's own mean, of unit length: a tint or another
resolution changes little. A copy that is mirrored, cropped or recoloured is missed, and two plain
pictures of one framing look much alike: only the agreement beyond what unrelated pictures reach
says anything (axes/memorisation.py).
"""

import numpy as np
from PIL import Image

CELLS = 16


def copy_embedding(image: Image.Image) -> np.ndarray:
    """Embedding [768] of an RGB picture; zeros when it is one colour all over."""
    from skimage.color import rgb2lab

    lab = rgb2lab(np.asarray(image.resize((CELLS, CELLS), Image.Resampling.BOX)))
    layout = (lab - lab.mean((0, 1))).ravel()
    return np.asarray(layout / max(float(np.linalg.norm(layout)), 1e-6), dtype=np.float32)
