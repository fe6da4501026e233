"""A base without its weights: what its files' headers say, and the published base where files are
not there yet."""

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.counting import counting, filled
from onmodel.families.parts import PartSource, check
from onmodel.families.protocol import BaseSettings, Family, FamilySpec, Place, Text
from onmodel.families.sdxl.family import Sdxl, SdxlDenoiser
from onmodel.families.sdxl.latents import VaeCodec
from onmodel.families.sdxl.load import source, trained_schedule
from onmodel.families.sdxl.noise import NoiseSchedule
from onmodel.families.sdxl.parts import CLASSES, empty
from onmodel.families.sdxl.spec import PUBLISHED, Settings, make_spec
from onmodel.families.sdxl.text import CHUNK, ENCODERS, SdxlText, SdxlTokens


@dataclass(frozen=True)
class SdxlOutline:
    """`onmodel.families.protocol.Outline`: models on the meta device by component. `sources` has
    the components that are read from files. `missing` lists those that are absent; the published
    base replaces them."""

    models: Mapping[str, Any]
    sources: Mapping[str, PartSource]
    missing: tuple[InputError, ...]
    schedule: NoiseSchedule
    skip: int

    @cached_property
    def spec(self) -> FamilySpec:
        """The same as a loaded base's."""
        text = {name: self.models[name] for name in ENCODERS}
        return make_spec(self.models["unet"], self.models["vae"].config, self.schedule, text)

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(self.models)

    @property
    def found(self) -> frozenset[str]:
        return frozenset(self.sources)

    def parameters(self, component: str) -> int:
        return sum(parameter.numel() for parameter in self.models[component].parameters())

    def weight_bytes(self, component: str, dtype: torch.dtype) -> int:
        return dtype.itemsize * self.parameters(component)

    def text_bytes(self, tokens: int, dtype: torch.dtype) -> int:
        encoders = [copy.deepcopy(self.models[name]) for name in ENCODERS]
        with counting() as alive, torch.no_grad():
            for encoder in encoders:
                filled(encoder, dtype)
            weights = alive.start()
            _tokens(tokens).encoded(encoders, self.skip)
            return alive.peak - weights

    def encoding_bytes(self, width: int, height: int, dtype: torch.dtype, tiles: bool) -> int:
        return self._codec_bytes(VaeCodec.encode, (1, 3, height, width), dtype)

    def decoding_bytes(
        self, batch: int, width: int, height: int, dtype: torch.dtype, tiles: bool
    ) -> int:
        spec = self.spec
        sides = (height // spec.downscale, width // spec.downscale)
        return self._codec_bytes(VaeCodec.decode, (batch, spec.latent_channels, *sides), dtype)

    def _codec_bytes(
        self, work: Callable[[VaeCodec, Tensor], Tensor], shape: tuple[int, ...], dtype: torch.dtype
    ) -> int:
        vae = copy.deepcopy(self.models["vae"])
        with counting() as alive, torch.no_grad():
            codec = VaeCodec(filled(vae, dtype))
            weights = alive.start()
            work(codec, torch.empty(shape))
            return alive.peak - weights

    def shadow(self, blocks: int, dtype: torch.dtype, components: Collection[str] = ()) -> Family:
        """With all blocks: those of a U-Net differ."""
        text = {name: filled(copy.deepcopy(self.models[name]), dtype) for name in components}
        unet = filled(copy.deepcopy(self.models["unet"]), dtype)
        vae = self.models["vae"].config
        return cast(Family, SdxlDenoiser(unet, vae, self.schedule, self.skip, text))

    def text(self, tokens: int, dtype: torch.dtype, trained: Collection[str] = ()) -> Text:
        ids = _tokens(tokens)
        if trained:
            return ids
        unet = self.models["unet"].config
        pooled = self.models[ENCODERS[1]].config.projection_dim
        rows = torch.empty(ids.ids[0].numel(), unet.cross_attention_dim, dtype=dtype)
        return SdxlText(rows, torch.empty(pooled, dtype=dtype))

    def whole(self, step_bytes: Callable[[int], int]) -> int:
        return step_bytes(self.spec.blocks)


def _tokens(count: int) -> SdxlTokens:
    """A caption of so many rows, whole chunks of them."""
    chunks = max(-(-count // (CHUNK + 2)), 1)
    ids = torch.zeros(chunks, CHUNK + 2, dtype=torch.long)
    return SdxlTokens((ids, ids), (torch.empty(0), torch.empty(0)))


def outline_of(family: Sdxl) -> SdxlOutline:
    """The outline of a base whose files are known."""
    return SdxlOutline(family.outlines, {}, (), family.trained, family.skip)


def make_outline(
    places: Mapping[str, Place], settings: BaseSettings, missing: tuple[InputError, ...]
) -> SdxlOutline:
    """The outline of the components at these places. Raises InputError when a file does not fit."""
    assert isinstance(settings, Settings)
    sources = {name: source(name, place) for name, place in places.items() if name in CLASSES}
    models = {
        role: check(sources[role]) if role in sources else empty(role, PUBLISHED[role])
        for role in PUBLISHED
    }
    schedule = NoiseSchedule()
    if "unet" in places:
        schedule = trained_schedule(places["unet"], settings)
    return SdxlOutline(models, sources, missing, schedule, settings.clip_skip)
