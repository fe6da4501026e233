"""Colour from pixels in CIELAB: the average (a cast) and the area of each hue outside the
character's palette.

Hue sectors are twelve, 30° wide, centred at 0°, 30°, … in the a*b* plane, so yellow (90°, the +b*
axis) is one sector. A pixel counts as coloured from C* 18 and as outside the palette when it is
more than 10 CIEDE2000 from every colour of it. Regions are the whole picture and its border (the
background, mostly): no segmentation is pretended.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image

SECTORS = (
    "red",
    "orange",
    "amber",
    "yellow",
    "lime",
    "green",
    "teal",
    "cyan",
    "azure",
    "blue",
    "purple",
    "pink",
)
REGIONS = ("whole", "background")
CHROMA, OUTSIDE = 18.0, 10.0
SIDE = 128  # pictures are reduced to this side first: areas need no more
BORDER = 0.08  # share of the width on the left and right, of the height on top


def colours(image: Image.Image, palette: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Mean L*a*b* [2, 3] and share of pixels per hue sector outside `palette` [2, 12], for whole
    and background."""
    lab = to_lab(image)
    border = border_mask(*lab.shape[:2])
    mean = np.stack([lab.reshape(-1, 3).mean(0), lab[border].mean(0)])
    hue = hue_sectors(lab, palette)
    shares = np.stack(
        [
            np.bincount(region[region >= 0], minlength=12) / region.size
            for region in (hue.ravel(), hue[border])
        ]
    )
    return mean.astype(np.float32), shares.astype(np.float32)


def to_lab(image: Image.Image) -> np.ndarray:
    """L*a*b* [h, w, 3] of an RGB picture, reduced to at most SIDE pixels a side."""
    from skimage.color import rgb2lab

    factor = max(1, -(-max(image.size) // SIDE))
    return np.asarray(rgb2lab(np.asarray(image.reduce(factor))))


def hue_sectors(lab: np.ndarray, palette: Mapping[str, str]) -> np.ndarray:
    """Index of SECTORS for each pixel [h, w]; −1 where it is grey or of the palette."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    sector = np.round(np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) / 30).astype(int) % 12
    coloured = np.hypot(lab[..., 1], lab[..., 2]) >= CHROMA
    allowed = np.array([list(bytes.fromhex(value[1:])) for value in palette.values()], np.uint8)
    pixels = lab[coloured]
    if len(allowed) and len(pixels):
        # pixels of a drawing repeat: one distance for each colour at a resolution of 1 in L*, a*,
        # b*
        distinct, back = np.unique(np.round(pixels), axis=0, return_inverse=True)
        known = rgb2lab(allowed[None])[0]
        nearest = deltaE_ciede2000(distinct[:, None], known[None]).min(1)
        coloured[coloured] = (nearest > OUTSIDE)[back.reshape(-1)]
    return np.where(coloured, sector, -1)


def border_mask(height: int, width: int) -> np.ndarray:
    """True on the left, right and upper border; below stands the figure."""
    mask = np.zeros((height, width), dtype=bool)
    across, down = max(1, round(BORDER * width)), max(1, round(BORDER * height))
    mask[:, :across] = mask[:, -across:] = mask[:down] = True
    return mask
