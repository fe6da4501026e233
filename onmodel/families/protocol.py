"""The interface of a model family: facts as data, and the few calls that every stage uses.

No code outside a family's folder depends on which family it is. Differences are in `FamilySpec` or
behind `Family`.
"""

from __future__ import annotations  # the facts are read without torch; only the calls need it

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import field_validator

from onmodel.devices import check_name
from onmodel.errors import InputError
from onmodel.families.lora_names import LoraNames
from onmodel.families.modes import Modes
from onmodel.families.settings import EmptyText, Schedule
from onmodel.validation import StrictTable

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


Config = dict[str, Any]  # of a component, as diffusers writes it: config.json


class BaseSettings(StrictTable):
    """Where a base's weights lie: a diffusers `folder`, or the single files that a family's own
    `Settings` add.

    `comfyui` is a folder of ComfyUI, Forge or SwarmUI, in which single files that are not given are
    found. `hub` is the id of a diffusers repository, `owner/name` or `owner/name@revision`; what is
    still not given comes from it.

    `device` is torch's name of one: `cuda` (also AMD's ROCm), `cuda:1`, `mps`, `xpu` or `cpu`;
    `auto` is the card that torch finds, or the CPU. `dtype` is `float32` or `bfloat16`; `auto` is
    bfloat16 on a card that computes in it, else float32.
    """

    family: str
    folder: Path | None = None
    hub: str | None = None
    comfyui: Path | None = None
    dtype: str = "auto"
    device: str = "auto"

    def changes(self) -> dict[str, object]:
        """Settings that change what the files compute, where they are not the default ones: they
        belong to the base's identity."""
        return {}

    @field_validator("device")
    @classmethod
    def _device_of_torch(cls, device: str) -> str:
        check_name(device)
        return device


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a base: its name is that of its folder in diffusers' layout, `field` the setting
    that names its single file, or the folder of the tokenizers; `within` is the setting of a file
    that holds it too. `remedy`: what to do when none is given."""

    name: str
    kind: Literal["transformer", "unet", "text conditioner", "text encoder", "vae", "tokenizer"]
    field: str
    remedy: str = "name the file, or give a diffusers folder or hub id instead"
    within: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a component is, and the field that names it. `single`: a single file, not a folder of
    its own."""

    field: str
    path: Path
    single: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What a component's header says: how many numbers it holds, in how many `layers` (0: it has
    none), stored in which dtypes; or how many tokens a tokenizer has."""

    parameters: int = 0
    layers: int = 0
    dtypes: tuple[str, ...] = ()
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Linear:
    """A layer that a LoRA can adapt. `name` is the one in the base's own files, `diffusers` the
    module's path. The weight of a norm is one column: `in_features` is 1. A convolution's is
    [out, channels · height · width of its kernel].

    `block` is the index of its transformer block, None outside the blocks. `component` is the part
    of the base that has it, None for the backbone.
    """

    name: str
    diffusers: str
    out_features: int
    in_features: int
    block: int | None
    component: str | None = None

    @property
    def in_any_block(self) -> str:
        """Its name with "*" for the block's index, e.g. `blocks.*.mlp.layer1`."""
        return self.name.replace(f".{self.block}.", ".*.", 1)


@dataclass(frozen=True)
class FamilySpec:
    """The facts of one loaded base. `downscale` is pixels per latent.

    `title` is how people call it, `architecture` the modelspec word for it; `prediction` is what
    the network predicts; `presets` name the endings of the layers that a LoRA usually adapts.
    `linears` are the backbone's layers, which are trained, `convolutions` those that may be
    (LoCon), and `text_linears` those of the parts that encode text, which may be trained too; other
    tools' LoRA files may also change `norms`.
    `uniform`: a layer has one size in every block.
    """

    name: str
    title: str
    architecture: str
    prediction: Literal["flow", "epsilon", "v"]
    latent_channels: int
    downscale: int
    resolution: Resolution
    components: tuple[Component, ...]
    lora_names: tuple[LoraNames, ...]
    blocks: int
    linears: tuple[Linear, ...]
    presets: Mapping[str, tuple[str, ...]]
    text_linears: tuple[Linear, ...] = ()
    norms: tuple[Linear, ...] = ()
    convolutions: tuple[Linear, ...] = ()
    uniform: bool = True

    @property
    def lora_linears(self) -> tuple[Linear, ...]:
        """Every layer that a LoRA file may change."""
        return self.linears + self.convolutions + self.text_linears + self.norms

    @property
    def backbone_layers(self) -> tuple[Linear, ...]:
        """The backbone's layers that may be trained."""
        return self.linears + self.convolutions

    @property
    def width(self) -> int:
        """The size of a block's input; 0 where no layer of a block is known."""
        return next((row.in_features for row in self.linears if row.block is not None), 0)

    @property
    def backbone(self) -> str:
        """The component that a LoRA adapts."""
        return next(part.name for part in self.components if part.kind in ("transformer", "unet"))

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
                for row in self.backbone_layers
                if row.block is not None and row.name.endswith(self.presets[wanted])
            ]
        for pattern in wanted:
            self.matching("targets", pattern)

        def is_wanted(row: Linear) -> bool:
            return any(fnmatchcase(row.name, pattern) for pattern in wanted)

        return list(filter(is_wanted, self.backbone_layers))

    def matching(self, field: str, pattern: str) -> list[Linear]:
        """The layers whose name matches a pattern. Raises InputError naming `field` when there is
        none."""
        found = [row for row in self.backbone_layers if fnmatchcase(row.name, pattern)]
        if not found:
            raise InputError(
                field,
                pattern,
                f"matches no layer; layers are called {self.linears[-1].name} and so on",
            )
        return found


