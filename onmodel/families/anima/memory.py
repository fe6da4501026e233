"""A base without its weights: what its files' headers say, and the published base where files are
not there yet."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch

from onmodel.errors import InputError
from onmodel.families.anima.family import Anima, AnimaDenoiser
from onmodel.families.anima.load import source
from onmodel.families.anima.parts import CLASSES, PartSource, check, empty
from onmodel.families.anima.spec import PUBLISHED, make_spec
from onmodel.families.anima.text import AnimaText
from onmodel.families.protocol import Family, FamilySpec, Place, Text


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

    def shadow(self, blocks: int, dtype: torch.dtype) -> Family:
        model = empty("transformer", {**self.models["transformer"].config, "num_layers": blocks})
        weights = {
            name: torch.empty(tensor.shape, dtype=dtype)
            for name, tensor in model.state_dict().items()
        }
        model.load_state_dict(weights, assign=True)
        return cast(Family, AnimaDenoiser(model.requires_grad_(False)))

    def longest_text(self, dtype: torch.dtype) -> Text:
        rows = self.models["text_conditioner"].config.min_sequence_length
        width = self.models["transformer"].config.text_embed_dim
        return AnimaText(torch.empty(rows, width, dtype=dtype), 0)

    def whole(self, step_bytes: Callable[[int], int]) -> int:
        """Blocks are alike, so a block more costs what the second costs."""
        one, two = step_bytes(1), step_bytes(2)
        return two + (self.spec.blocks - 2) * (two - one)


def outline_of(family: Anima) -> AnimaOutline:
    """The outline of a base whose files are known."""
    return AnimaOutline(family.outlines, {}, ())


def make_outline(places: Mapping[str, Place], missing: tuple[InputError, ...]) -> AnimaOutline:
    """The outline of the components at these places. Raises InputError when a file does not fit."""
    sources = {name: source(name, place) for name, place in places.items() if name in CLASSES}
    models = {
        role: check(sources[role]) if role in sources else empty(role, PUBLISHED[role])
        for role in PUBLISHED
    }
    return AnimaOutline(models, sources, missing)
