"""`onmodel release check`: our own release is clean, and each fault of others' files is found and
named."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner

from onmodel.cli.lora import app
from onmodel.errors import InputError
from onmodel.events import Finding
from onmodel.families.anima.licences import CIRCLESTONE
from onmodel.families.licences import FAIPL
from onmodel.release.check import check
from onmodel.text import is_printable
from tests.support.built_release import edit, rebind
from tests.support.command_line import onmodel
from tests.support.lora_layouts import LAYOUTS, random_lora

WORDS = {
    "modelspec.architecture": "anima-base-v1.0/lora",
    "modelspec.license": CIRCLESTONE.name,
    "modelspec.trigger_phrase": "backgwa",
    "ss_network_dim": "4",
    "ss_network_alpha": "4",
}
WIDTH = 2048  # of Anima's blocks, as published
LAYER = "diffusion_model.blocks.0.self_attn.q_proj"
FLAT = "lora_unet_blocks_0_self_attn_q_proj"


def plain(
    rank: int = 4, layer: str = LAYER, fill: float = 0.1, columns: int = WIDTH
) -> dict[str, Tensor]:
    return {
        f"{layer}.lora_A.weight": torch.full((rank, columns), fill),
        f"{layer}.lora_B.weight": torch.full((WIDTH, rank), fill),
    }


def kohya(alpha: float | None = 4.0) -> dict[str, Tensor]:
    flat = FLAT
    tensors = {
        f"{flat}.lora_down.weight": torch.ones(4, WIDTH),
        f"{flat}.lora_up.weight": torch.ones(WIDTH, 4),
    }
    return tensors | ({} if alpha is None else {f"{flat}.alpha": torch.tensor(alpha)})


def found(path: Path) -> dict[str, Finding]:
    return {f"{row.status}: {row.text}": row for row in check(path)}


SDXL_LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
FAULTS: dict[str, tuple[dict[str, Tensor], dict[str, str | None], str]] = {
    "kohya": (
        kohya(),
        {},
        "warn: diffusers loads none of its 1 layers (lora_unet_blocks_0_self_attn_q_proj)",
    ),
    "lycoris": (
        {key.replace("lora_unet", "lycoris"): tensor for key, tensor in kohya().items()},
        {},
        "fail: ComfyUI loads none of its 1 layers (lycoris_blocks_0_self_attn_q_proj)",
    ),
    "onetrainer": (
        {
            key.replace(FLAT, "transformer.transformer_blocks.0.attn1.to_q"): tensor
            for key, tensor in kohya().items()
        },
        {},
        "fail: diffusers stops with an IndexError: 2 of 3 tensors are called lora_down",
    ),
    "dotted alpha": (
        plain() | {f"{LAYER}.alpha": torch.tensor(4.0)},
        {},
        "fail: diffusers stops with a ValueError: 1 of 3 tensors have no lora in their names",
    ),
    "dotted down/up": (
        {
            f"{LAYER}.lora_down.weight": torch.ones(4, WIDTH),
            f"{LAYER}.lora_up.weight": torch.ones(WIDTH, 4),
        },
        {},
        "fail: diffusers stops with an IndexError: 2 of 2 tensors",
    ),
    "diffusers names": (
        plain(layer="transformer.transformer_blocks.0.attn1.to_q"),
        {},
        "warn: ComfyUI loads none of its 1 layers (transformer.transformer_blocks.0.attn1.to_q)",
    ),
    "SimpleTuner": (
        plain(layer="transformer.core.transformer_blocks.0.attn1.to_q"),
        {},
        "fail: diffusers stops with a NoMatchingPeftModuleError: 2 of 2 tensors name layers",
    ),
    "OneTrainer before": (
        {
            key.replace(FLAT, "lora_transformer_transformer_blocks_0_attn1_to_q"): tensor
            for key, tensor in kohya().items()
        },
        {},
        "fail: ComfyUI loads none of its 1 layers (lora_transformer_",
    ),
    "PEFT's names": (
        plain(layer="base_model.model.transformer_blocks.0.attn1.to_q"),
        {},
        "fail: diffusers loads none of its 1 layers",
    ),
    "named adapter": (
        {key.replace(".weight", ".mychar.weight"): tensor for key, tensor in plain().items()},
        {},
        "fail: ComfyUI loads none of its 1 layers",
    ),
    "default adapter": (
        {key.replace(".weight", ".default.weight"): tensor for key, tensor in plain().items()},
        {},
        "warn: diffusers loads none of its 1 layers",
    ),
    "LoKr": (
        {f"{LAYER}.lokr_w1": torch.ones(2, 2), f"{LAYER}.lokr_w2": torch.ones(1024, 1024)},
        {},
        "warn: is LoKr: diffusers stops with a ValueError",
    ),
    "LoKr of LyCORIS": (
        {
            "lycoris_blocks_0_self_attn_q_proj.lokr_w1": torch.ones(2, 2),
            "lycoris_blocks_0_self_attn_q_proj.lokr_w2": torch.ones(1024, 1024),
        },
        {},
        "fail: ComfyUI loads none of its 1 layers",
    ),
    "text encoder too": (
        plain()
        | plain(
            layer="text_encoders.qwen3_06b.transformer.model.layers.0.self_attn.q_proj",
            columns=1024,
        ),
        {},
        "warn: changes 1 layers of the text encoder, which diffusers leaves out",
    ),
    "norm": (
        plain() | {"diffusion_model.blocks.0.self_attn.q_norm.diff": torch.ones(128)},
        {},
        "warn: changes norms or whole weights: diffusers stops with a ValueError",
    ),
    "LoKr of zeros": (
        {f"{LAYER}.lokr_w1": torch.zeros(2, 2), f"{LAYER}.lokr_w2": torch.ones(1024, 1024)},
        {},
        "fail: changes nothing",
    ),
    "first blocks": (
        plain() | plain(layer="diffusion_model.blocks.1.self_attn.q_proj"),
        {},
        "warn: changes only blocks 0-1 of 28",
    ),
    "mixed": (
        kohya() | plain(layer="diffusion_model.blocks.27.self_attn.q_proj"),
        {},
        "fail: diffusers loads 1 of its 2 layers (lora_unet_blocks_0_self_attn_q_proj)",
    ),
    "twice": (plain() | kohya(), {}, "fail: names blocks.0.self_attn.q_proj twice"),
    "unknown layer": (
        plain() | plain(layer="diffusion_model.blocks.0.nowhere"),
        {},
        "fail: 2 of 4 keys are unknown",
    ),
    "NaN": (
        plain(fill=float("nan")),
        {},
        "fail: blocks.0.self_attn.q_proj down holds values that are not finite",
    ),
    "overflow": (plain(fill=70000.0), {}, "warn: 2 tensors overflow in float16"),
    "zero": (plain(fill=0.0), {}, "fail: changes nothing"),
    "half": (
        {f"{LAYER}.lora_A.weight": torch.ones(4, WIDTH)},
        {},
        "fail: blocks.0.self_attn.q_proj has only down",
    ),
    "ranks of two halves": (
        plain() | {f"{LAYER}.lora_A.weight": torch.ones(8, WIDTH)},
        {},
        "fail: blocks.0.self_attn.q_proj: down [8, 2048] · up [2048, 4] is not a product",
    ),
    "vector": (
        plain() | {f"{LAYER}.lora_A.weight": torch.ones(WIDTH)},
        {},
        "fail: blocks.0.self_attn.q_proj: down [2048] ",
    ),
    "convolution": (
        plain() | {f"{LAYER}.lora_A.weight": torch.ones(4, WIDTH, 1, 1)},
        {},
        "fail: blocks.0.self_attn.q_proj: down [4, 2048, 1, 1] ",
    ),
    "columns": (
        plain() | {f"{LAYER}.lora_A.weight": torch.ones(4, 1024)},
        {},
        "fail: blocks.0.self_attn.q_proj is 2048×1024, this anima has 2048×2048 there",
    ),
    "SDXL": (
        {f"{SDXL_LAYER}.lora_down.weight": torch.ones(4, 2048)},
        {},
        "fail: says it is for anima-base-v1.0/lora, its layers are SDXL's",
    ),
    "fp8": (
        {key: tensor.to(torch.float8_e4m3fn) for key, tensor in plain().items()},
        {},
        "fail: blocks.0.self_attn.q_proj: down is F8_E4M3",
    ),
    "text encoder": (
        plain(layer="lora_te_layers_0_self_attn_q_proj", columns=1024),
        {},
        "fail: changes only the text encoder, in 1 layers",
    ),
    "mixed ranks": (
        plain() | plain(8, "diffusion_model.blocks.0.self_attn.k_proj"),
        {},
        "warn: has ranks 4 to 8, the header says 4",
    ),
    "rank": (plain(), {"ss_network_dim": "32"}, "warn: has rank 4, the header says 32"),
    "alpha 0": (kohya(0.0), {"ss_network_alpha": None}, "fail: has an alpha of 0"),
    "alpha told": (kohya(2.0), {}, "warn: has alpha 2, the header says 4"),
    "no alpha": (
        kohya(None),
        {"ss_network_alpha": "1"},
        "fail: has no alpha tensors, so programs scale by 1",
    ),
    "peft scale": (
        plain(),
        {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 2})},
        "fail: its lora_adapter_metadata has alpha 2 at rank 4",
    ),
    "epsilon": (
        plain(),
        {"modelspec.prediction_type": "epsilon"},
        "fail: says prediction_type = epsilon",
    ),
    "architecture": (
        plain(),
        {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"},
        "fail: says it is for stable-diffusion-xl",
    ),
    "no architecture": (
        plain(),
        {"modelspec.architecture": None},
        "warn: does not say which base",
    ),
    "no licence": (plain(), {"modelspec.license": None}, "warn: names no licence"),
    "no trigger": (plain(), {"modelspec.trigger_phrase": None}, "warn: names no trigger word"),
    "long": (plain(), {"ss_tag_frequency": "x" * 70_000}, "warn: its header's words take"),
    "path": (
        plain(),
        {"ss_sd_model_name": r"C:\Users\me\anima.safetensors"},
        "fail: ss_sd_model_name names a folder",
    ),
    "hash": (
        plain(),
        {"modelspec.hash_sha256": "0x" + "0" * 64},
        "fail: its tensors do not have the hash",
    ),
    "history": (
        plain(),
        {"onmodel.recipe": "{}"},
        "fail: onmodel.recipe, lineage: expected one newest",
    ),
    "DoRA": (plain() | {f"{LAYER}.dora_scale": torch.ones(WIDTH)}, {}, "warn: is DoRA"),
    "OFT": (plain() | {f"{LAYER}.oft_blocks": torch.ones(8)}, {}, "fail: is OFT"),
    "not a LoRA": (
        {"model.weight": torch.ones(2, 2)},
        {},
        "fail: is something unknown, not a LoRA for anima",
    ),
    "integers": (
        {key: tensor.to(torch.int8) for key, tensor in plain().items()},
        {},
        "fail: blocks.0.self_attn.q_proj: down is I8",
    ),
    "words": (plain(), {"modelspec.architecture": "\x1b[2J" * 9_000}, "fail: says it is for"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_file_is_found(tmp_path: Path, fault: str) -> None:
    tensors, changed, said = FAULTS[fault]
    words = {key: value for key, value in {**WORDS, **changed}.items() if value is not None}
    save_file(tensors, tmp_path / "x.safetensors", words)
    lines = found(tmp_path / "x.safetensors")
    assert any(said in line for line in lines), list(lines)
    assert all(
        row.remedy and is_printable(str(row)) and len(str(row)) < 1_500 for row in lines.values()
    )
    for number, row in enumerate(lines.values()):  # every command works on this very file
        if command := re.search(r"onmodel lora (\w+ FILE -o OUT(?: --\S+ \S+)*)", row.remedy):
            made = tmp_path / f"made-{number}.safetensors"
            places = {"FILE": str(tmp_path / "x.safetensors"), "OUT": str(made)}
            words_of_it = [places.get(word, word) for word in command[1].split()]
            run = CliRunner().invoke(app, words_of_it)
            assert run.exit_code == 0, (command[0], run.output, run.exception)
            assert row.text not in {one.text for one in check(made)}


def test_a_sound_file_of_another_has_no_findings(tmp_path: Path) -> None:
    save_file(plain(), tmp_path / "x.safetensors", WORDS)
    assert check(tmp_path / "x.safetensors") == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_layout_of_the_field_stops_the_check(tmp_path: Path, layout: str) -> None:
    path = LAYOUTS[layout](tmp_path, random_lora())
    assert check(path) is not None


def test_torn_files_and_pickles(tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"\xff" * 40)
    assert any("no complete safetensors" in line for line in found(tmp_path / "torn.safetensors"))
    (tmp_path / "old.pt").write_bytes(b"\x80\x04.")
    assert any("is a pickle" in line for line in found(tmp_path / "old.pt"))
    with pytest.raises(InputError, match="name a release folder"):
        check(tmp_path / "none")


def test_our_own_release_is_clean(folder: Path) -> None:
    assert check(folder) == []


def test_what_the_hub_puts_beside_a_release_is_no_change(folder: Path) -> None:
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "x.lock").write_text("")
    assert check(folder) == []


def another_value(folder: Path) -> None:
    path = folder / "evaluation" / "evaluation.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["models"][0]["axes"]["reproduction"]["value"] += 0.1
    path.write_text(json.dumps(table), encoding="utf-8")


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no card": (lambda f: (f / "README.md").unlink(), "fail: is missing"),
    "yaml": (
        edit("README.md", "license: mit", "license: [mit"),
        "fail: its front matter is not YAML",
    ),
    "no base": (edit("README.md", "base_model: onmodel-toon\n", ""), "fail: lacks base_model"),
    "relation": (
        edit("README.md", "relation: adapter", "relation: merge"),
        "fail: calls a LoRA 'merge'",
    ),
    "other": (
        edit("README.md", "license: mit", "license: other"),
        "fail: license: other without license_name",
    ),
    "licence": (
        edit("README.md", "license: mit", "license: apache-2.0"),
        "fail: says the licence is 'apache-2.0'",
    ),
    "licence file": (
        lambda f: (f / "LICENSE.md").write_text(" ".join(FAIPL.marks)),
        "fail: says Fair AI Public License",
    ),
    "no licence file": (
        lambda f: (f / "LICENSE.md").unlink(),
        "fail: lacks the text of the MIT License",
    ),
    "anima": (edit("README.md", "onmodel-toon", "circlestone-labs/Anima"), "fail: lacks notices"),
    "unknown base": (
        edit("README.md", "base_model: onmodel-toon", "base_model: a/b"),
        "warn: a/b is not a base",
    ),
    "widget": (
        edit("README.md", "url: images/outfit-default.png", "url: images/x.png"),
        "fail: its widget shows",
    ),
    "tag": (edit("README.md", "- lora\n", ""), "warn: lacks the tag lora"),
    "number": (
        edit("README.md", "## Files", "Right: 87.5 %.\n\n## Files"),
        "fail: 87.5 stands in no",
    ),
    "value": (another_value, "fail: "),
    "table": (edit("evaluation/table.csv", "0.", "1."), "fail: does not hold the numbers"),
    "trigger": (
        edit("triggers.json", "images/outfit-beach.png", "images/x.png"),
        "fail: beach shows images/x.png",
    ),
    "words": (
        edit("triggers.json", "1girl, backgwa, dress", "loli, nude"),
        "fail: 'loli' with 'nude'",
    ),
    "picture": (
        lambda f: Image.new("RGB", (8, 8)).save(f / "images" / "outfit-beach.png"),
        "warn: has no parameters",
    ),
    "path": (
        edit("README.md", "## Files", "Made in /home/someone/loras.\n\n## Files"),
        "fail: names a folder of",
    ),
    "pickle": (lambda f: (f / "extra.pt").write_bytes(b"x"), "fail: is a pickle"),
    "weights": (lambda f: next(f.glob("*.safetensors")).unlink(), "fail: holds no .safetensors"),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
def test_each_fault_of_a_folder_is_found_even_with_new_hashes(folder: Path, fault: str) -> None:
    change, said = FOLDER_FAULTS[fault]
    change(folder)
    assert any(
        "was changed" in line or "is missing" in line for line in found(folder)
    )  # without new hashes
    rebind(folder)
    lines = found(folder)
    assert any(said in line for line in lines), list(lines)


def test_a_folder_of_another(tmp_path: Path) -> None:
    """No lineage, no tables: measured-looking numbers and silent pictures are told, the rest is as
    in any folder."""
    save_file(plain(), tmp_path / "x.safetensors", WORDS)
    head = f"""---
