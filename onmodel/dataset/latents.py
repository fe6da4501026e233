"""Pictures as latents, encoded once per stage and kept beside its state."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from onmodel.dataset.buckets import Size, load_pixels
from onmodel.dataset.cache import map_sealed, write_sealed
from onmodel.dataset.pixels import WHITE
from onmodel.events import Events
from onmodel.families.protocol import Family


@dataclass(frozen=True, slots=True)
class View:
    """A picture as the VAE encodes it: at its bucket's size (width, height), mirrored or not, on
    its background. The file is named by its content."""

    path: Path
    size: Size
    flip: bool = False
    background: str = WHITE

    @property
    def key(self) -> str:
        """Everything that its latents depend on, except the base."""
        background = "" if self.background == WHITE else f"-on-{self.background.removeprefix('#')}"
        flipped = "-flipped" if self.flip else ""
        return f"{self.path.stem}-{self.size[0]}x{self.size[1]}{flipped}{background}"


def encode_pictures(
    family: Family, views: Collection[View], folder: Path, events: Events
) -> dict[View, Tensor]:
    """Latents [C, h, w] float32 on the CPU of each view.

    Encoded one at a time, so that what `folder` keeps under a key never depends on the pictures
    around it; what lies there of another base is encoded anew.
    """
    facts = {"base": family.sha256}
    sealed = map_sealed(folder, "latents")
    known = sealed[0] if sealed is not None and sealed[1] == facts else {}
    wanted = {view.key: view for view in views}
    missing = [key for key in wanted if key not in known]
    if missing:
        with events.task("encode pictures", total=len(missing)) as task:
            for key in missing:
                view = wanted[key]
                pixels = torch.from_numpy(
                    load_pixels(view.path, view.size, view.flip, view.background)
                )[None]
                known[key] = family.encode_images(pixels.to(family.device)).float().cpu()[0]
                task.advance()
        write_sealed(folder, "latents", {key: known[key] for key in wanted}, facts)
        return encode_pictures(
            family, views, folder, events
        )  # mapped, so that what was encoded leaves the memory
    return {view: known[view.key] for view in views}
