"""Buckets: the sizes that pictures are brought to so that they can share a batch, and the picture
brought to one."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from onmodel.dataset.pixels import WHITE, open_mask, open_picture
from onmodel.dataset.rules import DataConfig
from onmodel.errors import InputError

Size = tuple[int, int]  # (width, height) in pixels


@cache
def bucket_sizes(
    resolution: int, multiple: int, step: int | None = None, sides: Size | None = None
) -> list[Size]:
    """Sizes of about resolution² pixels with sides from half to double, or within `sides`, all
    multiples of `multiple`.

    Without `step` they are a sixteenth of the resolution apart: finer ones would leave nearly every
    picture alone in its bucket. Raises InputError when there is none.
    """
    step = step or max(multiple, resolution // 16 // multiple * multiple)
    shortest, longest = sides or (resolution // 2 // step * step, 2 * resolution)
    sizes = set()
    for side in range(
        max(step, math.ceil(shortest / step) * step), min(resolution, longest) + 1, step
    ):
        other = min(resolution * resolution // side, longest) // step * step
        sizes |= {(side, other), (other, side)}
    if not sizes:
        raise InputError(
            "bucket_sides", list(sides or ()), f"no bucket of {resolution}² pixels has such sides"
        )
    return sorted(sizes)


def nearest_bucket(width: int, height: int, sizes: Sequence[Size]) -> Size:
    """The size whose aspect ratio is nearest; among equals the larger one."""
    return min(
        sizes,
        key=lambda size: (
            abs(math.log(width / height * size[1] / size[0])),
            -size[0] * size[1],
            size,
        ),
    )


def bucket_of(width: int, height: int, resolution: int, rules: DataConfig, multiple: int) -> Size:
    """The size at which a picture is shown. One that is smaller than its bucket keeps its own size,
    rounded down."""
    if not rules.buckets:
        side = resolution if rules.enlarge else min(resolution, width, height)
        return side // multiple * multiple, side // multiple * multiple
    size = nearest_bucket(
        width, height, bucket_sizes(resolution, multiple, rules.bucket_step, rules.bucket_sides)
    )
    if rules.enlarge or (size[0] <= width and size[1] <= height):
        return size
    scale = min(1.0, resolution / math.sqrt(width * height))
    if rules.bucket_sides:
        scale = min(scale, rules.bucket_sides[1] / max(width, height))
    step = rules.bucket_step or max(multiple, resolution // 16 // multiple * multiple)
    return _rounded(width * scale, step, multiple), _rounded(height * scale, step, multiple)


def cut_away(width: int, height: int, size: Size) -> float:
    """The share of a picture's area that does not show at a size."""
    scale = enlargement(width, height, size)
    return max(0.0, 1 - size[0] * size[1] / (width * scale * height * scale))


def enlargement(width: int, height: int, size: Size) -> float:
    """How much a picture is scaled to cover a size."""
    return max(size[0] / width, size[1] / height)


def load_pixels(path: Path, size: Size, flip: bool = False, background: str = WHITE) -> np.ndarray:
    """A picture as it is shown (dataset/pixels.py), scaled to cover `size`, cut to it around its
    middle, mirrored.

    Returns float32 [3, height, width] in −1…1. Raises StateError when the file cannot be read.
    """
    image = open_picture(path, background)
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[:, :, :: -1 if flip else 1])


def load_weights(path: Path, alpha: bool, size: Size, downscale: int) -> np.ndarray:
    """What a mask weighs the loss of each latent by: 1 where it is white (or the picture opaque,
    with `alpha`), 0 where it is black or transparent. It is cut as its picture is, and each latent
    has the mean of its pixels.

    Returns float32 [height / downscale, width / downscale]. Raises StateError when the file cannot
    be read.
    """
    mask = open_mask(path, alpha).convert("F")
    small = ImageOps.fit(mask, (size[0] // downscale, size[1] // downscale), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def _rounded(side: float, step: int, multiple: int) -> int:
    """Down to a multiple of the step, or of `multiple` below one."""
    whole = int(side + 1e-6)
    return whole // step * step or max(multiple, whole // multiple * multiple)
