"""SDXL as data: what its files do not say about themselves, and the spec made of configs or of a
loaded U-Net."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from onmodel.families.protocol import (
    BaseFacts,
    BaseSettings,
    Component,
    Config,
    FamilySpec,
    Linear,
    Resolution,
)
from onmodel.families.sdxl.lora_layouts import (
    LEVELS,
    LORA_NAMES,
    TEXT_PATH,
    TEXT_PREFIX,
    block_of,
    blocks_of_layers,
    convolution_names,
    layers_of_blocks,
    linear_names,
    text_linear_names,
    unet_name,
)
from onmodel.families.sdxl.noise import NoiseSchedule, Prediction
from onmodel.families.usual import Usual
from onmodel.hashing import read_json
from onmodel.weights import read_header

_TOKENIZERS = (
    "single files hold no tokenizers; name a folder with `tokenizer/` and `tokenizer_2/` (CLIP's),"
    " as in a diffusers repository of SDXL, or that repository as `hub`"
)
USUAL = Usual(learning_rate=1e-4, rank=16, alpha=8, steps=28, guidance=6.0)
COMPONENTS = (
    Component("unet", "unet", "checkpoint"),
    Component("text_encoder", "text encoder", "checkpoint"),
    Component("text_encoder_2", "text encoder", "checkpoint"),
    Component(
        "vae",
        "vae",
        "vae",
        "name a checkpoint, which holds one, or the VAE's own file",
        within="checkpoint",
    ),
    Component("tokenizer", "tokenizer", "tokenizers", _TOKENIZERS),
    Component("tokenizer_2", "tokenizer", "tokenizers", _TOKENIZERS),
)


class Settings(BaseSettings):
    """Adds the single files of ComfyUI, A1111 and sd-scripts: `checkpoint` with everything in it,
    and a `vae` that replaces its own; and the folder of the `tokenizers`.

    `prediction` is what the U-Net was trained to predict: `epsilon`, or `v` with `zero_snr` for
    NoobAI's v-prediction. `auto` reads it from the file: the keys `v_pred` and `ztsnr`, the
    header, or the scheduler's config. `clip_skip` is A1111's: 2 for SDXL and all made from it.
    """

    family: str = "sdxl"
    checkpoint: Path | None = None
    vae: Path | None = None
    tokenizers: Path | None = None
    prediction: Literal["auto", "epsilon", "v"] = "auto"
    zero_snr: bool | None = None
    clip_skip: int = Field(default=2, ge=1, le=12)

    def changes(self) -> dict[str, object]:
        own = type(self).model_fields
        names = ("prediction", "zero_snr", "clip_skip")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value != own[name].default}

    @field_validator("dtype")
    @classmethod
    def _no_float16(cls, dtype: str) -> str:
        if dtype not in ("auto", "float32", "bfloat16"):
            raise ValueError("use bfloat16 or float32; SDXL's VAE overflows in float16")
        return dtype


# What no tensor's shape tells. A file that onmodel writes carries its own values in its header.
UNET_FACTS: Config = {
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "norm_num_groups": 32,
    "sample_size": 128,
}
TEXT_FACTS: dict[str, Config] = {
    "text_encoder": {
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
    "text_encoder_2": {
        "num_attention_heads": 20,
        "hidden_act": "gelu",
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
}
VAE_FACTS: Config = {
    "norm_num_groups": 32,
    "scaling_factor": 0.13025,
    "force_upcast": True,
    "sample_size": 1024,
}
# The published base, part by part: what a plan is made with before the files are there.
PUBLISHED: dict[str, Config] = {
    "unet": {
        **UNET_FACTS,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [320, 640, 1280],
        "layers_per_block": 2,
        "transformer_layers_per_block": [1, 2, 10],
        "cross_attention_dim": 2048,
        "projection_class_embeddings_input_dim": 2816,
    },
    "text_encoder": {
        **TEXT_FACTS["text_encoder"],
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "max_position_embeddings": 77,
        "projection_dim": 768,
    },
    "text_encoder_2": {
        **TEXT_FACTS["text_encoder_2"],
        "vocab_size": 49408,
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "max_position_embeddings": 77,
        "projection_dim": 1280,
    },
    "vae": {
        **VAE_FACTS,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "latent_channels": 4,
    },
}

_ATTENTION = (
    *(f"attn1.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"attn2.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")),
)
_ATTENTION_MLP = (*_ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
PRESETS = {
    "attention_mlp": _ATTENTION_MLP,
    "attention": _ATTENTION,
    # what sd-scripts trains with conv_dim
    "locon": (*_ATTENTION_MLP, "emb_layers.1", *dict(LORA_NAMES[0].kernels)),
}


def make_spec(
    unet: Any, vae: Config, schedule: NoiseSchedule, text: Mapping[str, Any] | None = None
) -> FamilySpec:
    """The facts of a loaded `UNet2DConditionModel`, its layers counted and measured, never assumed;
    `text` has the text encoders by component, where they are loaded."""
    from torch import nn

    layers = unet.config["layers_per_block"]
    blocks = blocks_of_layers(layers)
    shapes = {}
    for name, module in unet.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            weight = module.weight
            shapes[unet_name(name, layers)] = (len(weight), prod(weight.shape[1:]))
    linears = _known(linear_names(blocks), shapes, blocks)
    convolutions = _known(convolution_names(blocks), shapes, blocks)
    text_linears = []
    for component, model in (text or {}).items():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name != "text_projection":
                own = TEXT_PREFIX[component] + name.removeprefix(TEXT_PATH[component])
                size = (module.out_features, module.in_features)
                text_linears.append(Linear(own, name, *size, None, component))
    return _spec((linears, convolutions, text_linears), unet.config, vae, schedule)


def _known(
    names: Sequence[tuple[str, str]], shapes: Mapping[str, tuple[int, int]] | None, blocks: int
) -> list[Linear]:
    """The layers (own, diffusers) that have shapes; all, with sizes of 0, without any."""
    return [
        Linear(name, diffusers, *(shapes or {}).get(name, (0, 0)), block_of(name, blocks))
        for name, diffusers in names
        if shapes is None or name in shapes
    ]


def spec_of_shapes(
    blocks: int,
    shapes: Mapping[str, tuple[int, int]] | None = None,
    config: Config | None = None,
    vae: Config | None = None,
    schedule: NoiseSchedule | None = None,
) -> FamilySpec:
    """The facts as far as files tell them: the layers of a base of that many blocks, by the names
    of single files.

    With `shapes` (out, in) only the layers that they name; without, all that there may be and sizes
    of 0, enough to know names.
    """
    linears = _known(linear_names(blocks), shapes, blocks)
    convolutions = _known(convolution_names(blocks), shapes, blocks)
    text_linears = [
        Linear(name, diffusers, *(shapes or {}).get(name, (0, 0)), None, component)
        for component, name, diffusers in text_linear_names()
        if shapes is None or name in shapes
    ]
    config = config or {**PUBLISHED["unet"], "layers_per_block": layers_of_blocks(blocks)}
    schedule = schedule or NoiseSchedule()
    layers = (linears, convolutions, text_linears)
    return _spec(layers, config, vae or PUBLISHED["vae"], schedule)


def spec_of_config(configs: Mapping[str, Config], schedule: NoiseSchedule) -> FamilySpec:
    """The facts of a base whose components have these configs, as `make_spec` measures them,
    without loading diffusers."""
    unet = configs["unet"]
    widths, layers = unet["block_out_channels"], unet["layers_per_block"]
    depths = unet["transformer_layers_per_block"]
    first, embedded = widths[0], 4 * widths[0]
    outside = {
        "time_embed.0": (embedded, first),
        "time_embed.2": (embedded, embedded),
        "label_emb.0.0": (embedded, unet["projection_class_embeddings_input_dim"]),
        "label_emb.0.2": (embedded, embedded),
    }
    blocks = blocks_of_layers(layers)
    shapes: dict[str, tuple[int, int]] = {}
    for name, diffusers in linear_names(blocks):
        if name in outside:
            shapes[name] = outside[name]
            continue
        level = _level(diffusers)
        inside = name.split(".transformer_blocks.")[-1]
        if name != inside:
            depth, _, inside = inside.partition(".")
            if int(depth) >= depths[level]:
                continue
        width, text = widths[level], unet["cross_attention_dim"]
        shapes[name] = _size(inside.rpartition(".")[2], inside, width, text, embedded)
    shapes |= _convolution_shapes(widths, layers)
    for component in TEXT_PREFIX:
        shapes |= _text_shapes(component, configs[component])
    return spec_of_shapes(blocks, shapes, unet, configs["vae"], schedule)


def _convolution_shapes(widths: Sequence[int], layers: int) -> dict[str, tuple[int, int]]:
    """(out, in · kernel) of the convolutions of a U-Net whose levels have these widths: an output
    layer reads what came before it and what an input layer of its level gave."""
    found: dict[str, tuple[int, int]] = {}

    def residual(name: str, channels: int, width: int) -> None:
        found[unet_name(f"{name}.conv1", layers)] = (width, 9 * channels)
        found[unet_name(f"{name}.conv2", layers)] = (width, 9 * width)
        if channels != width:
            found[unet_name(f"{name}.conv_shortcut", layers)] = (width, channels)

    now, given = widths[0], [widths[0]]
    for level, width in enumerate(widths):
        for layer in range(layers):
            residual(f"down_blocks.{level}.resnets.{layer}", now, width)
            now = width
            given.append(width)
        if level < LEVELS - 1:
            name = f"down_blocks.{level}.downsamplers.0.conv"
            found[unet_name(name, layers)] = (width, 9 * width)
            given.append(width)
    for place in range(2):
        residual(f"mid_block.resnets.{place}", now, now)
    for level, width in enumerate(reversed(widths)):
        for layer in range(layers + 1):
            residual(f"up_blocks.{level}.resnets.{layer}", now + given.pop(), width)
            now = width
        if level < LEVELS - 1:
            name = f"up_blocks.{level}.upsamplers.0.conv"
            found[unet_name(name, layers)] = (width, 9 * width)
    return found


def _size(leaf: str, name: str, width: int, text: int, embedded: int) -> tuple[int, int]:
    """(out, in) of a layer in a block of this width."""
    if leaf == "1" and name.endswith("emb_layers.1"):
        return width, embedded
    if name in ("attn2.to_k", "attn2.to_v"):
        return width, text
    if name == "ff.net.0.proj":
        return 8 * width, width
    if name == "ff.net.2":
        return width, 4 * width
    return width, width


def _level(diffusers: str) -> int:
    """The level whose width a layer has."""
    side, level = diffusers.split(".")[:2]
    if side == "mid_block":
        return LEVELS - 1
    return int(level) if side == "down_blocks" else LEVELS - 1 - int(level)


def _text_shapes(component: str, config: Config) -> dict[str, tuple[int, int]]:
    """(out, in) of a text encoder's layers."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {}
    for layer in range(config["num_hidden_layers"]):
        stem = f"{TEXT_PREFIX[component]}encoder.layers.{layer}."
        for side in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{stem}self_attn.{side}"] = (hidden, hidden)
        shapes |= {f"{stem}mlp.fc1": (inner, hidden), f"{stem}mlp.fc2": (hidden, inner)}
    return shapes


