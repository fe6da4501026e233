"""Other models' files are called by their names, as checkpoints and as LoRA files of several
layouts."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from onmodel.errors import InputError
from onmodel.families.anima.family import Anima
from onmodel.families.other_models import recognise
from onmodel.families.registry import load_base
from onmodel.lora.tensors import read_lora

CHECKPOINTS = {
    "an SDXL checkpoint": {
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (
            640,
            2048,
        ),
        "first_stage_model.encoder.down.0.block.0.conv1.weight": (1,),
    },
    "a Stable Diffusion 1.5 checkpoint": {
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (320, 768)
    },
    "a Flux checkpoint": {
        "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": (9216, 3072)
    },
    "a Lumina 2 or Z-Image checkpoint": {"cap_embedder.1.weight": (2304, 2304)},
    "a Qwen-Image checkpoint": {
        "transformer_blocks.0.img_mod.1.weight": (1, 1),
        "transformer_blocks.0.attn.add_q_proj.weight": (1, 1),
    },
    "a Stable Diffusion 3 checkpoint": {
        "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (1, 1)
    },
    "a Wan checkpoint": {"blocks.0.self_attn.q.weight": (1536, 1536)},
    "an Anima checkpoint": {"net.blocks.0.self_attn.q_proj.weight": (2048, 2048)},
    "a VAE in another layout": {"encoder.down.0.block.0.conv1.weight": (1, 1, 1, 1)},
    "a video VAE": {"decoder.upsamples.0.residual.0.gamma": (1, 1, 1, 1)},
    "a language model": {"model.layers.0.self_attn.q_proj.weight": (2048, 1024)},
    "a CLIP text encoder": {"text_model.encoder.layers.0.self_attn.q_proj.weight": (768, 768)},
}
LORAS = {
    "SDXL": {
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (
            8,
            2048,
        )
    },
    "Stable Diffusion 1.5": {
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight": (4, 768)
    },
    "Flux": {"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (16, 3072)},
    "Lumina 2 or Z-Image": {"diffusion_model.layers.0.attention.qkv.lora_down.weight": (16, 2304)},
    "Qwen-Image": {"transformer.transformer_blocks.0.img_mlp.net.2.lora_A.weight": (16, 3072)},
    "Wan": {"diffusion_model.blocks.0.self_attn.q.lora_A.weight": (16, 1536)},
    "Anima": {"lora_unet_blocks_0_self_attn_output_proj.lora_up.weight": (2048, 16)},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints_are_recognised(name: str) -> None:
    assert recognise(CHECKPOINTS[name]) == name


@pytest.mark.parametrize("name", LORAS)
def test_loras_are_recognised(name: str) -> None:
    assert recognise(LORAS[name]) == f"a LoRA for {name}"


def test_what_is_unknown_is_not_guessed() -> None:
    assert recognise({"a.weight": (1, 1)}) is None
    assert recognise({"a.lora_A.weight": (1, 1)}) == "a LoRA for a model that is not known here"


@pytest.mark.parametrize("name", [name for name in LORAS if name != "Anima"])
def test_a_lora_of_another_base_is_refused_by_its_name(
    name: str, tmp_path: Path, tiny_family: Anima
) -> None:
    save_file(
        {key: torch.zeros(shape) for key, shape in LORAS[name].items()}, tmp_path / "x.safetensors"
    )
    with pytest.raises(
        InputError, match=rf"is a LoRA for {name}, not for anima: none of its 1 keys names a layer"
    ):
        read_lora(tmp_path / "x.safetensors", tiny_family.spec)


def test_a_checkpoint_where_a_lora_should_be_is_refused_by_its_name(
    tmp_path: Path, tiny_family: Anima
) -> None:
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="is a Flux checkpoint, not a LoRA for anima"):
        read_lora(tmp_path / "x.safetensors", tiny_family.spec)


@pytest.mark.parametrize(
    "name", ["an SDXL checkpoint", "a Flux checkpoint", "a Lumina 2 or Z-Image checkpoint"]
)
def test_another_base_is_refused_by_its_name(name: str, tmp_path: Path, tiny_anima: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in CHECKPOINTS[name].items()}, path)
    with pytest.raises(InputError, match=rf"^base\.dit: .* — is {name}, not an Anima transformer"):
        load_base({"dit": path, "text_encoder": path, "vae": path, "tokenizers": tiny_anima})


def test_a_lora_where_a_base_should_be_is_refused(tmp_path: Path, tiny_anima: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({key: torch.zeros(shape) for key, shape in LORAS["Anima"].items()}, path)
    with pytest.raises(InputError, match="is a LoRA for Anima, not an Anima transformer"):
        load_base({"dit": path, "text_encoder": path, "vae": path, "tokenizers": tiny_anima})
