"""Anima as data: what its files do not say about themselves, and the spec made from a loaded transformer."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from onmodel.models.anima.names import block_of, linear_names, transformer_name
from onmodel.models.family import FamilySpec, Linear

# What no tensor's shape tells. A file that onmodel writes carries its own values in its header (single_file.py).
TRANSFORMER_FACTS: dict[str, Any] = {
    "max_size": [128, 240, 240],
    "patch_size": [1, 2, 2],
    "rope_scale": [1.0, 4.0, 4.0],
    "concat_padding_mask": True,
    "extra_pos_embed_type": None,
}
CONDITIONER_FACTS: dict[str, Any] = {"min_sequence_length": 512}
TEXT_ENCODER_FACTS: dict[str, Any] = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "rms_norm_eps": 1e-6,
}


TEXT_TOKENS = 512  # each tokenizer's captions are cut here, as in AnimaModularPipeline

_ATTENTION_MLP = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.output_proj",
    "cross_attn.q_proj",
    "cross_attn.k_proj",
    "cross_attn.v_proj",
    "cross_attn.output_proj",
    "mlp.layer1",
    "mlp.layer2",
)
_ADALN = (
    "adaln_modulation_self_attn.1",
    "adaln_modulation_self_attn.2",
    "adaln_modulation_cross_attn.1",
    "adaln_modulation_cross_attn.2",
    "adaln_modulation_mlp.1",
    "adaln_modulation_mlp.2",
)
PRESETS = {"attention_mlp": _ATTENTION_MLP, "attention_mlp_adaln": _ATTENTION_MLP + _ADALN}


def make_spec(transformer: nn.Module, text_rows: int) -> FamilySpec:
    """The facts of a loaded `CosmosTransformer3DModel`, its layers counted and measured, never assumed."""
    linears = tuple(
        Linear(transformer_name(name), name, module.out_features, module.in_features, block_of(name))
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
    )
    return _spec(linears, text_rows)


def spec_of_shapes(blocks: int, shapes: Mapping[str, tuple[int, int]] | None = None) -> FamilySpec:
    """The facts as far as files tell them: the layers of a base of that many blocks, by the base's names.

    With `shapes` (out, in) only the layers that they name; without, all of them and sizes of 0, enough to know names.
    """
    linears = tuple(
        Linear(name, diffusers, *(shapes or {}).get(name, (0, 0)), block_of(diffusers))
        for name, diffusers in linear_names(blocks)
        if shapes is None or name in shapes
    )
    return dataclasses.replace(_spec(linears, CONDITIONER_FACTS["min_sequence_length"]), blocks=blocks)


def _spec(linears: tuple[Linear, ...], text_rows: int) -> FamilySpec:
    return FamilySpec(
        name="anima",
        architecture="anima-base-v1.0",
        prediction="flow",
        latent_channels=16,
        downscale=8,
        multiple=16,
        text_rows=text_rows,
        blocks=1 + max((linear.block for linear in linears if linear.block is not None), default=-1),
        linears=linears,
        presets=PRESETS,
    )
