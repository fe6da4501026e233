"""What an audit measures on each picture: thumbnails for repeats, observers' results, quality.
Computed in chunks to limit memory, and cached for the next audit of the same pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.curate.crop import Cropped
from onmodel.curate.duplicates import Thumb
from onmodel.curate.quality import Quality
from onmodel.dataset.arrays import arrays_of_pictures
from onmodel.evaluate.observers import Observers
from onmodel.evaluate.observers.colour import colours
from onmodel.events import Task

CHUNK = 64
VERSION = 2  # raised when the same picture gives other numbers


@dataclass(frozen=True)
class Looks:
    """Arrays over pictures: tags [N, T], identity [N, F], sectors [N, 12] (hue shares outside the
    palette, whole picture), quality [N, 12] in the order of Quality's numbers, aspect [N], thumbs
    [N, SIDE, SIDE, 3] uint8."""

    tags: np.ndarray
    identity: np.ndarray
    sectors: np.ndarray
    quality: np.ndarray
    aspect: np.ndarray
    thumbs: np.ndarray

    @property
    def qualities(self) -> list[Quality]:
        return [
            Quality(
                int(q[0]),
                int(q[1]),
                q[2],
                (q[3], q[4], q[5]),
                (q[6], q[7], q[8]),
                (q[9], q[10]),
                q[11],
            )
            for q in self.quality.tolist()
        ]

    @property
    def small(self) -> list[Thumb]:
        return [Thumb(float(a), pixels) for a, pixels in zip(self.aspect, self.thumbs, strict=True)]


def look(
    pictures: Sequence[Cropped],
    hashes: Sequence[str],
    observers: Observers,
    palette: Mapping[str, str],
    cache: Path,
    task: Task,
) -> Looks:
    """Run the observers on pictures. `hashes` are those of what they show.

    `task` advances by pictures. Raises StateError for a file that cannot be read, or a damaged
    cache.
    """
    if not pictures:
        raise ValueError("no picture to look at")
    backgrounds = [picture.background for picture in pictures]

    def key(part: slice) -> object:
        shown = [list(hashes[part]), backgrounds[part]]
        return [VERSION, *shown, observers.sha256, dict(palette)]

    def make(part: slice) -> Mapping[str, np.ndarray]:
        images = [picture.open() for picture in pictures[part]]
        return vars(_seen(images, observers, palette))

    return Looks(**arrays_of_pictures(len(pictures), CHUNK, key, make, cache, task))


def _seen(images: Sequence[Image.Image], observers: Observers, palette: Mapping[str, str]) -> Looks:
    none = np.zeros((len(images), 0), dtype=np.float32)
    thumbs = [Thumb.of(image) for image in images]
    rows = [Quality.of(image) for image in images]
    return Looks(
        tags=observers.tagger(images) if observers.tagger else none,
        identity=observers.identity(images) if observers.identity else none,
        sectors=np.stack([colours(image, palette)[1][0] for image in images]),
        quality=np.array(
            [[q.width, q.height, q.sharpness, *q.light, *q.dark, *q.reach, q.frame] for q in rows]
        ),
        aspect=np.array([thumb.aspect for thumb in thumbs]),
        thumbs=np.stack([thumb.pixels for thumb in thumbs]),
    )
