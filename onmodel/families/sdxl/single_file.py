"""SDXL from the single files of ComfyUI, A1111 and sd-scripts, and a diffusers folder written as
one.

A checkpoint holds the U-Net under `model.diffusion_model.`, the text encoders under
`conditioner.embedders.0.transformer.` and `conditioner.embedders.1.model.` (OpenCLIP's layout: its
queries, keys and values are one tensor) and the VAE under `first_stage_model.`, whose attention is
of convolutions of one pixel. Sizes are read from the tensors' shapes. What no shape tells comes
from spec.py, or from the header where onmodel wrote the file.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.parts import PartSource, Tensors, read_config, read_tensors
from onmodel.families.protocol import Config
from onmodel.families.sdxl import spec
from onmodel.families.sdxl.lora_layouts import LEVELS, open_clip_name, unet_name, vae_name
from onmodel.families.sdxl.noise import NoiseSchedule
from onmodel.families.sdxl.parts import empty, part_source
from onmodel.reading import parse_json_in
from onmodel.weights import Stored, write_weights

CONFIG_KEY = "onmodel.config"
PREFIX = {
    "unet": "model.diffusion_model.",
    "text_encoder": "conditioner.embedders.0.transformer.",
    "text_encoder_2": "conditioner.embedders.1.model.",
    "vae": "first_stage_model.",
}
# Markers of v-prediction and zero terminal SNR: tensors of any content, as ComfyUI reads them.
_V_MARK, _ZERO_SNR_MARK = "v_pred", "ztsnr"

Shapes = Mapping[str, tuple[int, ...]]


def single_source(role: str, path: Path, field: str) -> PartSource:
    """A part of SDXL in a single file. Raises InputError naming the field, the path and what the
    file is."""
    whole = read_tensors(path, field)
    own = whole.under(PREFIX[role])
    if role == "vae" and not own.places:  # a file of the VAE alone
        own = whole
    if role == "text_encoder":
        own = own.under("text_model.")
    try:
        config = _CONFIGS[role](own.shapes) | _facts_in(whole, role)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise whole.wrong(f"SDXL's {role} (it lacks {error})") from error
    return part_source(role, config, _named_as_class(role, config, own))


def schedule_in(path: Path, field: str) -> NoiseSchedule:
    """The schedule that a checkpoint was trained with, by its markers, or by what its header says
    (`modelspec.prediction_type`)."""
    whole = read_tensors(path, field)
    said = whole.words.get("modelspec.prediction_type", "")
    if _V_MARK in whole.places or said.startswith("v"):
        return NoiseSchedule("v", _ZERO_SNR_MARK in whole.places)
    return NoiseSchedule("epsilon", _ZERO_SNR_MARK in whole.places)


def _named_as_class(role: str, config: Config, own: Tensors) -> Tensors:
    """The tensors of a part by their names in the class, in the shapes that they have there."""
    places: dict[str, Stored] = {}
    for name, tensor in empty(role, config).state_dict().items():
        stored = own.places.get(_FILE_NAMES[role](name, config))
        if stored is not None:
            places[name] = _in_class(name, stored, tuple(tensor.shape))
    turned = frozenset({"text_projection.weight"} if role == "text_encoder_2" else ())
    used = {_FILE_NAMES[role](name, config) for name in places}
    rest = {name: place for name, place in own.places.items() if name not in used}
    return replace(own, places=rest | places, turned=turned)


def _in_class(name: str, stored: Stored, shape: tuple[int, ...]) -> Stored:
    """Where the tensor of a class lies in that of a file."""
    match = re.search(r"\.self_attn\.([qkv])_proj\.(weight|bias)$", name)
    if match and stored.shape[0] == 3 * shape[0]:
        return stored.rows("qkv".index(match[1]) * shape[0], shape[0])
    if stored.shape == (*shape, 1, 1):
        return Stored(stored.dtype, shape, stored.path, stored.start, stored.end)
    return stored


_FILE_NAMES: dict[str, Callable[[str, Config], str]] = {
    "unet": lambda name, config: unet_name(name, config["layers_per_block"]),
    "text_encoder": lambda name, config: name,
    "text_encoder_2": lambda name, config: open_clip_name(name),
    "vae": lambda name, config: vae_name(name, len(config["block_out_channels"])),
}


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers a pattern's group has in the names."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})


def _unet_config(shapes: Shapes) -> Config:
    inputs = _count(shapes, r"input_blocks\.(\d+)\.")
    layers = inputs // LEVELS - 1
    widths = [shapes["input_blocks.0.0.weight"][0]]
    depths = [1]
    for level in range(1, LEVELS):
        place = level * (layers + 1) + 1
        widths.append(shapes[f"input_blocks.{place}.1.proj_in.weight"][0])
        depths.append(_count(shapes, rf"input_blocks\.{place}\.1\.transformer_blocks\.(\d+)\."))
    place = layers + 2
    stem = f"input_blocks.{place}.1.transformer_blocks.0"
    return {
        **spec.UNET_FACTS,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": widths,
        "layers_per_block": layers,
        "transformer_layers_per_block": depths,
        "attention_head_dim": [max(width // 64, 1) for width in widths],
        "cross_attention_dim": shapes[f"{stem}.attn2.to_k.weight"][1],
        "projection_class_embeddings_input_dim": shapes["label_emb.0.0.weight"][1],
    }


def _first_encoder_config(shapes: Shapes) -> Config:
    vocabulary, hidden = shapes["embeddings.token_embedding.weight"]
    return {
        **spec.TEXT_FACTS["text_encoder"],
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(shapes, r"encoder\.layers\.(\d+)\."),
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "projection_dim": hidden,
    }


def _second_encoder_config(shapes: Shapes) -> Config:
    vocabulary, hidden = shapes["token_embedding.weight"]
    return {
        **spec.TEXT_FACTS["text_encoder_2"],
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
        "num_hidden_layers": _count(shapes, r"transformer\.resblocks\.(\d+)\."),
        "max_position_embeddings": shapes["positional_embedding"][0],
        "projection_dim": shapes["text_projection"][1],
    }


def _vae_config(shapes: Shapes) -> Config:
    levels = _count(shapes, r"encoder\.down\.(\d+)\.")
    return {
        **spec.VAE_FACTS,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [
            shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in range(levels)
        ],
        "layers_per_block": _count(shapes, r"encoder\.down\.0\.block\.(\d+)\."),
        "latent_channels": shapes["post_quant_conv.weight"][0],
    }


_CONFIGS: dict[str, Callable[[Shapes], Config]] = {
    "unet": _unet_config,
    "text_encoder": _first_encoder_config,
    "text_encoder_2": _second_encoder_config,
    "vae": _vae_config,
}
# What the header of an exported file says, since no shape does.
_FACTS = {
    "unet": tuple(spec.UNET_FACTS),
    "text_encoder": tuple(spec.TEXT_FACTS["text_encoder"]),
    "text_encoder_2": tuple(spec.TEXT_FACTS["text_encoder_2"]),
    "vae": tuple(spec.VAE_FACTS),
}


def _facts_in(tensors: Tensors, role: str) -> Config:
    """The fields of a part in the header of a file that onmodel wrote. Other header fields are
    ignored."""
    table = parse_json_in(tensors.words.get(CONFIG_KEY, "{}"), tensors.path, tensors.field)
    said = table.get(role, {}) if isinstance(table, dict) else None
    if not isinstance(said, dict):
        raise InputError(
            tensors.field,
            tensors.path,
            f"its {CONFIG_KEY} is not a table of parts; export the base again",
        )
    return {key: said[key] for key in _FACTS[role] if key in said}


def export_single_files(folder: Path, out: Path) -> list[Path]:
    """Write `checkpoint.safetensors` from a diffusers folder. Tensors keep the dtype that they are
    stored in. The tokenizers stay where they are."""
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Config] = {}
    for role, keys in _FACTS.items():
        config = read_config(folder / role, "folder")
        facts[role] = {key: config[key] for key in keys if key in config}
        stored = read_tensors(folder / role, "folder")
        tensors |= _written(role, config, {name: stored.read(name) for name in stored.places})
    schedule = spec.schedule_of(read_config(folder / "scheduler", "folder", spec.SCHEDULER_FILE))
    if schedule.prediction == "v":
        tensors[_V_MARK] = torch.zeros(1)
    if schedule.zero_snr:
        tensors[_ZERO_SNR_MARK] = torch.zeros(1)
    path = out / "checkpoint.safetensors"
    write_weights(path, tensors, {CONFIG_KEY: json.dumps(facts, sort_keys=True)})
    return [path]


def _written(role: str, config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a part by their names in a checkpoint, in the shapes that they have there."""
    found: dict[str, Any] = {}
    for name in sorted(tensors):
        tensor, plain = tensors[name], name
        if role == "text_encoder":
            plain = f"text_model.{name.removeprefix('text_model.')}"
        file_name = PREFIX[role] + _FILE_NAMES[role](plain, config)
        if role == "vae" and re.search(r"\.attn_1\.(q|k|v|proj_out)\.weight$", file_name):
            tensor = tensor[:, :, None, None]
        if name == "text_projection.weight":
            tensor = tensor.t().contiguous()
        found.setdefault(file_name, []).append((name, tensor))
    return {name: _joined(parts) for name, parts in found.items()}


def _joined(parts: list[tuple[str, Tensor]]) -> Tensor:
    """One tensor of the queries, keys and values of a layer, or the only one there is."""
    order = {f"{letter}_proj": place for place, letter in enumerate("qkv")}
    parts.sort(key=lambda part: order.get(part[0].split(".")[-2], 0))
    return parts[0][1] if len(parts) == 1 else torch.cat([tensor for _, tensor in parts])
