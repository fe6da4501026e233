"""Pictures as latents, encoded once per stage and kept beside its state."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from onmodel.dataset.buckets import Size, load_pixels
from onmodel.dataset.cache import map_sealed, write_sealed
from onmodel.models.family import Family
from onmodel.progress import Progress

BATCH = 4


def encode_pictures(
    family: Family, pictures: Mapping[Path, Size], folder: Path, progress: Progress
) -> dict[Path, Tensor]:
    """Latents [C, h, w] float32 on the CPU for each picture at its bucket's size (width, height).

    Pictures are named by their content, so their file name and size are the key under which `folder` keeps them.
    """
    keys = {path: f"{path.stem}-{width}x{height}" for path, (width, height) in pictures.items()}
    sealed = map_sealed(folder, "latents")
    if sealed is not None and set(sealed[0]) == set(keys.values()):
        return {path: sealed[0][key] for path, key in keys.items()}
    found: dict[Path, Tensor] = {}
    device = next(family.transformer.parameters()).device
    with progress.task("encode pictures", total=len(pictures)) as task:
        for size in sorted(set(pictures.values())):
            for paths in _batches(path for path, own in pictures.items() if own == size):
                pixels = torch.stack([torch.from_numpy(load_pixels(path, size)) for path in paths])
                found |= zip(paths, family.encode_images(pixels.to(device)).cpu(), strict=True)
                task.advance(len(paths))
    write_sealed(folder, "latents", {keys[path]: latents for path, latents in found.items()}, {})
    return encode_pictures(family, pictures, folder, progress)  # mapped, so that what was encoded leaves the memory


def _batches(paths: Iterable[Path]) -> list[list[Path]]:
    rows = list(paths)
    return [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