@dataclass(frozen=True, slots=True)
class Resolution:
    """Which pictures a base can do, in pixels. Sides are multiples of `step` and at most `largest`;
    it was trained on about `native`² pixels."""

    step: int
    native: int
    largest: int


class Objective(Protocol):
    """What a network is trained to predict. Times t are 0 (picture) to 1 (noise)."""

    def noisy(self, latents_bchw: Tensor, noise_bchw: Tensor, t_b: Tensor) -> Tensor:
        """What the network is given at times `t_b`."""
        ...

    def target(self, latents_bchw: Tensor, noise_bchw: Tensor, t_b: Tensor) -> Tensor:
        """What it should predict of that."""
        ...

    def loss_weight(self, kind: str, t_b: Tensor) -> Tensor:
        """What the loss of pictures at times `t_b` counts under a `loss_weighting`, [B]."""
        ...


class SamplingRules(Protocol):
    """How a picture is made from noise: the noise levels σ, and dx/dσ at each of them."""

    def schedule(self, steps: int, shift: float, name: Schedule = "flow") -> Tensor:
        """Noise levels [steps + 1] from noise to 0."""
        ...

    def start(self, noise_bchw: Tensor, sigmas: Tensor) -> Tensor:
        """Standard normal noise at the first noise level."""
        ...

    def velocity(self, x_bchw: Tensor, prediction_bchw: Tensor, sigma: Tensor) -> Tensor:
        """dx/dσ, from what the network predicts for `x_bchw`."""
        ...

    def denoised(self, x_bchw: Tensor, prediction_bchw: Tensor, sigma: Tensor) -> Tensor:
        """The picture x0, from what the network predicts for `x_bchw`."""
        ...

    def signal(self, sigma: float) -> float:
        """α of x = α·x0 + σ·noise."""
        ...


class Text(Protocol):
    """An encoded caption. Only its family reads its content. It never changes."""

    def to(self, device: torch.device | str) -> Text:
        """The same text on another device."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors; `Family.read_text` makes the same text of them."""
        ...


