"""A LoRA in another layout is the same LoRA: ΔW, words, history; and ComfyUI finds every tensor of
it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.anima.single_file import export_single_files
from onmodel.ledger.lineage import check, root
from onmodel.lora import header
from onmodel.lora.convert import convert
from onmodel.lora.specs import spec_of_loras
from onmodel.lora.tensors import Factors, Lora, read_lora, write_lora
from onmodel.release.compatibility import load_in_diffusers
from onmodel.toon.base import TOON_BASE
from onmodel.weights import payload_sha256, read_metadata
from tests.support.lora_layouts import FACTS, LAYOUTS, SPEC, deltas, history, random_lora

TARGETS = ("common", "kohya", "diffusers")


def assert_same_change(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert list(one) == list(two)
    for name in one:
        assert float((one[name] - two[name]).norm() / one[name].norm()) <= 1e-6, name


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", LAYOUTS)
def test_every_layout_becomes_every_other_with_the_same_change(
    tmp_path: Path, source: str, target: str
) -> None:
    lora = random_lora(alpha=3.0)  # not a power of two: folding it must not cost digits
    (tmp_path / "in").mkdir()
    given = LAYOUTS[source](tmp_path / "in", lora)
    wanted = deltas(read_lora(given, SPEC))
    convert(given, tmp_path / "out.safetensors", target)  # type: ignore[arg-type]
    assert_same_change(wanted, deltas(read_lora(tmp_path / "out.safetensors", SPEC)))


def test_words_and_history_are_kept(tmp_path: Path) -> None:
    past = history()
    write_lora(
        tmp_path / "a.safetensors", random_lora(alpha=2.0), header.build(FACTS, past, ss_epoch="4")
    )
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "kohya")
    convert(tmp_path / "b.safetensors", tmp_path / "c.safetensors", "common")
    words = read_metadata(tmp_path / "c.safetensors")
    lineage = json.loads(words[header.RECIPE_KEY])
    check(lineage)
    assert set(past) < set(lineage) and lineage[root(lineage)]["layout"] == "common"
    assert words["modelspec.trigger_phrase"] == "backgwa" and words["ss_epoch"] == "4"
    assert words["ss_network_alpha"] == "2" and words["sshs_model_hash"] == payload_sha256(
        tmp_path / "c.safetensors"
    )
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        alphas = {float(file.get_tensor(key)) for key in file.keys() if key.endswith(".alpha")}  # noqa: SIM118
    assert alphas == {2.0}  # the alpha of its training, so that it can be trained on as it was


def test_a_file_from_elsewhere_stays_of_unknown_origin(tmp_path: Path) -> None:
    given = LAYOUTS["kohya"](tmp_path, random_lora())
    convert(given, tmp_path / "out.safetensors", "common")
    lineage = json.loads(read_metadata(tmp_path / "out.safetensors")[header.RECIPE_KEY])
    assert {node["type"] for node in lineage.values()} == {"model", "conversion"}
    assert next(node for node in lineage.values() if node["type"] == "model")["origin"] == "unknown"


def test_bfloat16_stays_where_it_is_exact(tmp_path: Path) -> None:
    lora = random_lora(alpha=3.0)
    write_lora(tmp_path / "a.safetensors", lora, {}, "kohya", "BF16")
    assert convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors", "kohya").dtype == "BF16"
    assert convert(tmp_path / "a.safetensors", tmp_path / "c.safetensors", "common").dtype == "F32"
    assert_same_change(*(deltas(read_lora(tmp_path / f"{x}.safetensors", SPEC)) for x in "ac"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    given = LAYOUTS["common"](tmp_path, random_lora())
    with pytest.raises(InputError, match="exists already"):
        convert(given, given, "kohya")
    with pytest.raises(InputError, match="none of its"):
        write_stranger(tmp_path / "s.safetensors")
        convert(tmp_path / "s.safetensors", tmp_path / "t.safetensors", "common")
    assert not (tmp_path / "t.safetensors").exists()


def write_stranger(path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"lora_unet_down_blocks_1_attn.lora_down.weight": torch.ones(2, 2)}, path)


def comfyui_change(file: Path, dit: Path) -> tuple[dict[str, Tensor], set[str]]:
    """ΔW of every layer that ComfyUI would patch, and the tensors that it would leave out.

    By its documented naming: a weight `diffusion_model.X.weight` of the loaded model is called
    `lora_unet_` + X with underscores for dots, or `diffusion_model.X`; a LoRA has
    `.lora_up/.lora_down` or `.lora_B/.lora_A`, and `.alpha`, without which the product is taken as
    it is.
    """
    with safe_open(dit, "pt") as model:
        weights = [key for key in list(model.keys()) if key.endswith(".weight")]
        layers = [key.removeprefix("net.").removesuffix(".weight") for key in weights]
    tensors, found = load_file(file), {}
    left = set(tensors)
    for layer in layers:
        for name in ("lora_unet_" + layer.replace(".", "_"), f"diffusion_model.{layer}"):
            for down, up in (
                (".lora_down.weight", ".lora_up.weight"),
                (".lora_A.weight", ".lora_B.weight"),
            ):
                if name + down in tensors and name + up in tensors:
                    a, b = tensors[name + down].float(), tensors[name + up].float()
                    alpha = tensors.get(f"{name}.alpha")
                    found[layer] = (1.0 if alpha is None else float(alpha) / a.shape[0]) * (b @ a)
                    left -= {name + down, name + up, f"{name}.alpha"}
    return found, left


@pytest.fixture(scope="module")
def toon_lora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A random LoRA in kohya's layout for the shipped base, and that base's DiT in ComfyUI's single
    file."""
    from onmodel.families.registry import load_base
    from onmodel.randomness import normal

    folder = tmp_path_factory.mktemp("toon_lora")
    dit = next(path for path in export_single_files(TOON_BASE, folder) if "dit" in path.name)
    modules = {}
    for linear in load_base("toon").spec.targets("attention_mlp_adaln"):
        down = torch.from_numpy(normal((4, linear.in_features), 1, "down", linear.name))
        up = torch.from_numpy(normal((linear.out_features, 4), 1, "up", linear.name))
        modules[linear.name] = Factors(down, up, 3.0)
    write_lora(folder / "kohya.safetensors", Lora(modules), {"ss_network_alpha": "3"}, "kohya")
    return folder / "kohya.safetensors", dit


