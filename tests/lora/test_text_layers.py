"""Layers of the text conditioner and the text encoder are read, told, converted, merged and applied
as those of the transformer are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.anima.family import Anima
from onmodel.families.anima.single_file import export_single_files
from onmodel.families.anima.spec import PUBLISHED, make_spec, published, spec_of_folder
from onmodel.families.protocol import Linear
from onmodel.families.registry import load_base
from onmodel.lora.convert import convert
from onmodel.lora.specs import spec_of_loras
from onmodel.lora.tensors import Factors, Lora, applied, read_lora
from onmodel.sample.sampler import Job, sample
from onmodel.sample.sampling import Sampling
from onmodel.toon.base import TOON_BASE
from tests.support.command_line import onmodel

CONDITIONER = "llm_adapter.blocks.0.cross_attn.k_proj"
ENCODER = "text_encoders.qwen3_06b.transformer.model.layers.0.mlp.down_proj"
BACKBONE = "blocks.0.self_attn.q_proj"
# A file's spellings of the two layers.
SPELLINGS = {
    "ComfyUI": (f"diffusion_model.{CONDITIONER}", ENCODER),
    "kohya": (
        "lora_unet_" + CONDITIONER.replace(".", "_"),
        "lora_te_layers_0_mlp_down_proj",
    ),
    "diffusers": (
        "text_conditioner.blocks.0.cross_attn.k_proj",
        "text_encoder.layers.0.mlp.down_proj",
    ),
}


@pytest.fixture(scope="module")
def toon() -> Anima:
    family = load_base("toon")
    assert isinstance(family, Anima)
    return family


def linear(family: Anima, name: str) -> Linear:
    return next(row for row in family.spec.lora_linears if row.name == name)


def write(path: Path, family: Anima, stems: dict[str, str], fill: float = 0.3) -> Path:
    """A LoRA with one layer for each stem (stem → the layer's name)."""
    tensors: dict[str, Tensor] = {}
    for stem, name in stems.items():
        row = linear(family, name)
        tensors[f"{stem}.lora_A.weight"] = torch.full((2, row.in_features), fill)
        tensors[f"{stem}.lora_B.weight"] = torch.full((row.out_features, 2), fill)
    save_file(tensors, path)
    return path


def three(path: Path, family: Anima, tool: str = "ComfyUI") -> Path:
    conditioner, encoder = SPELLINGS[tool]
    stems = {
        f"diffusion_model.{BACKBONE}": BACKBONE,
        conditioner: CONDITIONER,
        encoder: ENCODER,
    }
    return write(path, family, stems)


def test_configs_give_the_text_layers_of_the_loaded_model(toon: Anima) -> None:
    assert set(spec_of_folder(TOON_BASE).text_linears) == set(toon.spec.text_linears)
    assert len(published().text_linears) == 28 * 7 + 6 * 10 + 1 == 257
    assert make_spec(toon.backbone).text_linears == ()
    assert {row.component for row in published().text_linears} == set(PUBLISHED) - {
        "transformer",
        "vae",
    }


@pytest.mark.parametrize("tool", SPELLINGS)
def test_every_spelling_of_the_text_layers_is_read(tmp_path: Path, toon: Anima, tool: str) -> None:
    read = read_lora(three(tmp_path / "x.safetensors", toon, tool), toon.spec)
    assert set(read.modules) == {BACKBONE, CONDITIONER, ENCODER}
    row = linear(toon, ENCODER)
    expected = torch.full((row.out_features, row.in_features), 2 * 0.3 * 0.3)
    torch.testing.assert_close(read.modules[ENCODER].delta(), expected)


@pytest.mark.parametrize("layout", ["common", "kohya", "diffusers"])
def test_converting_keeps_them(tmp_path: Path, toon: Anima, layout: str) -> None:
    source = three(tmp_path / "x.safetensors", toon)
    out = tmp_path / "y.safetensors"
    report = convert(source, out, layout)  # type: ignore[arg-type]
    assert report.layers == {None: 1, "text_conditioner": 1, "text_encoder": 1}
    before, after = read_lora(source, toon.spec).modules, read_lora(out, toon.spec).modules
    assert set(before) == set(after)
    for name, factors in before.items():
        torch.testing.assert_close(after[name].delta(), factors.delta())
    tool = {"common": "ComfyUI"}.get(layout, layout)
    keys = load_file(out)
    assert all(any(key.startswith(stem) for key in keys) for stem in SPELLINGS[tool])


def test_each_part_has_the_scale_that_diffusers_keeps_for_it(tmp_path: Path, toon: Anima) -> None:
    source = three(tmp_path / "x.safetensors", toon, "diffusers")
    config = {
        "transformer.r": 2,
        "transformer.lora_alpha": 4,
        "text_conditioner.r": 2,
        "text_conditioner.lora_alpha": 1,
    }
    words = {"lora_adapter_metadata": json.dumps(config)}
    save_file(load_file(source), tmp_path / "y.safetensors", words)
    read = read_lora(tmp_path / "y.safetensors", toon.spec).modules
    alphas = {name: factors.alpha for name, factors in read.items()}
    assert alphas == {BACKBONE: 4.0, CONDITIONER: 1.0, ENCODER: 2.0}


def test_parts_can_be_left_out(tmp_path: Path, toon: Anima) -> None:
    source, out = three(tmp_path / "x.safetensors", toon), tmp_path / "y.safetensors"
    convert(source, out, "common", ["text_encoder", "text_conditioner"])
    assert set(read_lora(out, toon.spec).modules) == {BACKBONE}


@pytest.mark.parametrize("name", [CONDITIONER, ENCODER])
def test_applied_changes_the_text_and_takes_it_back(tmp_path: Path, toon: Anima, name: str) -> None:
    stems = {f"diffusion_model.{BACKBONE}": BACKBONE, SPELLINGS["diffusers"][name == ENCODER]: name}
    lora = read_lora(write(tmp_path / "x.safetensors", toon, stems), toon.spec)
    captions = ["1girl, smile", "a dog"]
    before = toon.encode_text(captions)
    row = linear(toon, name)
    weight = toon.component(row.component).get_submodule(row.diffusers).weight
    original = weight.clone()
    with applied(toon, lora, 0.5):
        torch.testing.assert_close(weight, original + 0.5 * lora.modules[name].delta())
        changed = toon.encode_text(captions)
        assert toon.encode_text(captions)[0] is changed[0]
        for one, other in zip(before, changed, strict=True):
            assert not torch.allclose(one.tensors()["rows"], other.tensors()["rows"])
    assert torch.equal(weight, original)
    assert toon.encode_text(captions)[0] is before[0]


@pytest.mark.parametrize("name", [CONDITIONER, ENCODER])
def test_a_picture_shows_a_change_of_the_text_layers(
    tmp_path: Path, toon: Anima, name: str
) -> None:
    """The transformer's own layer changes nothing here, and the prompt was encoded before."""
    row = linear(toon, name)
    lora = Lora(
        {name: Factors(torch.randn(2, row.in_features), torch.randn(row.out_features, 2), 2.0)}
    )
    jobs = [Job("1girl, smile", "bad", 1, 64, 64)]
    before = sample(toon, jobs, Sampling(2, 3.0, 1.0))
    none = Factors(torch.ones(1, row.in_features), torch.zeros(row.out_features, 1), 1.0)
    plain = linear(toon, BACKBONE)
    still = Factors(torch.ones(1, plain.in_features), torch.zeros(plain.out_features, 1), 1.0)
    with applied(toon, Lora({BACKBONE: still, **lora.modules}), 1.0):
        changed = sample(toon, jobs, Sampling(2, 3.0, 1.0))
    with applied(toon, Lora({BACKBONE: still, name: none}), 1.0):
        unchanged = sample(toon, jobs, Sampling(2, 3.0, 1.0))
    assert (changed - before).abs().max() > 1e-4
    torch.testing.assert_close(unchanged, before)
    torch.testing.assert_close(sample(toon, jobs, Sampling(2, 3.0, 1.0)), before)


def test_a_checkpoint_takes_the_conditioners_layers_and_names_the_encoders(
    tmp_path: Path, toon: Anima
) -> None:
    dit = next(path for path in export_single_files(TOON_BASE, tmp_path) if "dit" in path.name)
    out, source = tmp_path / "out.safetensors", three(tmp_path / "x.safetensors", toon)
    run = onmodel("lora", "into", dit, source, "-o", out)
    assert run.returncode == 2 and "--leave-out text_encoder" in run.stderr
    convert(source, tmp_path / "y.safetensors", "common", ["text_encoder"])
    run = onmodel("lora", "into", dit, tmp_path / "y.safetensors", "-o", out)
    assert run.returncode == 0, run.stderr
    before, after = (load_file(path)[f"net.{CONDITIONER}.weight"] for path in (dit, out))
    change = read_lora(source, toon.spec).modules[CONDITIONER].delta()
    torch.testing.assert_close(after.float(), before.float() + change, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("key", ["absmax", "quant_state.bitsandbytes__nf4", "scale_weight"])
def test_quantised_files_are_named(tmp_path: Path, toon: Anima, key: str) -> None:
    source = three(tmp_path / "x.safetensors", toon)
    beside = f"diffusion_model.{BACKBONE}.lora_A.weight.{key}"
    save_file({**load_file(source), beside: torch.ones(4)}, tmp_path / "y.safetensors")
    with pytest.raises(InputError, match=r"is quantised .*; use the bfloat16 or float32 file"):
        read_lora(tmp_path / "y.safetensors", toon.spec)


def test_another_model_with_the_same_text_encoder_is_named(tmp_path: Path, toon: Anima) -> None:
    stems = {"lora_te_layers_0_mlp_down_proj": ENCODER}
    source = write(tmp_path / "x.safetensors", toon, stems)
    other = {"lora_unet_layers_0_attention_qkv.lora_down.weight": torch.ones(4, 8)}
    save_file({**load_file(source), **other}, tmp_path / "y.safetensors")
    with pytest.raises(InputError, match="is a LoRA for Lumina 2 or Z-Image, not for anima"):
        read_lora(tmp_path / "y.safetensors", toon.spec)


def test_a_lora_of_the_transformer_encodes_no_text_again(toon: Anima) -> None:
    row = linear(toon, BACKBONE)
    factors = Factors(torch.ones(1, row.in_features), torch.ones(row.out_features, 1), 1.0)
    (text,) = toon.encode_text(["1girl"])
    with applied(toon, Lora({BACKBONE: factors}), 1.0):
        assert toon.encode_text(["1girl"])[0] is text


def test_merging_keeps_them(tmp_path: Path, toon: Anima) -> None:
    one = three(tmp_path / "one.safetensors", toon)
    stems = {f"diffusion_model.{BACKBONE}": BACKBONE}
    other = write(tmp_path / "other.safetensors", toon, stems, fill=0.1)
    out = tmp_path / "m.safetensors"
    run = onmodel("lora", "merge", "run", one, other, "-o", out, "--weights", "1,1")
    assert run.returncode == 0, run.stderr
    merged = read_lora(out, toon.spec).modules
    wanted = read_lora(one, toon.spec).modules
    assert set(merged) == {BACKBONE, CONDITIONER, ENCODER}
    torch.testing.assert_close(merged[ENCODER].delta(), wanted[ENCODER].delta())


def test_layers_of_wrapped_modules_can_be_left_out(tmp_path: Path, toon: Anima) -> None:
    wrapped = CONDITIONER.replace("llm_adapter.", "diffusion_model.llm_adapter._orig_mod.")
    path = write(tmp_path / "x.safetensors", toon, {BACKBONE: BACKBONE, wrapped: CONDITIONER})
    convert(path, tmp_path / "y.safetensors", "common", ["text_conditioner"])
    assert not any("llm_adapter" in key for key in load_file(tmp_path / "y.safetensors"))


def test_a_file_of_the_text_encoder_alone_is_refused(tmp_path: Path, toon: Anima) -> None:
    path = write(tmp_path / "x.safetensors", toon, {"lora_te_layers_0_mlp_down_proj": ENCODER})
    with pytest.raises(InputError, match="changes only the text encoder, in 1 layers"):
        read_lora(path, toon.spec)


def test_layers_that_the_base_lacks_are_named_and_can_be_left_out(
    tmp_path: Path, toon: Anima
) -> None:
    path = three(tmp_path / "x.safetensors", toon)
    with pytest.raises(InputError, match="a text conditioner that this model lacks and 2") as e:
        read_lora(path, make_spec(toon.backbone))
    assert "--leave-out text_conditioner --leave-out text_encoder" in str(e.value)


@pytest.mark.parametrize(
    "key",
    [
        "lora_te_text_model_layers_0_mlp_up_proj.lora_down.weight",
        "lora_te3_layers_0_mlp_up_proj.lora_down.weight",
        "text_encoders.qwen3.transformer.model.layers.0.mlp.up_proj.lora_A.weight",
        "text_encoder_2.layers.0.mlp.up_proj.lora_A.weight",
        "bundle_emb.mychar.string_to_param.*",
    ],
)
def test_text_layers_and_embeddings_of_unknown_names_can_be_left_out(
    tmp_path: Path, toon: Anima, key: str
) -> None:
    source, out = three(tmp_path / "x.safetensors", toon), tmp_path / "y.safetensors"
    save_file({**load_file(source), key: torch.ones(4, 4)}, tmp_path / "z.safetensors")
    with pytest.raises(InputError, match="--leave-out text_encoder writes the rest"):
        read_lora(tmp_path / "z.safetensors", toon.spec)
    convert(tmp_path / "z.safetensors", out, "common", ["text_encoder"])
    assert set(read_lora(out, toon.spec).modules) == {BACKBONE, CONDITIONER}
    save_file({key: torch.ones(4, 4)}, tmp_path / "alone.safetensors")
    with pytest.raises(InputError, match="use a LoRA for anima"):
        read_lora(tmp_path / "alone.safetensors", toon.spec)


@pytest.mark.parametrize("ending", ["diff_b", "set_weight", "b_norm"])
def test_differences_of_biases_and_weights_to_set_are_refused_and_can_be_left_out(
    tmp_path: Path, toon: Anima, ending: str
) -> None:
    source, out = three(tmp_path / "x.safetensors", toon), tmp_path / "y.safetensors"
    key = f"diffusion_model.blocks.0.self_attn.q_norm.{ending}"
    save_file({**load_file(source), key: torch.ones(4)}, tmp_path / "z.safetensors")
    with pytest.raises(InputError, match="1 tensors are differences of biases") as e:
        spec_of_loras([tmp_path / "z.safetensors"])
    assert "--leave-out diff" in str(e.value)
    convert(tmp_path / "z.safetensors", out, "common", ["diff"])
    assert set(read_lora(out, toon.spec).modules) == {BACKBONE, CONDITIONER, ENCODER}


@pytest.mark.parametrize("kind", ["whole", "product", "hada"])
def test_a_lycoris_layer_is_applied_without_its_plain_factors(
    tmp_path: Path, toon: Anima, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem, row = f"diffusion_model.{BACKBONE}", linear(toon, BACKBONE)
    out, in_ = row.out_features, row.in_features
    tensors = {f"{stem}.alpha": torch.tensor(1.5)}
    if kind == "hada":
        for side in ("w1", "w2"):
            tensors |= {f"{stem}.hada_{side}_a": torch.randn(out, 3)}
            tensors |= {f"{stem}.hada_{side}_b": torch.randn(3, in_)}
    else:
        tensors[f"{stem}.lokr_w1"] = torch.randn(4, 4)
        if kind == "whole":
            tensors[f"{stem}.lokr_w2"] = torch.randn(out // 4, in_ // 4)
        else:
            tensors[f"{stem}.lokr_w2_a"] = torch.randn(out // 4, 2)
            tensors[f"{stem}.lokr_w2_b"] = torch.randn(2, in_ // 4)
    save_file(tensors, tmp_path / "x.safetensors")
    lora = read_lora(tmp_path / "x.safetensors", toon.spec)
    weight = toon.backbone.get_submodule(row.diffusers).weight
    wanted = weight + 0.5 * lora.modules[BACKBONE].delta()
    monkeypatch.setattr("onmodel.lora.tensors.expand", lambda parts: pytest.fail("was expanded"))
    with applied(toon, lora, 0.5):
        torch.testing.assert_close(weight, wanted)


def test_the_size_of_a_lokr_as_a_plain_lora_is_said_before_it_is_written(
    tmp_path: Path, toon: Anima
) -> None:
    stem, row = f"diffusion_model.{BACKBONE}", linear(toon, BACKBONE)
    large = torch.randn(row.out_features // 4, row.in_features // 4)
    source, out = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    save_file({f"{stem}.lokr_w1": torch.randn(4, 4), f"{stem}.lokr_w2": large}, source)
    run = onmodel("lora", "convert", source, "-o", out, "--to", "diffusers")
    assert run.returncode == 0, run.stderr
    first, last = run.stdout.splitlines()
    assert "a plain LoRA of up to 0.295 MB is written" in first and "0.29" in last
    before, after = (read_lora(path, toon.spec).modules[BACKBONE] for path in (source, out))
    np.testing.assert_allclose(after.delta(), before.delta(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", ["common", "kohya"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_lokr_stays_one_and_small(tmp_path: Path, toon: Anima, layout: str, whole: bool) -> None:
    stem = f"diffusion_model.{BACKBONE}"
    row = linear(toon, BACKBONE)
    tensors = {f"{stem}.lokr_w1": torch.randn(4, 4), f"{stem}.alpha": torch.tensor(1.0)}
    large = (row.out_features // 4, row.in_features // 4)
    if whole:
        tensors[f"{stem}.lokr_w2"] = torch.randn(large)
    else:
        tensors[f"{stem}.lokr_w2_a"] = torch.randn(large[0], 2)
        tensors[f"{stem}.lokr_w2_b"] = torch.randn(2, large[1])
    source, out = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    save_file(tensors, source)
    report = convert(source, out, layout)  # type: ignore[arg-type]
    assert any(".lokr_w1" in key for key in load_file(out))
    assert report.bytes_after < report.bytes_before + 2_000
    before, after = (read_lora(path, toon.spec).modules[BACKBONE] for path in (source, out))
    np.testing.assert_allclose(after.delta(), before.delta(), rtol=1e-6)
