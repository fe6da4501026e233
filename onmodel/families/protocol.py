"""What onmodel asks of a model family: facts as data, and the few calls that every stage is built
on.

Nothing outside a family's folder asks which family it is; what differs is in `FamilySpec` or behind
`Family`.
"""

from __future__ import annotations  # the facts are read without torch; only the calls need it

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, Protocol

from onmodel.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Linear:
    """A layer that a LoRA can adapt. `name` is the one in the base's own files, `diffusers` the
    module's path.

    `block` is the index of its transformer block, None outside the blocks.
    """

    name: str
    diffusers: str
    out_features: int
    in_features: int
    block: int | None


@dataclass(frozen=True)
class FamilySpec:
    """The facts of one loaded base. Sizes of pictures are in pixels, `downscale` is pixels per
    latent.

    `architecture` is the modelspec word for the base; `prediction` what the network predicts;
    `presets` name the endings of the layers that a LoRA usually adapts.
    """

    name: str
    architecture: str
    prediction: Literal["flow", "epsilon", "v"]
    latent_channels: int
    downscale: int
    multiple: int
    text_rows: int
    blocks: int
    linears: tuple[Linear, ...]
    presets: Mapping[str, tuple[str, ...]]

    def targets(self, wanted: str | Sequence[str]) -> list[Linear]:
        """The layers that a preset adapts inside the blocks, or those anywhere whose names match
        one of some patterns.

        In the model's order. Raises InputError for an unknown preset or a pattern that matches
        nothing.
        """
        if isinstance(wanted, str):
            if wanted not in self.presets:
                known = ", ".join(self.presets)
                raise InputError(
                    "targets",
                    wanted,
                    f'{self.name} has {known}; patterns go in a list, ["*.mlp.*"]',
                )
            return [
                row
                for row in self.linears
                if row.block is not None and row.name.endswith(self.presets[wanted])
            ]
        for pattern in wanted:
            self.matching("targets", pattern)
        return [
            row for row in self.linears if any(fnmatchcase(row.name, pattern) for pattern in wanted)
        ]

    def matching(self, field: str, pattern: str) -> list[Linear]:
        """The layers whose name matches a pattern. Raises InputError naming `field` when there is
        none."""
        found = [row for row in self.linears if fnmatchcase(row.name, pattern)]
        if not found:
            raise InputError(
                field,
                pattern,
                f"matches no layer; layers are called {self.linears[-1].name} and so on",
            )
        return found


@dataclass(frozen=True, slots=True)
class Text:
    """An encoded caption: its non-zero rows [n, D] and how many zero rows the base would attend to
    after them."""

    rows_sd: Tensor
    zero_rows: int


class Family(Protocol):
    """A loaded base model. Tensors come back on the device and in the dtype of the tensors that
    were given.

    `transformer` is the module that a LoRA adapts; `sha256` identifies the base's files.
    """

    spec: FamilySpec
    transformer: nn.Module
    sha256: str

    def encode_text(self, captions: Sequence[str]) -> list[Text]:
        """Captions to text; "" is the unconditional one. Remembered by caption, without
        gradients."""
        ...

    def text_losses(self, caption: str) -> list[str]:
        """What the base will not read of a caption, a line for each loss: places beyond a limit,
        unknown letters."""
        ...

    def encode_images(self, images_bchw: Tensor) -> Tensor:
        """Pictures −1…1 [B, 3, H, W] to normalised latents [B, C, H/8, W/8], the mode of the
        posterior."""
        ...

    def decode_latents(self, latents_bchw: Tensor) -> Tensor:
        """Normalised latents to pictures −1…1."""
        ...

    def denoise(self, latents_bchw: Tensor, t_b: Tensor, texts: Sequence[Text]) -> Tensor:
        """What the network predicts for noisy latents at times `t_b` (0…1, float32); for flow:
        noise − x0."""
        ...

    def sampling(
        self, texts: Sequence[Text]
    ) -> AbstractContextManager[Callable[[Tensor, Tensor], Tensor]]:
        """Within the context: `denoise` for these texts and one time for all, up to rounding. What
        follows from the texts alone is computed once, so the weights must not change.
        """
        ...

    def training(self) -> AbstractContextManager[None]:
        """Within the context the network is the same up to rounding, but made for training: it
        moves less memory."""
        ...
