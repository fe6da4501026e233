"""Anima as data: what its files do not say about themselves, and the spec made from a loaded
transformer."""

import dataclasses
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from pydantic import field_validator

from onmodel.families.anima.lora_layouts import (
    CONDITIONER,
    ENCODER,
    LORA_NAMES,
    block_of,
    linear_names,
    norm_names,
    text_linear_names,
    transformer_name,
)
from onmodel.families.protocol import (
    BaseFacts,
    BaseSettings,
    Component,
    Config,
    FamilySpec,
    Linear,
    Resolution,
)
from onmodel.families.usual import Usual
from onmodel.hashing import read_json
from onmodel.weights import read_header

_TOKENIZERS = (
    "single files hold no tokenizers; name a folder with `tokenizer/` (Qwen3's) and `t5_tokenizer/`"
    " (T5's), as in the base's diffusers repository, or that repository as `hub`"
)
USUAL = Usual(learning_rate=2e-5, rank=32, alpha=32, steps=32, guidance=4.5)
COMPONENTS = (
    Component("transformer", "transformer", "dit"),
    Component("text_conditioner", "text conditioner", "dit"),
    Component("text_encoder", "text encoder", "text_encoder"),
    Component("vae", "vae", "vae"),
    Component("tokenizer", "tokenizer", "tokenizers", _TOKENIZERS),
    Component("t5_tokenizer", "tokenizer", "tokenizers", _TOKENIZERS),
)


class Settings(BaseSettings):
    """Adds ComfyUI's single files: `dit` (the transformer and the text conditioner), `text_encoder`
    and `vae`; and the folder of the `tokenizers`."""

    family: str = "anima"
    dit: Path | None = None
    text_encoder: Path | None = None
    vae: Path | None = None
    tokenizers: Path | None = None

    @field_validator("dtype")
    @classmethod
    def _no_float16(cls, dtype: str) -> str:
        if dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError("use bfloat16 or float32; Anima overflows in float16")
        return dtype


# What no tensor's shape tells. A file that onmodel writes carries its own values in its header
# (single_file.py).
TRANSFORMER_FACTS: Config = {
    "max_size": [128, 240, 240],
    "patch_size": [1, 2, 2],
    "rope_scale": [1.0, 4.0, 4.0],
    "concat_padding_mask": True,
    "extra_pos_embed_type": None,
}
CONDITIONER_FACTS: Config = {"min_sequence_length": 512}
TEXT_ENCODER_FACTS: Config = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
    "rms_norm_eps": 1e-6,
}
# The published base, part by part: what a plan is made with before the files are there. The
# parameters in bfloat16 are the published files' sizes: 4.18, 1.19 and 0.254 GB.
PUBLISHED: dict[str, Config] = {
    "transformer": {
        **TRANSFORMER_FACTS,
        "in_channels": 16,
        "out_channels": 16,
        "num_attention_heads": 16,
        "attention_head_dim": 128,
        "num_layers": 28,
        "mlp_ratio": 4.0,
        "text_embed_dim": 1024,
        "adaln_lora_dim": 256,
    },
    "text_conditioner": {
        **CONDITIONER_FACTS,
        "source_dim": 1024,
        "target_dim": 1024,
        "model_dim": 1024,
        "num_layers": 6,
        "num_attention_heads": 16,
        "mlp_ratio": 4.0,
        "target_vocab_size": 32128,
    },
    "text_encoder": {
        **TEXT_ENCODER_FACTS,
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
    "vae": {
        "base_dim": 96,
        "z_dim": 16,
        "dim_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "temperal_downsample": [False, True, True],
    },
}

# Published relatives of 2.9 and 3.8 billion parameters: as many blocks, each as in the published
# base. Their files' sizes say so: 5.84 GB is 40 such blocks and the rest in bfloat16.
RELATIVE_BLOCKS = (40, 52)

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


def make_spec(transformer: Any, text: Mapping[str, Any] | None = None) -> FamilySpec:
    """The facts of a loaded `CosmosTransformer3DModel`, its layers counted and measured, never
    assumed; `text` has the text conditioner and the text encoder by component, where they are
    loaded."""
    from torch import nn

    linears = tuple(
        Linear(
            transformer_name(name), name, module.out_features, module.in_features, block_of(name)
        )
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear)
    )
    text_linears = tuple(
        Linear(
            _TEXT_PREFIX[component] + name,
            name,
            module.out_features,
            module.in_features,
            None,
            component,
        )
        for component, model in (text or {}).items()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    )
    norms = []
    parts: list[tuple[str | None, Any]] = [(None, transformer), *(text or {}).items()]
    for component, model in parts:
        for name, module in model.named_modules():
            weight = getattr(module, "weight", None)
            if weight is None or weight.ndim != 1:
                continue
            own = transformer_name(name) if component is None else _TEXT_PREFIX[component] + name
            block = block_of(name) if component is None else None
            norms.append(Linear(own, name, len(weight), 1, block, component))
    names = [name for _, name, _ in norm_names(transformer.config["num_layers"])]
    norms.sort(key=lambda norm: names.index(norm.name))  # in the order of spec_of_shapes
    return _spec(linears, transformer.config, text_linears, tuple(norms))


