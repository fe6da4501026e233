"""Anima from ComfyUI's single files, and a diffusers folder written as such files.

`dit` holds the transformer under a prefix (`net.`, `diffusion_model.`, `model.diffusion_model.`,
none), found by the key that ends in `x_embedder.proj.1.weight`, and the text conditioner under
`llm_adapter.` within it; `text_encoder` is Qwen3 with `model.…`; `vae` has Wan-style names. One
file may hold all of them, each under a prefix of its own: it is named for each field. Sizes and
counts are read from the tensors' shapes. What no shape tells comes from spec.py, or from the header
where onmodel wrote the file.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.anima import spec
from onmodel.families.anima.lora_layouts import transformer_name, vae_name
from onmodel.families.anima.parts import part_source
from onmodel.families.parts import PartSource, Tensors, read_config, read_tensors
from onmodel.families.protocol import Config
from onmodel.reading import parse_json_in
from onmodel.text import shown
from onmodel.weights import write_weights

CONFIG_KEY = "onmodel.config"
_MARK = "x_embedder.proj.1.weight"
_ADAPTER = "llm_adapter."

Shapes = Mapping[str, tuple[int, ...]]


class _Gap(Exception):
    """A numbered part is missing."""


def single_source(role: str, path: Path, field: str) -> PartSource:
    """A part of Anima in one of the three files. Raises InputError naming the field, the path and
    what the file is."""
    tensors = read_tensors(path, field)
    if role in ("transformer", "text_conditioner"):
        inner = tensors.under(_prefix(tensors))
        if role == "transformer":
            body = inner.beside(_ADAPTER)
            return part_source(
                role, _config(role, _transformer_config, body), body, transformer_name
            )
        adapter = inner.under(_ADAPTER)
        if not adapter.places:
            what = (
                f"has no text conditioner ({_ADAPTER}…): a Cosmos model, or an Anima saved"
                " without it"
            )
            raise InputError(field, path, what)
        return part_source(role, _config(role, _conditioner_config, adapter), adapter, str)
    if role == "text_encoder":
        inner = _alone(tensors, "embed_tokens.weight")
        return part_source(role, _config(role, _text_encoder_config, inner), inner, str)
    inner = _alone(tensors, "decoder.middle.0.residual.0.gamma")
    config = _config(role, _vae_config, inner)
    return part_source(
        role, config, inner, partial(vae_name, residual_blocks=config["num_res_blocks"])
    )


def export_single_files(folder: Path, out: Path) -> list[Path]:
    """Write `dit.safetensors`, `text_encoder.safetensors` and `vae.safetensors` from a diffusers
    folder.

    Tensors keep the dtype that they are stored in. The tokenizers stay where they are.
    """
    configs = {role: read_config(folder / role, "folder") for role in _FACTS}
    facts = {}
    for role, keys in _FACTS.items():
        facts[role] = {key: configs[role][key] for key in keys}
    blocks = configs["vae"]["num_res_blocks"]
    dit = {
        f"net.{transformer_name(name)}": tensor for name, tensor in _stored(folder / "transformer")
    }
    dit |= {
        f"net.{_ADAPTER}{name}": tensor for name, tensor in _stored(folder / "text_conditioner")
    }
    qwen = {
        f"model.{name.removeprefix('model.')}": tensor
        for name, tensor in _stored(folder / "text_encoder")
    }
    vae = {vae_name(name, blocks): tensor for name, tensor in _stored(folder / "vae")}
    written = []
    for name, tensors, roles in (
        ("dit", dit, ("transformer", "text_conditioner")),
        ("text_encoder", qwen, ("text_encoder",)),
        ("vae", vae, ("vae",)),
    ):
        written.append(out / f"{name}.safetensors")
        words = json.dumps({role: facts[role] for role in roles}, sort_keys=True)
        write_weights(written[-1], tensors, {CONFIG_KEY: words})
    return written


# What the header of an exported file says, since no shape does.
_FACTS = {
    "transformer": tuple(spec.TRANSFORMER_FACTS),
    "text_conditioner": tuple(spec.CONDITIONER_FACTS),
    "text_encoder": tuple(spec.TEXT_ENCODER_FACTS),
    "vae": ("latents_mean", "latents_std"),
}


def _config(role: str, measure: Callable[[Shapes], Config], tensors: Tensors) -> Config:
    """A part's config from its shapes, then from the header's words where there are any."""
    try:
        config = measure(tensors.shapes)
    except _Gap as gap:
        raise InputError(tensors.field, tensors.path, f"{role}: {gap}; get the file again") from gap
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise tensors.wrong(f"Anima's {role} (it lacks {error})") from error
    return config | _facts_in(tensors, role)


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


def _alone(tensors: Tensors, mark: str) -> Tensors:
    """A part of a file that may hold others too, e.g. under `text_encoders.qwen3_06b.transformer.`
    and `vae.`; found by a name that only this part has."""
    found = [name for name in tensors.places if name.endswith(mark)]
    return tensors.under(found[0].removesuffix(mark)) if len(found) == 1 else tensors


def _prefix(tensors: Tensors) -> str:
    found = [name for name in tensors.places if name.endswith(_MARK)]
    if not found:
        raise tensors.wrong(f"an Anima transformer: 0 keys end in {_MARK}")
    if len(found) > 1:
        raise InputError(
            tensors.field,
            tensors.path,
            f"holds several models: {shown(', '.join(found))}; save one alone",
        )
    return found[0].removesuffix(_MARK)


def _count(shapes: Shapes, stem: str) -> int:
    """How many numbered parts `stem.0`, `stem.1` … there are. Raises _Gap when one is missing
    between them."""
    numbers = {
        int(match[1])
        for name in shapes
        if (match := re.match(rf"{re.escape(stem)}\.(\d{{1,9}})\.", name))
    }
    first = next(i for i in range(len(numbers) + 1) if i not in numbers)
    if first < len(numbers):
        raise _Gap(f"{stem}.{first} is missing, although there is {stem}.{max(numbers)}")
    return len(numbers)


def _transformer_config(shapes: Shapes) -> Config:
    hidden, patches = shapes[_MARK]
    _, height, width = spec.TRANSFORMER_FACTS["patch_size"]
    head = shapes["blocks.0.self_attn.q_norm.weight"][0]
    return {
        **spec.TRANSFORMER_FACTS,
        "in_channels": patches // (height * width) - 1,  # the last channel is the padding mask
        "out_channels": shapes["final_layer.linear.weight"][0] // (height * width),
        "num_attention_heads": hidden // head,
        "attention_head_dim": head,
        "num_layers": _count(shapes, "blocks"),
        "mlp_ratio": shapes["blocks.0.mlp.layer1.weight"][0] / hidden,
        "text_embed_dim": shapes["blocks.0.cross_attn.k_proj.weight"][1],
        "adaln_lora_dim": shapes["blocks.0.adaln_modulation_self_attn.1.weight"][0],
    }


def _conditioner_config(shapes: Shapes) -> Config:
    vocabulary, target = shapes["embed.weight"]
    inner, model = shapes["blocks.0.self_attn.q_proj.weight"]
    return {
        **spec.CONDITIONER_FACTS,
        "source_dim": shapes["blocks.0.cross_attn.k_proj.weight"][1],
        "target_dim": target,
        "model_dim": model,
        "num_layers": _count(shapes, "blocks"),
        "num_attention_heads": inner // shapes["blocks.0.self_attn.q_norm.weight"][0],
        "mlp_ratio": shapes["blocks.0.mlp.0.weight"][0] / model,
        "target_vocab_size": vocabulary,
    }


def _text_encoder_config(shapes: Shapes) -> Config:
    vocabulary, hidden = shapes["embed_tokens.weight"]
    head = shapes["layers.0.self_attn.q_norm.weight"][0]
    return {
        **spec.TEXT_ENCODER_FACTS,
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": shapes["layers.0.mlp.gate_proj.weight"][0],
        "num_hidden_layers": _count(shapes, "layers"),
        "num_attention_heads": shapes["layers.0.self_attn.q_proj.weight"][0] // head,
        "num_key_value_heads": shapes["layers.0.self_attn.k_proj.weight"][0] // head,
        "head_dim": head,
    }


def _vae_config(shapes: Shapes) -> Config:
    base = shapes["encoder.conv1.weight"][0]
    count = _count(shapes, "encoder.downsamples")
    halvings = [i for i in range(count) if f"encoder.downsamples.{i}.resample.1.weight" in shapes]
    blocks = halvings[0]
    last = [*(i - 1 for i in halvings), count - 1]  # the last residual block of every stage
    return {
        "base_dim": base,
        "z_dim": shapes["conv2.weight"][0],
        "dim_mult": [shapes[f"encoder.downsamples.{i}.residual.6.weight"][0] // base for i in last],
        "num_res_blocks": blocks,
        "temperal_downsample": [
            f"encoder.downsamples.{i}.time_conv.weight" in shapes for i in halvings
        ],
    }


def _stored(folder: Path) -> list[tuple[str, Tensor]]:
    return [(name, stored.read()) for name, stored in read_tensors(folder, "folder").places.items()]
