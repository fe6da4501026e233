"""Whole differences of weights and norms, and DoRA over LoKr: read, applied, converted and merged
exactly, or refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.anima.family import Anima
from onmodel.families.anima.single_file import export_single_files
from onmodel.families.anima.spec import make_spec, published, spec_of_folder
from onmodel.families.protocol import Linear
from onmodel.families.registry import load_base
from onmodel.lora.convert import convert
from onmodel.lora.tensors import applied, check_backbone_alone, read_lora, write_lora
from onmodel.release.check import check
from onmodel.release.weight_checks import who_loads
from onmodel.toon.base import TOON_BASE
from tests.support.command_line import onmodel

LAYER = "blocks.0.self_attn.q_proj"
NORM = "blocks.0.self_attn.q_norm"
OF_CONDITIONER = "llm_adapter.blocks.0.norm_mlp"
OF_ENCODER = "text_encoders.qwen3_06b.transformer.model.layers.0.input_layernorm"
NORMS = {"t_embedding_norm", NORM, OF_CONDITIONER, OF_ENCODER}


@pytest.fixture(scope="module")
def toon() -> Anima:
    family = load_base("toon")
    assert isinstance(family, Anima)
    return family


def row_of(family: Anima, name: str) -> Linear:
    return next(row for row in family.spec.lora_linears if row.name == name)


def weight_of(family: Anima, name: str) -> Tensor:
    row = row_of(family, name)
    weight = family.component(row.component).get_submodule(row.diffusers).weight
    assert isinstance(weight, Tensor)
    return weight


def write(path: Path, family: Anima, seed: int = 0, ending: str = "diff") -> dict[str, Tensor]:
    """A file with the whole difference of a layer and of four norms; name → difference."""
    torch.manual_seed(seed)
    found = {name: 0.1 * torch.randn(weight_of(family, name).shape) for name in (LAYER, *NORMS)}
    tensors = {}
    for name, difference in found.items():
        stem = name if name == OF_ENCODER else f"diffusion_model.{name}"
        tensors[f"{stem}.{'diff' if name == LAYER else ending}"] = difference
    save_file(tensors, path)
    return found


def test_configs_give_the_norms_of_the_loaded_model(toon: Anima) -> None:
    assert set(spec_of_folder(TOON_BASE).norms) == set(toon.spec.norms)
    transformer = [row for row in published().norms if row.component is None]
    assert len(transformer) == 1 + 4 * 28
    assert all(row.in_features == 1 for row in toon.spec.norms)
    assert {row.component for row in make_spec(toon.backbone).norms} == {None}


@pytest.mark.parametrize("ending", ["diff", "w_norm"])
def test_applied_adds_them_and_takes_them_back(tmp_path: Path, toon: Anima, ending: str) -> None:
    wanted = write(tmp_path / "x.safetensors", toon, ending=ending)
    lora = read_lora(tmp_path / "x.safetensors", toon.spec)
    assert set(lora.modules) == set(wanted)
    before = {name: weight_of(toon, name).clone() for name in wanted}
    (text,) = toon.encode_text(["1girl"])
    with applied(toon, lora, 0.5):
        for name, difference in wanted.items():
            torch.testing.assert_close(weight_of(toon, name), before[name] + 0.5 * difference)
        (changed,) = toon.encode_text(["1girl"])
    assert not torch.allclose(text.tensors()["rows"], changed.tensors()["rows"])
    assert all(torch.equal(weight_of(toon, name), one) for name, one in before.items())


@pytest.mark.parametrize("layout", ["common", "kohya"])
def test_converting_keeps_them_as_they_are(tmp_path: Path, toon: Anima, layout: str) -> None:
    source, out = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    wanted = write(source, toon)
    convert(source, out, layout)  # type: ignore[arg-type]
    tensors = load_file(out)
    assert all(key.endswith(".diff") for key in tensors)
    assert sorted(one.shape for one in tensors.values()) == sorted(
        one.shape for one in wanted.values()
    )
    read = read_lora(out, toon.spec)
    for name, difference in wanted.items():
        assert torch.equal(read.modules[name].delta().reshape(difference.shape), difference)


def test_the_diffusers_layout_has_no_norms(tmp_path: Path, toon: Anima) -> None:
    source, out = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    write(source, toon)
    with pytest.raises(InputError, match=r"changes 4 norms .* leave them out: --leave-out diff"):
        convert(source, out, "diffusers")


def test_merging_is_the_weighted_sum(tmp_path: Path, toon: Anima) -> None:
    one, other = (tmp_path / f"{name}.safetensors" for name in "ab")
    parts = [write(one, toon, 1), write(other, toon, 2)]
    for out, options in (("exact", []), ("rank", ["--rank", "4"])):
        path = tmp_path / f"{out}.safetensors"
        run = onmodel(
            "lora", "merge", "run", one, other, "-o", path, "--weights", "0.7,-0.2", *options
        )
        assert run.returncode == 0, run.stderr
        merged = read_lora(path, toon.spec).modules
        for name in NORMS:
            wanted = 0.7 * parts[0][name] - 0.2 * parts[1][name]
            torch.testing.assert_close(merged[name].delta()[:, 0], wanted)
    exact = read_lora(tmp_path / "exact.safetensors", toon.spec).modules[LAYER].delta()
    torch.testing.assert_close(exact, 0.7 * parts[0][LAYER] - 0.2 * parts[1][LAYER])


def test_norms_beside_a_lora_do_not_change_its_alpha(tmp_path: Path, toon: Anima) -> None:
    row = row_of(toon, LAYER)
    stem = "lora_unet_blocks_0_self_attn_q_proj"
    tensors = {
        f"{stem}.lora_down.weight": torch.randn(8, row.in_features),
        f"{stem}.lora_up.weight": torch.randn(row.out_features, 8),
        f"{stem}.alpha": torch.tensor(2.0),
        f"lora_unet_{NORM.replace('.', '_')}.w_norm": torch.randn(weight_of(toon, NORM).shape),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    lora = read_lora(tmp_path / "x.safetensors", toon.spec)
    assert lora.trained_alpha == 2.0
    write_lora(tmp_path / "y.safetensors", lora, {}, layout="kohya")
    again = load_file(tmp_path / "y.safetensors")
    assert set(again) == {key.replace(".w_norm", ".diff") for key in tensors}
    for key, tensor in tensors.items():
        assert torch.equal(again[key.replace(".w_norm", ".diff")], tensor)


def test_a_checkpoint_takes_them(tmp_path: Path, toon: Anima) -> None:
    dit = next(path for path in export_single_files(TOON_BASE, tmp_path) if "dit" in path.name)
    source, out = tmp_path / "x.safetensors", tmp_path / "out.safetensors"
    wanted = write(tmp_path / "w.safetensors", toon)
    convert(tmp_path / "w.safetensors", source, "common", ["text_encoder"])
    run = onmodel("lora", "into", dit, source, "-o", out)
    assert run.returncode == 0, run.stderr
    before, after = load_file(dit), load_file(out)
    for name in (LAYER, NORM, OF_CONDITIONER):
        key = f"net.{name}.weight"
        torch.testing.assert_close(
            after[key].float(), before[key].float() + wanted[name], rtol=1e-2, atol=1e-2
        )


def test_training_and_releases_refuse_them_with_a_remedy(tmp_path: Path, toon: Anima) -> None:
    write(tmp_path / "x.safetensors", toon)
    lora = read_lora(tmp_path / "x.safetensors", toon.spec)
    with pytest.raises(InputError, match=r"are not trained here; .*--leave-out diff writes"):
        check_backbone_alone(lora, toon.spec, "start", "x", "are not trained here")


def test_check_tells_who_loads_them(tmp_path: Path, toon: Anima) -> None:
    write(tmp_path / "x.safetensors", toon)
    found = [row for row in check(tmp_path / "x.safetensors") if "diffusers" in row.text]
    (row,) = found
    assert row.status == "warn" and "ValueError" in row.text and "--leave-out diff" in row.remedy
    loads = who_loads(tmp_path / "x.safetensors")
    assert loads["ComfyUI"] == (5, 5) and loads["diffusers"] == (0, 5)


def test_a_difference_of_another_size_is_refused(tmp_path: Path, toon: Anima) -> None:
    save_file({f"diffusion_model.{NORM}.diff": torch.ones(3)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=f"{NORM} is 3×1.*--leave-out diff"):
        read_lora(tmp_path / "x.safetensors", toon.spec)


def test_a_dora_of_some_layers_beside_a_norm_is_written_again(tmp_path: Path, toon: Anima) -> None:
    norm = weight_of(toon, NORM)
    tensors = {f"diffusion_model.{NORM}.diff": torch.randn(norm.shape)}
    for name in (LAYER, "blocks.0.self_attn.k_proj"):
        row, stem = row_of(toon, name), f"diffusion_model.{name}"
        tensors[f"{stem}.lora_A.weight"] = torch.randn(2, row.in_features)
        tensors[f"{stem}.lora_B.weight"] = torch.randn(row.out_features, 2)
    tensors[f"diffusion_model.{LAYER}.dora_scale"] = torch.rand(row.out_features, 1)
    save_file(tensors, tmp_path / "x.safetensors")
    write_lora(
        tmp_path / "y.safetensors", read_lora(tmp_path / "x.safetensors", toon.spec, dora=True), {}
    )
    again = load_file(tmp_path / "y.safetensors")
    assert set(again) == {*tensors, f"diffusion_model.{LAYER}.lora_magnitude_vector"}
    assert all(torch.equal(again[key], tensor) for key, tensor in tensors.items())


@pytest.mark.parametrize("kind", ["lokr", "hada"])
def test_dora_over_lokr_and_loha_brings_the_rows_to_their_lengths(
    tmp_path: Path, toon: Anima, kind: str
) -> None:
    row, stem = row_of(toon, LAYER), f"diffusion_model.{LAYER}"
    out, in_ = row.out_features, row.in_features
    if kind == "lokr":
        tensors = {f"{stem}.lokr_w1": torch.randn(4, 4)}
        tensors[f"{stem}.lokr_w2"] = torch.randn(out // 4, in_ // 4)
        delta = torch.kron(*tensors.values())
    else:
        sides = {
            f"{stem}.hada_{w}_{x}": torch.randn((out, 2) if x == "a" else (2, in_))
            for w in ("w1", "w2")
            for x in "ab"
        }
        tensors, (one, two, three, four) = sides, sides.values()
        delta = (one @ two) * (three @ four)
    lengths = torch.rand(out, 1) + 0.5
    save_file({**tensors, f"{stem}.dora_scale": lengths}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="is DoRA"):
        read_lora(tmp_path / "x.safetensors", toon.spec)
    lora = read_lora(tmp_path / "x.safetensors", toon.spec, dora=True)
    before = weight_of(toon, LAYER).clone()
    whole = before + delta
    wanted = whole * lengths / whole.norm(dim=1, keepdim=True)
    with applied(toon, lora, 1.0):
        np.testing.assert_allclose(weight_of(toon, LAYER), wanted, rtol=1e-5, atol=1e-5)
    with applied(toon, lora, 0.5):
        np.testing.assert_allclose(
            weight_of(toon, LAYER), (before + wanted) / 2, rtol=1e-5, atol=1e-5
        )
    assert torch.equal(weight_of(toon, LAYER), before)
