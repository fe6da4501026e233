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
from onmodel.families.anima.family import Anima, AnimaDenoiser
from onmodel.families.anima.latents import LatentCodec
from onmodel.families.anima.load import source
from onmodel.families.anima.parts import CLASSES, empty
from onmodel.families.anima.spec import PUBLISHED, make_spec
from onmodel.families.anima.text import AnimaText, UnfinishedText
from onmodel.families.counting import counting, filled
from onmodel.families.parts import PartSource, check
from onmodel.families.protocol import BaseSettings, Family, FamilySpec, Place, Text


@dataclass(frozen=True)
class AnimaOutline:
    """`onmodel.families.protocol.Outline`: models on the meta device by component. `sources` has
    the components that are read from files. `missing` lists those that are absent; the published
    base replaces them."""

    models: Mapping[str, Any]
    sources: Mapping[str, PartSource]
    missing: tuple[InputError, ...]

    @cached_property
    def spec(self) -> FamilySpec:
        """The same as a loaded base's."""
        text = {name: self.models[name] for name in ("text_conditioner", "text_encoder")}
        return make_spec(self.models["transformer"], text)

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(self.models)

    @property
    def found(self) -> frozenset[str]:
        return frozenset(self.sources)

    def parameters(self, component: str) -> int:
        return sum(parameter.numel() for parameter in self.models[component].parameters())

    def weight_bytes(self, component: str, dtype: torch.dtype) -> int:
        model = self._codec.vae if component == "vae" else self.models[component]
        return dtype.itemsize * sum(parameter.numel() for parameter in model.parameters())

    @cached_property
    def _codec(self) -> LatentCodec:
        """The VAE as it is used: the codec drops what one picture does not need."""
        return LatentCodec(empty("vae", self.models["vae"].config))

    def text_bytes(self, tokens: int, dtype: torch.dtype) -> int:
        encoder, conditioner = (
            copy.deepcopy(self.models[name]) for name in ("text_encoder", "text_conditioner")
        )
        with counting() as alive, torch.no_grad():
            filled(encoder, dtype)
            filled(conditioner, dtype)
            weights = alive.start()
            ids = torch.empty(1, tokens, dtype=torch.long)
            conditioner(encoder(ids).last_hidden_state, ids, source_attention_mask=None)
            return alive.peak - weights

    def encoding_bytes(self, width: int, height: int, dtype: torch.dtype, tiles: bool) -> int:
        picture = (1, 3, height, width)
        return self._codec_bytes(LatentCodec.encode, picture, dtype, tiles)

    def decoding_bytes(
        self, batch: int, width: int, height: int, dtype: torch.dtype, tiles: bool
    ) -> int:
        spec = self.spec
        sides = (height // spec.downscale, width // spec.downscale)
        latents = (batch, spec.latent_channels, *sides)
        return self._codec_bytes(LatentCodec.decode, latents, dtype, tiles)

    def _codec_bytes(
        self,
        work: Callable[[LatentCodec, Tensor], Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        tiles: bool,
    ) -> int:
        codec = copy.deepcopy(self._codec)
        codec.tiles = tiles
        with counting() as alive, torch.no_grad():
            filled(codec.vae, dtype)
            codec.mean_c11, codec.std_c11 = torch.empty(2, self.spec.latent_channels, 1, 1)
            weights = alive.start()
            work(codec, torch.empty(shape))
            return alive.peak - weights

    def shadow(self, blocks: int, dtype: torch.dtype, components: Collection[str] = ()) -> Family:
        model = empty("transformer", {**self.models["transformer"].config, "num_layers": blocks})
        text = {}
        for name in components:
            config = self.models[name].config
            config = config.to_dict() if name == "text_encoder" else config
            text[name] = filled(empty(name, config), dtype)
        return cast(Family, AnimaDenoiser(filled(model, dtype), text))

    def text(self, tokens: int, dtype: torch.dtype, trained: Collection[str] = ()) -> Text:
        if trained:
            ids = torch.empty(tokens, dtype=torch.long)
            width = self.models["text_encoder"].config.hidden_size
            states = torch.empty(tokens, width, dtype=dtype)
            source = ids if "text_encoder" in trained else states
            return UnfinishedText(source, ids, torch.empty(0))
        rows = self.models["text_conditioner"].config.min_sequence_length
        width = self.models["transformer"].config.text_embed_dim
        return AnimaText(torch.empty(tokens, width, dtype=dtype), max(rows - tokens, 0))

    def whole(self, step_bytes: Callable[[int], int]) -> int:
        """Blocks are alike but the first, whose input needs no gradient, so a block more costs what
        the third costs."""
        two, three = step_bytes(2), step_bytes(3)
        return three + (self.spec.blocks - 3) * (three - two)


def outline_of(family: Anima) -> AnimaOutline:
    """The outline of a base whose files are known."""
    return AnimaOutline(family.outlines, {}, ())


def make_outline(
    places: Mapping[str, Place], settings: BaseSettings, missing: tuple[InputError, ...]
) -> AnimaOutline:
    """The outline of the components at these places. Raises InputError when a file does not fit."""
    sources = {name: source(name, place) for name, place in places.items() if name in CLASSES}
    models = {
        role: check(sources[role]) if role in sources else empty(role, PUBLISHED[role])
        for role in PUBLISHED
    }
    return AnimaOutline(models, sources, missing)