base_model: circlestone-labs/Anima
base_model_relation: adapter
library_name: diffusers
pipeline_tag: text-to-image
instance_prompt: backgwa
license: other
license_name: {CIRCLESTONE.name}
license_link: {CIRCLESTONE.link}
tags: [lora]
---
"""
    (tmp_path / "README.md").write_text(
        head + "It is right in 93 % of pictures, 0.91 [0.87, 0.95].\n"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    lines = found(tmp_path)
    assert {line.split(":")[0] for line in lines} == {"fail", "warn"}
    assert any("2 numbers look measured (93 %)" in line for line in lines)
    assert any("lacks the text of the CircleStone" in line for line in lines)
    assert any("lacks notices" in line for line in lines)
    assert any("has no parameters" in line for line in lines)
    assert len(lines) == 4


def test_the_command_says_a_line_each_and_its_exit_code(tmp_path: Path) -> None:
    save_file(plain(fill=float("nan")), tmp_path / "x.safetensors", WORDS)
    command = ("release", "check", tmp_path / "x.safetensors")
    run = onmodel(*command)
    assert run.returncode == 1 and run.stdout.splitlines()[0].startswith(
        "fail  x.safetensors: blocks.0.self_attn"
    )
    table = json.loads(onmodel(*command, "--json").stdout)
    assert table["errors"] == 1 and table["findings"][0]["status"] == "fail"
    save_file(plain(), tmp_path / "x.safetensors", WORDS)
    assert onmodel(*command).returncode == 0
