"""A base without its weights: what its files' headers say, and the published base where files are
not there yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch

from onmodel.errors import InputError
from onmodel.families.anima.family import AnimaDenoiser
from onmodel.families.anima.parts import Source, check, empty
from onmodel.families.anima.spec import PUBLISHED, make_spec
from onmodel.families.anima.text import AnimaText
from onmodel.families.protocol import Family, FamilySpec, Text


@dataclass(frozen=True)
class Outline:
    """Models on the meta device by role. `sources` has those that are read from files; `missing`
    says what is not there, where the published base stands in.
    """

    models: Mapping[str, Any]
    sources: Mapping[str, Source]
    missing: tuple[InputError, ...]

    @cached_property
    def spec(self) -> FamilySpec:
        """The same as a loaded base's."""
        return make_spec(self.models["transformer"])

    def parameters(self, role: str) -> int:
        """How many numbers a part has."""
        return sum(parameter.numel() for parameter in self.models[role].parameters())

    def shadow(self, blocks: int, dtype: torch.dtype) -> Family:
        """A transformer of so many blocks whose weights are uninitialised. Made for FakeTensorMode,
        where they take no memory.
        """
        model = empty("transformer", {**self.models["transformer"].config, "num_layers": blocks})
        weights = {
            name: torch.empty(tensor.shape, dtype=dtype)
            for name, tensor in model.state_dict().items()
        }
        model.load_state_dict(weights, assign=True)
        return cast(Family, AnimaDenoiser(model.requires_grad_(False)))

    def longest_text(self, dtype: torch.dtype) -> Text:
        """As many rows as a caption can have, uninitialised."""
        rows = self.models["text_conditioner"].config.min_sequence_length
        width = self.models["transformer"].config.text_embed_dim
        return AnimaText(torch.empty(rows, width, dtype=dtype), 0)


def make_outline(sources: Mapping[str, Source], missing: tuple[InputError, ...]) -> Outline:
    """Raises InputError when a file is there and does not fit."""
    models = {
        role: check(sources[role]) if role in sources else empty(role, PUBLISHED[role])
        for role in PUBLISHED
    }
    return Outline(models, sources, missing)