_TEXT_PREFIX = {"text_conditioner": CONDITIONER, "text_encoder": ENCODER}


def spec_of_shapes(
    blocks: int,
    shapes: Mapping[str, tuple[int, int]] | None = None,
    config: Config = TRANSFORMER_FACTS,
) -> FamilySpec:
    """The facts as far as files tell them: the layers of a base of that many blocks, by the base's
    names.

    With `shapes` (out, in) only the layers that they name; without, all of them and sizes of 0,
    enough to know names.
    """
    linears = tuple(
        Linear(name, diffusers, *(shapes or {}).get(name, (0, 0)), block_of(diffusers))
        for name, diffusers in linear_names(blocks)
        if shapes is None or name in shapes
    )
    text_linears = tuple(
        Linear(name, diffusers, *(shapes or {}).get(name, (0, 0)), None, component)
        for component, name, diffusers in text_linear_names()
        if shapes is None or name in shapes
    )
    norms = tuple(
        Linear(name, diffusers, *(shapes or {}).get(name, (0, 0)), block_of(diffusers), component)
        for component, name, diffusers in norm_names(blocks)
        if shapes is None or name in shapes
    )
    return dataclasses.replace(_spec(linears, config, text_linears, norms), blocks=blocks)


def spec_of_config(transformer: Config, encoders: Mapping[str, Config] | None = None) -> FamilySpec:
    """The facts of a base with this transformer config and these of its text conditioner and text
    encoder, as `make_spec` measures them, without loading diffusers."""
    hidden = transformer["num_attention_heads"] * transformer["attention_head_dim"]
    inner = int(hidden * transformer["mlp_ratio"])
    text, adaln = transformer["text_embed_dim"], transformer["adaln_lora_dim"]
    _, height, width = transformer["patch_size"]
    channels = transformer["in_channels"] + bool(transformer["concat_padding_mask"])
    sizes = {
        "x_embedder.proj.1": (hidden, channels * height * width),
        "t_embedder.1.linear_1": (hidden, hidden),
        "t_embedder.1.linear_2": (3 * hidden, hidden),
        "cross_attn.k_proj": (hidden, text),
        "cross_attn.v_proj": (hidden, text),
        "mlp.layer1": (inner, hidden),
        "mlp.layer2": (hidden, inner),
        "final_layer.adaln_modulation.1": (adaln, hidden),
        "final_layer.adaln_modulation.2": (2 * hidden, adaln),
        "final_layer.linear": (transformer["out_channels"] * height * width, hidden),
    }
    for part in ("self_attn", "cross_attn", "mlp"):
        sizes[f"adaln_modulation_{part}.1"] = (adaln, hidden)
        sizes[f"adaln_modulation_{part}.2"] = (3 * hidden, adaln)
    shapes = {}
    for name, diffusers in linear_names(transformer["num_layers"]):
        inside = name if block_of(diffusers) is None else name.split(".", 2)[2]
        shapes[name] = sizes.get(inside, (hidden, hidden))
    shapes["t_embedding_norm"] = (hidden, 1)
    for block in range(transformer["num_layers"]):
        for norm in ("self_attn.q", "self_attn.k", "cross_attn.q", "cross_attn.k"):
            shapes[f"blocks.{block}.{norm}_norm"] = (transformer["attention_head_dim"], 1)
    if encoders is not None:
        shapes |= _conditioner_shapes(encoders["text_conditioner"])
        shapes |= _encoder_shapes(encoders["text_encoder"])
    return spec_of_shapes(transformer["num_layers"], shapes, transformer)


