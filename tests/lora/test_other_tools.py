"""Files of other tools have the change that those tools compute, under all names and scales."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from onmodel.errors import InputError
from onmodel.lora.convert import convert
from onmodel.lora.tensors import read_lora
from onmodel.release.weight_checks import who_loads
from tests.support.lora_layouts import RANK, SPEC, small

D = "transformer_blocks.0.attn1.to_q"
SAVED = {
    "diffusion_model.{}": "diffusion_model.blocks.0.self_attn.q_proj",
    "OneTrainer": f"transformer.{D}",
    "OneTrainer before": "lora_transformer_" + D.replace(".", "_"),
    "SimpleTuner": f"transformer.core.{D}",
    "SimpleTuner LyCORIS": "lycoris_core_" + D.replace(".", "_"),
    "LyCORIS": "lycoris_blocks_0_self_attn_q_proj",
    "PEFT": f"base_model.model.{D}",
}


@pytest.mark.parametrize("tool", SAVED)
@pytest.mark.parametrize("ends", [("lora_A.mychar", "lora_B.mychar"), ("lora_down", "lora_up")])
@pytest.mark.parametrize(
    "alpha",
    [
        *(torch.tensor(2, dtype=kind) for kind in (torch.int64, torch.uint8, torch.int16)),
        *(torch.tensor([[2]], dtype=kind) for kind in (torch.float16, torch.bfloat16)),
        torch.tensor([2.0], dtype=torch.float64),
    ],
    ids=lambda alpha: str(alpha.dtype),
)
def test_layers_are_read_under_every_tools_names_and_any_number_is_an_alpha(
    tmp_path: Path, tool: str, ends: tuple[str, str], alpha: Tensor
) -> None:
    down, up = torch.randn(RANK, 32), torch.randn(32, RANK)
    tensors = {f"{SAVED[tool]}.{ends[0]}.weight": down, f"{SAVED[tool]}.{ends[1]}.weight": up}
    save_file(tensors | {f"{SAVED[tool]}.alpha": alpha}, tmp_path / "x.safetensors")
    read = read_lora(tmp_path / "x.safetensors", SPEC).modules["blocks.0.self_attn.q_proj"]
    torch.testing.assert_close(read.delta(), up @ down * 2 / RANK)


@pytest.mark.parametrize("alpha", [float("inf"), float("nan"), 9999999999.0, 1.0])
def test_an_alpha_that_no_program_uses_is_not_asked(tmp_path: Path, alpha: float) -> None:
    w1, w2 = torch.randn(4, 8), torch.randn(8, 4)
    stem = "diffusion_model.blocks.0.self_attn.q_proj"
    tensors = {f"{stem}.lokr_w1": w1, f"{stem}.lokr_w2": w2, f"{stem}.alpha": torch.tensor(alpha)}
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_lora(tmp_path / "x.safetensors", SPEC).modules["blocks.0.self_attn.q_proj"]
    torch.testing.assert_close(read.delta(), torch.kron(w1, w2))


def test_an_alpha_that_was_left_behind_scales_nothing(tmp_path: Path) -> None:
    stem, other = (f"diffusion_model.blocks.0.self_attn.{side}_proj" for side in "qk")
    down, up = torch.randn(RANK, 32), torch.randn(32, RANK)
    tensors = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    save_file(tensors | {f"{other}.alpha": torch.tensor(1.0)}, tmp_path / "x.safetensors")
    read = read_lora(tmp_path / "x.safetensors", SPEC).modules
    assert set(read) == {"blocks.0.self_attn.q_proj"}
    convert(tmp_path / "x.safetensors", tmp_path / "z.safetensors", "common")
    assert set(load_file(tmp_path / "z.safetensors")) == set(tensors)
    save_file({f"{other}.alpha": torch.tensor(1.0)}, tmp_path / "y.safetensors")
    with pytest.raises(InputError, match="changes no layer"):
        read_lora(tmp_path / "y.safetensors", SPEC)


WRAPPED = [
    "module.diffusion_model.blocks.0.self_attn.q_proj",
    "diffusion_model._orig_mod.blocks.0.self_attn.q_proj",
    "diffusion_model.blocks.0._orig_mod.self_attn.q_proj",
    "diffusion_model.blocks.0._checkpoint_wrapped_module.self_attn.q_proj",
    "lora_unet__orig_mod_blocks_0__orig_mod_self_attn_q_proj",
]


@pytest.mark.parametrize("stem", WRAPPED)
def test_layers_of_wrapped_modules_are_read_and_no_loader_is_said_to(
    tmp_path: Path, stem: str
) -> None:
    source, out = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    down, up = torch.randn(RANK, 32), torch.randn(32, RANK)
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, source)
    read = read_lora(source, SPEC).modules["blocks.0.self_attn.q_proj"]
    torch.testing.assert_close(read.delta(), up @ down)
    assert not any(loaded for loaded, _ in who_loads(source).values())
    convert(source, out, "common")
    assert who_loads(out)["ComfyUI"] == (1, 1)


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (("lora_A.weight", "lora_B.weight", "diff"), "are two kinds of change; keep one of them"),
        (("dora_scale",), "has only dora_scale; the file is incomplete"),
        (("lora_A.weight",), "has only down; the file is incomplete"),
        (("a1.weight", "a2.weight", "b1.weight", "b2.weight"), "is GLoRA"),
        (("weight", "on_input"), "is IA3"),
        (("diff_b",), "nothing else is in it; use another LoRA"),
    ],
)
def test_what_cannot_be_read_is_called_by_its_name(
    tmp_path: Path, roles: tuple[str, ...], said: str
) -> None:
    stem = "diffusion_model.blocks.0.self_attn.q_proj"
    shapes = {"lora_A.weight": (4, 32), "lora_B.weight": (32, 4), "diff": (32, 32)}
    tensors = {f"{stem}.{role}": torch.ones(shapes.get(role, (32, 1))) for role in roles}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=said):
        read_lora(tmp_path / "x.safetensors", SPEC, dora=True)


def test_unknown_names_of_known_layers_are_not_called_another_model(tmp_path: Path) -> None:
    stem = "my_wrapper.blocks.0.self_attn.q_proj"
    tensors = {f"{stem}.lora_A.weight": torch.ones(4, 32)}
    save_file(tensors | {f"{stem}.lora_B.weight": torch.ones(32, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="names layers in a way that is not known here"):
        read_lora(tmp_path / "x.safetensors", SPEC)


def peft_folder(path: Path, module: nn.Module, config: Any) -> tuple[Path, dict[str, Tensor]]:
    """A folder as PEFT itself saves it, and ΔW of its layers as PEFT itself computes it."""
    model = get_peft_model(module, config, adapter_name="mychar")
    layers = {
        name.removeprefix("base_model.model."): layer
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }
    for layer in layers.values():
        for name, weight in layer.named_parameters():
            if "base_layer" not in name:
                nn.init.normal_(weight, std=0.1)
    model.save_pretrained(path)
    return path / "mychar", {
        name: layer.get_delta_weight("mychar").detach() for name, layer in layers.items()
    }


PATTERNS = {
    "rank_pattern": {"attn1.to_k": 2, r".*blocks\.1.*to_v": 3},
    "alpha_pattern": {"transformer_blocks.0.attn1.to_q": 5, "to_v": 7},
}
TARGETS = ["to_q", "to_k", "to_v"]
CONFIGS = {
    "LoRA": LoraConfig(r=4, lora_alpha=1, target_modules=TARGETS),
    "LoRA, patterns": LoraConfig(r=4, lora_alpha=1, target_modules=TARGETS, **PATTERNS),
    "LoRA, stabilised": LoraConfig(
        r=4, lora_alpha=3, use_rslora=True, target_modules=TARGETS, **PATTERNS
    ),
    "LoKr": LoKrConfig(r=2, alpha=1, target_modules=TARGETS),
    "LoKr, whole": LoKrConfig(r=64, alpha=1, target_modules=TARGETS),
    "LoKr, both decomposed": LoKrConfig(r=2, alpha=1, decompose_both=True, target_modules=TARGETS),
    "LoKr, patterns": LoKrConfig(r=2, alpha=1, target_modules=TARGETS, **PATTERNS),
    "LoHa": LoHaConfig(r=2, alpha=1, target_modules=TARGETS),
    "LoHa, patterns": LoHaConfig(r=4, alpha=1, target_modules=TARGETS, **PATTERNS),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_peft_folder_has_the_change_that_peft_computes(tmp_path: Path, kind: str) -> None:
    folder, wanted = peft_folder(tmp_path, small(2), CONFIGS[kind])
    names = {row.diffusers: row.name for row in SPEC.linears}
    for path in (folder, folder / "adapter_model.safetensors"):
        read = read_lora(path, SPEC).modules
        assert len(read) == len(wanted) == 12
        for name, delta in wanted.items():
            torch.testing.assert_close(read[names[name]].delta(), delta)
