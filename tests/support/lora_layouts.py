"""A random LoRA of a tiny Anima, in every layout that other tools write."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import CosmosTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

from onmodel.families.anima.spec import make_spec
from onmodel.families.protocol import FamilySpec
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora import header
from onmodel.lora.tensors import Factors, Lora, write_lora
from onmodel.randomness import normal

RANK, ALPHA = 4, 1.0


def small(blocks: int) -> CosmosTransformer3DModel:
    return CosmosTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=blocks,
        text_embed_dim=24,
        adaln_lora_dim=8,
        extra_pos_embed_type=None,
    )


def spec_of(blocks: int) -> FamilySpec:
    with torch.device("meta"):
        return make_spec(small(blocks))


SPEC = spec_of(2)


def random_lora(
    spec: FamilySpec = SPEC, preset: str = "attention_mlp", alpha: float = ALPHA
) -> Lora:
    modules = {}
    for row in spec.targets(preset):
        down = torch.from_numpy(normal((RANK, row.in_features), 1, "down", row.name))
        up = torch.from_numpy(normal((row.out_features, RANK), 1, "up", row.name))
        modules[row.name] = Factors(down, up, alpha)
    return Lora(modules)


def deltas(lora: Lora) -> dict[str, Tensor]:
    return {name: factors.delta() for name, factors in lora.modules.items()}


def diffusers_names(spec: FamilySpec) -> dict[str, str]:
    return {row.name: row.diffusers for row in spec.linears}


def as_common(path: Path, lora: Lora) -> Path:
    write_lora(path / "x.safetensors", lora, {})
    return path / "x.safetensors"


def as_kohya(path: Path, lora: Lora) -> Path:
    write_lora(path / "x.safetensors", lora, {}, layout="kohya")
    return path / "x.safetensors"


def as_keys(
    down: str, up: str, alpha: str | None, name: Callable[[str], str]
) -> Callable[[Path, Lora], Path]:
    """A writer of one more layout: the endings of a layer's tensors and the spelling of its
    name."""

    def write(path: Path, lora: Lora) -> Path:
        tensors = {}
        for key, factors in lora.modules.items():
            tensors[name(key) + down] = factors.down.clone()
            tensors[name(key) + up] = factors.up.clone() if alpha else factors.up * factors.scale
            if alpha:
                tensors[name(key) + alpha] = torch.tensor(factors.alpha)
        save_file(tensors, path / "x.safetensors")
        return path / "x.safetensors"

    return write


def as_peft_folder(path: Path, lora: Lora) -> Path:
    names = diffusers_names(SPEC)
    tensors = {}
    for key, factors in lora.modules.items():
        tensors[f"base_model.model.{names[key]}.lora_A.weight"] = factors.down.clone()
        tensors[f"base_model.model.{names[key]}.lora_B.weight"] = factors.up.clone()
    save_file(tensors, path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": ALPHA}))
    return path


def as_diffusers_with_config(path: Path, lora: Lora) -> Path:
    names = diffusers_names(SPEC)
    tensors = {}
    for key, factors in lora.modules.items():
        tensors[f"transformer.{names[key]}.lora_A.weight"] = factors.down.clone()
        tensors[f"transformer.{names[key]}.lora_B.weight"] = factors.up.clone()
    config = {"transformer.r": RANK, "transformer.lora_alpha": ALPHA}
    save_file(tensors, path / "x.safetensors", {"lora_adapter_metadata": json.dumps(config)})
    return path / "x.safetensors"


LAYOUTS = {
    "common": as_common,
    "kohya": as_kohya,
    "dotted with alpha": as_keys(
        ".lora_A.weight", ".lora_B.weight", ".alpha", "diffusion_model.{}".format
    ),
    "dotted down/up": as_keys(
        ".lora_down.weight", ".lora_up.weight", ".alpha", "diffusion_model.{}".format
    ),
    "diffusers": as_keys(
        ".lora_A.weight",
        ".lora_B.weight",
        None,
        lambda name: f"transformer.{diffusers_names(SPEC)[name]}",
    ),
    "diffusers with config": as_diffusers_with_config,
    "peft folder": as_peft_folder,
}


FACTS = header.Facts("BACKGWA", "someone", "MIT", "backgwa", "anima-base-v1.0", 96, "2026-11-22")


def history() -> Lineage:
    return add([add([], "dataset", root="ab" * 32, subsets={})], "run", name="first", steps=4)