@pytest.mark.parametrize("target", ["common", "kohya"])
def test_comfyui_patches_every_layer_with_the_same_change(
    toon_lora: tuple[Path, Path], tmp_path: Path, target: str
) -> None:
    source, dit = toon_lora
    convert(source, tmp_path / "out.safetensors", target)  # type: ignore[arg-type]
    found, left = comfyui_change(tmp_path / "out.safetensors", dit)
    wanted = deltas(read_lora(source, spec_of_loras([source])))
    assert not left
    assert_same_change(dict(sorted(wanted.items())), dict(sorted(found.items())))


def test_comfyui_leaves_out_diffusers_names(toon_lora: tuple[Path, Path], tmp_path: Path) -> None:
    convert(toon_lora[0], tmp_path / "out.safetensors", "diffusers")
    found, left = comfyui_change(tmp_path / "out.safetensors", toon_lora[1])
    assert not found and left == set(load_file(tmp_path / "out.safetensors"))


@pytest.mark.parametrize("target", ["common", "diffusers"])
def test_diffusers_consumes_every_tensor(
    toon_lora: tuple[Path, Path], tmp_path: Path, target: str
) -> None:
    """tests/stages/test_release.py does the same in a clean process."""
    convert(toon_lora[0], tmp_path / "out.safetensors", target)  # type: ignore[arg-type]
    report = load_in_diffusers(tmp_path / "out.safetensors", "anima", TOON_BASE)
    assert report.keys == report.consumed == 2 * report.layers and report.error <= 1e-6
