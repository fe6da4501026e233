"""Everything that the axes need to know of a picture, computed once per picture and kept as arrays.

Time and memory are linear in the number of pictures; a killed run finds the finished chunks again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.dataset.arrays import arrays_of_pictures
from onmodel.dataset.pixels import WHITE, open_picture
from onmodel.evaluate.observers import Observers
from onmodel.evaluate.observers.colour import colours
from onmodel.evaluate.observers.copy import copy_embedding
from onmodel.evaluate.observers.grain import grain
from onmodel.evaluate.observers.layout import figure_box
from onmodel.events import Task

CHUNK = 32
VERSION = 6  # raised when the same picture gives other features


@dataclass(frozen=True)
class Features:
    """Arrays over pictures. The leading axes […] are one (pictures) or two (prompts × seeds).

    tags […, T] tagger probabilities without ratings, identity […, F], style and content […, E]
    embeddings: width 0 without the observer. lab […, 2, 3] and sectors […, 2, 12] of colour.py; box
    […, 4] of layout.py; copy […, E] the embedding, or that of copy.py; grain […]. parts […, 2, 5]
    and heads […] of detector.py: zeros without one; corruption […] and aesthetic […] of
    classifier.py: NaN without one.
    """

    tags: np.ndarray
    identity: np.ndarray
    lab: np.ndarray
    sectors: np.ndarray
    box: np.ndarray
    copy: np.ndarray
    grain: np.ndarray
    parts: np.ndarray
    heads: np.ndarray
    corruption: np.ndarray
    aesthetic: np.ndarray
    style: np.ndarray
    content: np.ndarray

    def take(self, indices: np.ndarray) -> "Features":
        """The pictures at `indices` (any shape, which becomes the leading axes)."""
        return Features(*(getattr(self, field.name)[indices] for field in fields(self)))

    def join(self, other: "Features") -> "Features":
        """These pictures and then the others."""
        names = [field.name for field in fields(self)]
        return Features(
            *(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names)
        )

    def flat(self) -> "Features":
        """[P, S, …] as pictures [P · S, …]."""
        arrays = (getattr(self, field.name) for field in fields(self))
        return Features(
            *(array.reshape(array.shape[0] * array.shape[1], *array.shape[2:]) for array in arrays)
        )


def measure(
    paths: Sequence[Path],
    observers: Observers,
    palette: Mapping[str, str],
    cache: Path,
    task: Task,
    backgrounds: Sequence[str] = (),
) -> Features:
    """Features of picture files, in order. `cache` keeps finished chunks, named by the files and
    what observes them.

    A file's name must identify its pixels, as in the picture cache and in data sets. `backgrounds`
    are the colours behind the transparent ones ("", or none at all: white). `task` advances by
    pictures.
    """
    backgrounds = backgrounds or [""] * len(paths)

    def key(part: slice) -> object:
        names = [path.name for path in paths[part]]
        shown = list(map(list, zip(names, backgrounds[part], strict=True)))
        return [VERSION, shown, observers.sha256, dict(palette)]

    def make(part: slice) -> Mapping[str, np.ndarray]:
        pairs = zip(paths[part], backgrounds[part], strict=True)
        images = [open_picture(path, background or WHITE) for path, background in pairs]
        return vars(observe(images, observers, palette))

    return Features(**arrays_of_pictures(len(paths), CHUNK, key, make, cache, task))


def observe(
    images: Sequence[Image.Image], observers: Observers, palette: Mapping[str, str]
) -> Features:
    """Features of a few RGB pictures of any sizes."""
    none, unknown = (
        np.zeros((len(images), 0), dtype=np.float32),
        np.full(len(images), np.nan, dtype=np.float32),
    )
    nothing = (
        np.zeros((len(images), 2, 5), dtype=np.float32),
        np.zeros(len(images), dtype=np.float32),
    )
    parts, heads = observers.detectors(images) if observers.detectors else nothing
    found = [colours(image, palette) for image in images]
    return Features(
        tags=observers.tagger(images) if observers.tagger else none,
        identity=observers.identity(images) if observers.identity else none,
        lab=np.stack([lab for lab, _ in found]),
        sectors=np.stack([sectors for _, sectors in found]),
        box=np.stack([figure_box(image) for image in images]),
        copy=observers.copy_embedding(images)
        if observers.copy_embedding
        else np.stack([copy_embedding(image) for image in images]),
        grain=np.stack([grain(image) for image in images]),
        parts=parts,
        heads=heads,
        corruption=observers.corruption(images) if observers.corruption else unknown,
        aesthetic=observers.aesthetic(images) if observers.aesthetic else unknown,
        style=observers.style_embedding(images) if observers.style_embedding else none,
        content=observers.content_embedding(images) if observers.content_embedding else none,
    )
