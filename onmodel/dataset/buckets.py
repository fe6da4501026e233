"""Buckets: the sizes that pictures are brought to so that they can share a batch, and the picture brought to one."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from onmodel.errors import StateError

Size = tuple[int, int]  # (width, height) in pixels
_BACKGROUND = (255, 255, 255)  # what shows through where a picture is transparent


def bucket_sizes(resolution: int, multiple: int) -> list[Size]:
    """Sizes of about resolution² pixels with sides from half to double, all multiples of `multiple`.

    Steps are a sixteenth of the resolution: finer ones would leave nearly every picture alone in its bucket.
    """
    step = max(multiple, resolution // 16 // multiple * multiple)
    sizes = set()
    for side in range(max(step, resolution // 2 // step * step), resolution + 1, step):
        other = min(resolution * resolution // side, 2 * resolution) // step * step
        sizes |= {(side, other), (other, side)}
    return sorted(sizes)


def nearest_bucket(width: int, height: int, sizes: Sequence[Size]) -> Size:
    """The size whose aspect ratio is nearest; among equals the larger one."""
    return min(sizes, key=lambda size: (abs(math.log(width / height * size[1] / size[0])), -size[0] * size[1], size))


def load_pixels(path: Path, size: Size) -> np.ndarray:
    """A picture turned upright, flattened on white, scaled to cover `size` and cut to it around its middle.

    Returns float32 [3, height, width] in −1…1. Raises StateError when the file cannot be read.
    """
    try:
        with Image.open(path) as file:
            image = flatten(ImageOps.exif_transpose(file))
    except OSError as error:
        raise StateError(path, f"cannot be read as a picture ({error})") from error
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.float32) / 127.5 - 1.0
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def flatten(image: Image.Image) -> Image.Image:
    """RGB, with transparent parts on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    paper = Image.new("RGBA", layer.size, (*_BACKGROUND, 255))
    return Image.alpha_composite(paper, layer).convert("RGB")