def published() -> FamilySpec:
    """The facts of the published base."""
    return spec_of_config(PUBLISHED, NoiseSchedule())


def relatives() -> tuple[FamilySpec, ...]:
    """Illustrious, NoobAI and Pony have the layers of SDXL."""
    return ()


def spec_of_folder(folder: Path) -> FamilySpec:
    """The facts of a base in diffusers' layout, from its configs alone."""
    parts = ("unet", *TEXT_PREFIX, "vae")
    configs = {part: read_json(folder / part / "config.json") for part in parts}
    return spec_of_config(configs, schedule_of(read_json(folder / "scheduler" / SCHEDULER_FILE)))


SCHEDULER_FILE = "scheduler_config.json"


def schedule_of(config: Config) -> NoiseSchedule:
    """What the config of a diffusers scheduler says of the base's training."""
    prediction: Prediction = "v" if config.get("prediction_type") == "v_prediction" else "epsilon"
    return NoiseSchedule(prediction, bool(config.get("rescale_betas_zero_snr", False)))


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
    layers: tuple[Sequence[Linear], Sequence[Linear], Sequence[Linear]],
    unet: Config,
    vae: Config,
    schedule: NoiseSchedule,
) -> FamilySpec:
    """`layers`: the U-Net's linear layers and its convolutions, and those that encode text."""
    linears, convolutions, text_linears = map(tuple, layers)
    downscale = 2 ** (len(vae["block_out_channels"]) - 1)
    native = unet["sample_size"] * downscale
    halved = downscale * 2 ** (LEVELS - 1)
    return FamilySpec(
        name="sdxl",
        title="SDXL",
        architecture="stable-diffusion-xl-v1-base",
        prediction=schedule.prediction,
        latent_channels=unet["in_channels"],
        downscale=downscale,
        # buckets of 64 px, as in every trainer; a small base cannot be so choosy
        resolution=Resolution(
            step=64 if native >= 512 else halved, native=native, largest=4 * native
        ),
        components=COMPONENTS,
        lora_names=LORA_NAMES,
        blocks=blocks_of_layers(unet["layers_per_block"]),
        linears=linears,
        presets=PRESETS,
        text_linears=text_linears,
        convolutions=convolutions,
        uniform=False,
    )
