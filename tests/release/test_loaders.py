"""What loaders of this field do with each layout, as measured here: the reasons for what onmodel
writes and warns of.

When a new version of diffusers or safetensors behaves otherwise, a test here says so.
"""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AnimaAutoBlocks
from safetensors.torch import load_file, save_file

from onmodel.families.anima.loaders import RULES
from onmodel.families.anima.spec import spec_of_shapes
from onmodel.hashing import sha256_file
from onmodel.lora.layouts import name_table, parse_key
from onmodel.release.loaders import loaded_layers
from onmodel.weights import write_weights
from tests.support.lora_layouts import LAYOUTS, SPEC, as_keys, random_lora, small


def load(path: Path) -> dict[str, torch.nn.Module]:
    """The adapter layers that diffusers makes of a file."""
    pipeline = AnimaAutoBlocks().init_pipeline()
    transformer = small(2)
    pipeline.update_components(transformer=transformer)
    pipeline.load_lora_weights(str(path), adapter_name="x")
    return {name: layer for name, layer in transformer.named_modules() if hasattr(layer, "lora_A")}


def test_the_common_layout_loads_whole(tmp_path: Path) -> None:
    layers = load(LAYOUTS["common"](tmp_path, random_lora()))
    assert len(layers) == len(random_lora().modules)


def test_kohyas_layout_loads_nothing_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert load(LAYOUTS["kohya"](tmp_path, random_lora())) == {}


def test_alpha_under_the_dotted_names_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        load(LAYOUTS["dotted with alpha"](tmp_path, random_lora()))


def test_down_and_up_under_the_dotted_names_is_an_index_error(tmp_path: Path) -> None:
    write = as_keys(".lora_down.weight", ".lora_up.weight", None, "diffusion_model.{}".format)
    with pytest.raises(IndexError):
        load(write(tmp_path, random_lora()))


Q, T = "blocks.0.self_attn.q_proj", "transformer_blocks.0.attn1.to_q"
STEMS = (
    f"diffusion_model.{Q}",
    f"transformer.{T}",
    f"transformer.{Q}",
    f"transformer.core.{T}",
    f"net.{Q}",
    f"model.diffusion_model.{Q}",
    f"base_model.model.{T}",
    f"base_model.model.transformer.{T}",
    T,
    Q,
    "lora_unet_" + Q.replace(".", "_"),
    "lora_transformer_" + T.replace(".", "_"),
    "lycoris_" + Q.replace(".", "_"),
)
ENDINGS = {
    "A and B": (".lora_A.weight", ".lora_B.weight"),
    "down and up": (".lora_down.weight", ".lora_up.weight"),
    "lora.down": (".lora.down.weight", ".lora.up.weight"),
    "default": (".lora_A.default.weight", ".lora_B.default.weight"),
    "named": (".lora_A.mychar.weight", ".lora_B.mychar.weight"),
    "alpha": (".lora_A.weight", ".lora_B.weight", ".alpha"),
    "LoKr": (".lokr_w1", ".lokr_w2"),
}


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_we_say_of_diffusers_is_what_it_does(tmp_path: Path, stem: str, ending: str) -> None:
    tensors = {f"{stem}{end}": torch.ones(32, 32) for end in ENDINGS[ending]}
    save_file(tensors, tmp_path / "x.safetensors")
    table = name_table(spec_of_shapes(2))
    layers = {key: found[0] for key in tensors if (found := parse_key(key, table)) is not None}
    assert len(layers) == len(tensors)
    try:
        done = load(tmp_path / "x.safetensors")
    except (ValueError, IndexError) as error:
        said = RULES.diffusers_stops(tensors)
        assert said and said[0].error.split()[-1] == type(error).__name__
    else:
        # an adapter under another name gets a layer whose weights are never filled
        filled = [layer for layer in done.values() if not layer.lora_B["x"].weight.is_meta]
        assert not RULES.diffusers_stops(tensors)
        assert len(loaded_layers("diffusers", layers, RULES)) == len(filled)


def test_diffusers_scales_by_its_own_metadata(tmp_path: Path) -> None:
    path = LAYOUTS["diffusers"](tmp_path, random_lora())
    assert {layer.scaling["x"] for layer in load(path).values()} == {1.0}
    modules = [linear.diffusers for linear in SPEC.targets("attention_mlp")]
    config = {
        "transformer.r": 4,
        "transformer.lora_alpha": 1,
        "transformer.target_modules": modules,
    }
    save_file(load_file(path), path, {"lora_adapter_metadata": json.dumps(config)})
    assert {layer.scaling["x"] for layer in load(path).values()} == {1.0 / 4}


def test_safetensors_writes_another_file_each_time_and_we_do_not(tmp_path: Path) -> None:
    """Its metadata keys come in the order of a map with random seeds; of 12 keys two files rarely
    agree."""
    words = {f"key{i}": str(i) for i in range(12)}
    tensors = {"a": torch.ones(2)}
    theirs, ours = set(), set()
    for i in range(8):
        save_file(tensors, tmp_path / f"{i}", words)
        theirs.add(sha256_file(tmp_path / f"{i}"))
        write_weights(tmp_path / f"{i}", tensors, words)
        ours.add(sha256_file(tmp_path / f"{i}"))
    assert len(theirs) > 1 and len(ours) == 1


def test_a_name_with_underscores_cannot_be_guessed_back() -> None:
    """`output_proj` has one of its own: why names are looked up in a table of the model's."""
    flat = [linear.name.replace(".", "_") for linear in SPEC.linears]
    assert len(set(flat)) == len(flat)
    assert any("_" in linear.name.rpartition(".")[2] for linear in SPEC.linears)
