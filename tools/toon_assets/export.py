"""Writes the toon base in diffusers' modular layout: bfloat16 safetensors, swapped in as a whole
folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AnimaTextConditioner, AutoencoderKLQwenImage, CosmosTransformer3DModel
from diffusers.models.condition_embedders.condition_embedder_anima import (
    AnimaTextConditionerAttnProcessor,
)
from diffusers.models.transformers.transformer_cosmos import CosmosAttnProcessor2_0

from . import base, sample, text, vae
from .common import Settings, load_checkpoint, log, swap_folder, write_json

# component → (library, class) as diffusers names them
COMPONENTS: dict[str, tuple[str, str]] = {
    "text_encoder": ("transformers", "Qwen3Model"),
    "tokenizer": ("transformers", "Qwen2Tokenizer"),
    "t5_tokenizer": ("transformers", "T5Tokenizer"),
    "text_conditioner": ("diffusers", "AnimaTextConditioner"),
    "transformer": ("diffusers", "CosmosTransformer3DModel"),
    "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
    "vae": ("diffusers", "AutoencoderKLQwenImage"),
}


def final_vae(settings: Settings) -> AutoencoderKLQwenImage:
    """The real three-dimensional VAE with the newest decoder and the latents' statistics in its
    config."""
    frozen = load_checkpoint(settings.work / "vae_encoder.pt")
    newer = load_checkpoint(settings.work / "vae_decoder.pt")
    real = vae.unflatten_state((newer or frozen)["best" if newer else "model"])
    real.register_to_config(latents_mean=frozen["latents_mean"], latents_std=frozen["latents_std"])
    return real


def export(settings: Settings) -> None:
    """Writes out/base from the checkpoints as they are now; safe at any time after the first base
    checkpoint."""
    tokenizers = settings.work / "tokenizers"
    side = text.TextSide(tokenizers)
    model = base.averaged(settings, side)
    built = settings.out.parent / (settings.out.name + ".base.tmp")
    shutil.rmtree(built, ignore_errors=True)
    for name in ("tokenizer", "t5_tokenizer"):
        shutil.copytree(tokenizers / name, built / name)
    for name, module in {
        "transformer": model.transformer,
        "text_conditioner": model.conditioner,
        "text_encoder": side.encoder,
        "vae": final_vae(settings),
    }.items():
        module.to(torch.bfloat16).save_pretrained(built / name)
    sample.make_scheduler().save_pretrained(built / "scheduler")
    write_json(built / "modular_model_index.json", _index())
    check(built)
    settings.out.mkdir(parents=True, exist_ok=True)
    swap_folder(built, settings.out / "base")
    size = sum(path.stat().st_size for path in (settings.out / "base").rglob("*") if path.is_file())
    log(settings, "export", f"{settings.out / 'base'}: {size / 1e6:.2f} MB")


def _index() -> dict:
    """What AnimaModularPipeline.from_pretrained reads; paths are relative to the folder itself."""
    index: dict = {
        "_blocks_class_name": "AnimaAutoBlocks",
        "_class_name": "AnimaModularPipeline",
        "_diffusers_version": "0.42.1",
    }
    for name, (library, kind) in COMPONENTS.items():
        index[name] = [
            library,
            kind,
            {
                "pretrained_model_name_or_path": None,
                "revision": None,
                "subfolder": name,
                "type_hint": [library, kind],
                "variant": None,
            },
        ]
    return index


def check(folder: Path) -> None:
    """Loads the models back with the real classes and their own attention, and compares one step
    with ours."""
    transformer = CosmosTransformer3DModel.from_pretrained(folder / "transformer").float().eval()
    conditioner = AnimaTextConditioner.from_pretrained(folder / "text_conditioner").float().eval()
    assert isinstance(transformer.transformer_blocks[0].attn1.processor, CosmosAttnProcessor2_0)
    assert isinstance(conditioner.blocks[0].self_attn.processor, AnimaTextConditionerAttnProcessor)
    side = text.TextSide(folder)
    inputs = side.inputs(["1girl, smile, red hair", ""])
    x, t = (
        torch.randn(2, 16, 10, 14, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0.3, 0.8]),
    )
    with torch.no_grad():
        rows, bias = text.condition(conditioner, inputs)
        ours = base.velocity(transformer, x, t, rows, bias, fast=False)
        # its own way to the padding channel needs torchvision; the condition mask is the same
        # channel
        transformer.register_to_config(concat_padding_mask=False)
        mask = torch.zeros(2, 1, 1, 10, 14)
        theirs = transformer(x.unsqueeze(2), t, conditioner(**inputs), condition_mask=mask).sample
    error = (ours - theirs[:, :, 0]).abs().max().item()
    assert error < 1e-3 * theirs.abs().max().item() + 1e-5, (
        f"exported transformer differs by {error}"
    )