class Family(Protocol):
    """A base model. Its parts are read from its files when they are first used. Tensors come back
    on the device and in the dtype of the tensors that were given.

    `backbone` is the module that a LoRA adapts, a transformer or a U-Net; `configs` are those of
    the components into which diffusers loads a LoRA; `device` is where it computes, in `dtype`;
    `sha256` identifies the base's files.
    """

    spec: FamilySpec
    configs: Mapping[str, Config]
    device: torch.device
    dtype: torch.dtype
    objective: Objective
    sampling_rules: SamplingRules
    sha256: str

    @property
    def backbone(self) -> nn.Module: ...

    @property
    def quantization_error(self) -> float:
        """‖W − Ŵ‖ / ‖W‖ of the backbone's quantised weights; 0 where none are."""
        ...

    def computing(self, modes: Modes) -> AbstractContextManager[None]:
        """Within the context the base computes so. Without quantising its results are the same;
        what it has in memory that computes otherwise is dropped and read again, now and at the
        end."""
        ...

    def release(self) -> None:
        """Free what encodes text and pictures. It is read from its files again when it is used;
        texts are remembered."""
        ...

    def encode_text(self, captions: Sequence[str]) -> list[Text]:
        """Captions to text; "" is the unconditional one. Remembered by caption, without
        gradients."""
        ...

    def encode_prompts(
        self, prompts: Sequence[str], empty_text: EmptyText = "diffusers"
    ) -> list[Text]:
        """Prompts to text: as captions, but with weights and escapes (prompt_syntax.py), and an
        empty one as `empty_text` says."""
        ...

    def component(self, name: str | None) -> nn.Module:
        """The module of a component whose layers a LoRA may change (`Linear.component`)."""
        ...

    def training_text(self, components: Collection[str]) -> AbstractContextManager[None]:
        """Within the context these components are trained: a text is encoded as far as the frozen
        ones in front of them go, and `denoise` and `sampling` compute the rest, with gradients."""
        ...

    def changed(self, linears: Sequence[Linear]) -> AbstractContextManager[Mapping[str, Tensor]]:
        """Within the context the weights of these layers by name, [out, in], a norm's [out] or a
        convolution's [out, channels, height, width], may be changed in place. At its end they are
        as before: they are read from the base's files again, so that no copy takes memory. Contexts
        may be nested.

        Where weights that encode text are among them, no text is remembered from outside, nor
        after it. Raises InputError when the files changed.
        """
        ...

    def read_text(self, tensors: Mapping[str, Tensor]) -> Text:
        """The text with these tensors, the reverse of `Text.tensors()`."""
        ...

    def text_losses(self, caption: str) -> list[str]:
        """What the base will not read of a caption, a line for each loss, e.g. unknown
        letters."""
        ...

    def encode_images(self, images_bchw: Tensor) -> Tensor:
        """Pictures −1…1 [B, 3, H, W] to normalised latents [B, C, H/8, W/8], the mode of the
        posterior."""
        ...

    def decode_latents(self, latents_bchw: Tensor) -> Tensor:
        """Normalised latents to pictures −1…1."""
        ...

    def denoise(self, latents_bchw: Tensor, t_b: Tensor, texts: Sequence[Text]) -> Tensor:
        """What the network predicts for noisy latents at times `t_b` (0…1, float32)."""
        ...

    def sampling(
        self, texts: Sequence[Text]
    ) -> AbstractContextManager[Callable[[Tensor, Tensor], Tensor]]:
        """Within the context: what the network predicts for these texts at one noise level of the
        schedule. What follows from the texts alone is computed once, so the weights must not
        change.
        """
        ...

    def training(self) -> AbstractContextManager[None]:
        """Within the context the network is the same up to rounding, but made for training: it
        moves less memory."""
        ...


@dataclass(frozen=True)
class BaseFacts:
    """What a plan says of a base: its spec, component → number of parameters, the components whose
    files were read, and what is not there. A plan without torch needs no more."""

    spec: FamilySpec
    parameters: Mapping[str, int]
    found: frozenset[str]
    missing: tuple[InputError, ...] = ()


class Outline(Protocol):
    """A base without its weights: what its files' headers say, and the published base where files
    are not there yet. `components` are those that have weights, `found` those whose files were
    read; `missing` says what is not there."""

    @property
    def spec(self) -> FamilySpec: ...
    @property
    def components(self) -> tuple[str, ...]: ...
    @property
    def found(self) -> frozenset[str]: ...
    @property
    def missing(self) -> tuple[InputError, ...]: ...

    def parameters(self, component: str) -> int:
        """How many numbers a component's file has."""
        ...

    def weight_bytes(self, component: str, dtype: torch.dtype) -> int:
        """What a component takes once it is loaded."""
        ...

    def text_bytes(self, tokens: int, dtype: torch.dtype) -> int:
        """Peak bytes of encoding a caption of so many tokens, without weights."""
        ...

    def encoding_bytes(self, width: int, height: int, dtype: torch.dtype, tiles: bool) -> int:
        """Peak bytes of encoding one picture, without weights; with `tiles` in strips."""
        ...

    def decoding_bytes(
        self, batch: int, width: int, height: int, dtype: torch.dtype, tiles: bool
    ) -> int:
        """Peak bytes of decoding a batch of latents, without weights. Sides in pixels."""
        ...

    def shadow(self, blocks: int, dtype: torch.dtype, components: Collection[str] = ()) -> Family:
        """A base with a backbone of so many blocks and these `components`, uninitialised. Made for
        FakeTensorMode, where weights take no memory."""
        ...

    def text(self, tokens: int, dtype: torch.dtype, trained: Collection[str] = ()) -> Text:
        """The text of a caption of so many tokens where these components are trained."""
        ...

    def whole(self, step_bytes: Callable[[int], int]) -> int:
        """Peak bytes of a step with the whole backbone, from those with so many blocks."""
        ...