def _conditioner_shapes(config: Config) -> dict[str, tuple[int, int]]:
    """(out, in) of the text conditioner's layers."""
    width, target, source = config["model_dim"], config["target_dim"], config["source_dim"]
    inner, head = int(width * config["mlp_ratio"]), width // config["num_attention_heads"]
    shapes = {f"{CONDITIONER}out_proj": (target, width), f"{CONDITIONER}norm": (target, 1)}
    if width != target:
        shapes[f"{CONDITIONER}in_proj"] = (width, target)
    parts = (
        ("self_attn", "cross_attn") if config.get("use_self_attention", True) else ("cross_attn",)
    )
    for block in range(config["num_layers"]):
        stem = f"{CONDITIONER}blocks.{block}."
        for part in parts:
            for side in "qkvo":
                reads = source if part == "cross_attn" and side in "kv" else width
                shapes[f"{stem}{part}.{side}_proj"] = (width, reads)
            shapes |= {f"{stem}{part}.{side}_norm": (head, 1) for side in "qk"}
            shapes[f"{stem}norm_{part}"] = (width, 1)
        shapes[f"{stem}norm_mlp"] = (width, 1)
        shapes |= {f"{stem}mlp.0": (inner, width), f"{stem}mlp.2": (width, inner)}
    return shapes


def _encoder_shapes(config: Config) -> dict[str, tuple[int, int]]:
    """(out, in) of the text encoder's layers."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    sizes = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "self_attn.q_norm": (config["head_dim"], 1),
        "self_attn.k_norm": (config["head_dim"], 1),
        "input_layernorm": (hidden, 1),
        "post_attention_layernorm": (hidden, 1),
    }
    shapes = {f"{ENCODER}norm": (hidden, 1)}
    for layer in range(config["num_hidden_layers"]):
        shapes |= {f"{ENCODER}layers.{layer}.{name}": size for name, size in sizes.items()}
    return shapes


def published() -> FamilySpec:
    """The facts of the published base."""
    return spec_of_config(PUBLISHED["transformer"], PUBLISHED)


def relatives() -> tuple[FamilySpec, ...]:
    """The facts of published bases with more blocks."""
    return tuple(
        spec_of_config({**PUBLISHED["transformer"], "num_layers": blocks}, PUBLISHED)
        for blocks in RELATIVE_BLOCKS
    )


def spec_of_folder(folder: Path) -> FamilySpec:
    """The facts of a base in diffusers' layout, from its configs alone."""
    parts = ("transformer", *_TEXT_PREFIX)
    configs = {part: read_json(folder / part / "config.json") for part in parts}
    return spec_of_config(configs["transformer"], configs)


def facts_of_folder(folder: Path) -> BaseFacts:
    """The facts of a base in diffusers' layout that is known to fit, from its configs and the
    headers of its weights alone."""
    parameters: dict[str, int] = {}
    for part in COMPONENTS:
        if part.kind != "tokenizer":
            (file,) = (folder / part.name).glob("*.safetensors")
            stored, _ = read_header(file, "base.folder")
            parameters[part.name] = sum(prod(tensor.shape) for tensor in stored.values())
    return BaseFacts(spec_of_folder(folder), parameters, frozenset(parameters))


def _spec(
    linears: tuple[Linear, ...],
    config: Config,
    text_linears: tuple[Linear, ...] = (),
    norms: tuple[Linear, ...] = (),
) -> FamilySpec:
    """`config` is the transformer's: positions are known up to `max_size` patches."""
    patches = [
        count * side for count, side in zip(config["max_size"], config["patch_size"], strict=True)
    ][1:]
    return FamilySpec(
        name="anima",
        title="Anima",
        architecture="anima-base-v1.0",
        prediction="flow",
        latent_channels=16,
        downscale=8,
        resolution=Resolution(step=16, native=1024, largest=8 * min(patches)),
        components=COMPONENTS,
        lora_names=LORA_NAMES,
        blocks=1
        + max((linear.block for linear in linears if linear.block is not None), default=-1),
        linears=linears,
        presets=PRESETS,
        text_linears=text_linears,
        norms=norms,
    )
