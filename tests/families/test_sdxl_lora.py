"""LoRA files of SDXL: every layout is read, written, and loaded by diffusers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onmodel.errors import InputError
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.families.registry import load_base
from onmodel.families.sdxl.comfyui import find_parts
from onmodel.families.sdxl.load import empty_pipeline
from onmodel.families.sdxl.loaders import RULES
from onmodel.families.sdxl.single_file import export_single_files
from onmodel.families.sdxl.spec import Settings, published, spec_of_folder
from onmodel.lora.convert import Target, convert
from onmodel.lora.layouts import BLOCKS_KEY, name_table, parse_key, written_keys
from onmodel.lora.specs import family_of, is_checkpoint, spec_of_loras
from onmodel.lora.tensors import Lora, applied, read_lora
from onmodel.release.compatibility import load_in_diffusers
from onmodel.release.loaders import loaded_layers
from onmodel.train.adapters import Adapters, attached
from onmodel.train.networks import trained_layers
from onmodel.train.options import Options
from onmodel.weights import write_weights
from tests.support.command_line import onmodel
from tests.support.tiny_sdxl import write_tiny_sdxl

RANK = 4
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def spec(base: Path) -> FamilySpec:
    return spec_of_folder(base)


def products(spec: FamilySpec) -> dict[Linear, tuple[torch.Tensor, torch.Tensor]]:
    """Random factors of every layer that a LoRA of kohya's tools changes, convolutions too."""
    generator = torch.Generator().manual_seed(0)
    rows = [*spec.targets("locon"), *spec.text_linears]
    return {
        row: (
            torch.randn(RANK, row.in_features, generator=generator),
            torch.randn(row.out_features, RANK, generator=generator),
        )
        for row in rows
    }


def in_files(row: Linear, down: torch.Tensor, up: torch.Tensor) -> list[torch.Tensor]:
    """The factors as trainers keep them: those of a convolution with its kernel."""
    if not row.diffusers.endswith(("conv1", "conv2", "conv", "conv_shortcut")):
        return [down, up]
    side = 1 if row.diffusers.endswith("conv_shortcut") else 3
    return [down.reshape(RANK, -1, side, side), up[..., None, None]]


def kohya(spec: FamilySpec, alpha: float) -> Tensors:
    found = {}
    for row, factors in products(spec).items():
        down, up = in_files(row, *factors)
        down_key, up_key, alpha_key = written_keys(row.name, "kohya")
        assert alpha_key is not None
        found |= {down_key: down, up_key: up, alpha_key: torch.tensor(alpha)}
    return found


def dotted(spec: FamilySpec) -> Tensors:
    """diffusers' own names."""
    found = {}
    for row, factors in products(spec).items():
        down, up = in_files(row, *factors)
        stem = f"{row.component or 'unet'}.{row.diffusers}"
        found |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    return found


def changes(path: Path) -> dict[str, torch.Tensor]:
    """Layer → ΔW."""
    lora = read_lora(path, spec_of_loras([path]))
    return {name: one.scale * one.up @ one.down for name, one in lora.modules.items()}


def written(path: Path, tensors: Tensors, spec: FamilySpec) -> Path:
    save_file(tensors, path, {BLOCKS_KEY: str(spec.blocks)})
    return path


def worst(found: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert found.keys() == other.keys() and found
    return max(float((found[n] - other[n]).norm() / other[n].norm()) for n in found)


def test_the_whole_u_net_has_the_layers_that_kohyas_tools_adapt() -> None:
    # sd-scripts says so when it makes a LoRA of SDXL
    assert len(published().targets("attention_mlp")) == 722
    assert len(published().targets("locon")) == 788  # with conv_dim
    counts = [
        sum(row.component == name for row in published().text_linears)
        for name in ("text_encoder", "text_encoder_2")
    ]
    assert counts == [72, 192]


def test_a_lora_of_the_true_base_has_the_size_that_is_planned() -> None:
    # 170 MB in bfloat16 at rank 32, as the files that people share
    numbers = sum(
        32 * (row.in_features + row.out_features) for row in published().targets("attention_mlp")
    )
    assert numbers == 85_114_880


def test_kohyas_names_follow_from_the_modules_names() -> None:
    for row in [*published().targets("locon"), *published().text_linears]:
        down, _, _ = written_keys(row.name, "kohya")
        if row.component is None:
            module = f"lora_unet_{row.name}"
        else:
            inside = row.diffusers.removeprefix("text_model.")
            number = 1 if row.component == "text_encoder" else 2
            module = f"lora_te{number}_text_model_{inside}"
        assert down == f"{module.replace('.', '_')}.lora_down.weight"


@pytest.mark.parametrize("alpha", [1.0, RANK, 16.0])
def test_each_layout_is_the_same_change(spec: FamilySpec, tmp_path: Path, alpha: float) -> None:
    source = written(tmp_path / "source.safetensors", kohya(spec, alpha), spec)
    wanted = {row.name: alpha / RANK * up @ down for row, (down, up) in products(spec).items()}
    assert worst(changes(source), wanted) < 1e-6
    layouts: tuple[Target, ...] = ("common", "kohya", "diffusers")
    for layout in layouts:
        out = tmp_path / f"{layout}.safetensors"
        convert(source, out, layout)
        assert worst(changes(out), wanted) < 1e-6
        back = tmp_path / f"{layout}-back.safetensors"
        convert(out, back, "kohya")
        assert worst(changes(back), wanted) < 1e-6


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_diffusers_loads_every_tensor(
    base: Path, spec: FamilySpec, tmp_path: Path, layout: str
) -> None:
    tensors = kohya(spec, 2.0) if layout == "kohya" else dotted(spec)
    path = written(tmp_path / "lora.safetensors", tensors, spec)
    report = load_in_diffusers(path, "sdxl", base)
    assert report.layers == len(products(spec)) and report.error < 1e-6
    table = name_table(spec)
    rows = {key: found[0] for key in tensors if (found := parse_key(key, table))}
    assert not RULES.diffusers_stops(tensors)
    assert len(loaded_layers("diffusers", rows, RULES)) == len(products(spec))


def test_diffusers_stops_where_the_rules_say_so(
    base: Path, spec: FamilySpec, tmp_path: Path
) -> None:
    first = spec.targets("attention_mlp")[0]
    stem = written_keys(first.name, "kohya")[0].partition(".")[0]
    loha = {f"{stem}.hada_{part}": torch.ones(RANK, RANK) for part in ("w1_a", "w1_b")}
    norm = {"unet.conv_norm_out.diff": torch.ones(4)}
    for tensors in (kohya(spec, 1.0) | loha, dotted(spec) | norm):
        path = written(tmp_path / "lora.safetensors", tensors, spec)
        pipeline, _, _ = empty_pipeline(base)
        with pytest.raises(ValueError):
            pipeline.load_lora_weights(str(path))
        assert RULES.diffusers_stops(tensors)[0].error == "a ValueError"


def test_a_lora_of_the_published_base_needs_no_header(tmp_path: Path) -> None:
    # diffusers' names depend on how many layers a level has; SDXL's is two
    name = "unet.down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q"
    tensors = {
        f"{name}.lora_A.weight": torch.ones(RANK, 640),
        f"{name}.lora_B.weight": torch.ones(640, RANK),
    }
    save_file(tensors, path := tmp_path / "lora.safetensors")
    assert list(changes(path)) == ["input_blocks.5.1.transformer_blocks.0.attn1.to_q"]


def test_convolutions_keep_their_kernels_in_every_layout(spec: FamilySpec, tmp_path: Path) -> None:
    source = written(tmp_path / "source.safetensors", kohya(spec, 2.0), spec)
    layouts: tuple[Target, ...] = ("common", "kohya", "diffusers")
    for layout in layouts:
        convert(source, out := tmp_path / f"{layout}.safetensors", layout)
        found = {key: list(value.shape) for key, value in load_file(out).items()}
        down = [shape for key, shape in found.items() if "down." in key or "lora_A" in key]
        assert [RANK, 64, 3, 3] in down and [RANK, 96, 1, 1] in down
        assert all(len(shape) in (0, 2, 4) for shape in found.values())


def test_a_whole_difference_of_a_convolution_is_read_and_kept(
    spec: FamilySpec, tmp_path: Path
) -> None:
    change = torch.randn(32, 32, 3, 3, generator=torch.Generator().manual_seed(1))
    key = "lora_unet_input_blocks_1_0_in_layers_2.diff"
    path = written(tmp_path / "source.safetensors", {key: change}, spec)
    (found,) = changes(path).values()
    torch.testing.assert_close(found, change.flatten(1))
    convert(path, out := tmp_path / "out.safetensors", "kohya")
    torch.testing.assert_close(load_file(out)[key], change)


def test_tucker_factors_are_refused_by_name(spec: FamilySpec, tmp_path: Path) -> None:
    stem = "lora_unet_input_blocks_1_0_in_layers_2"
    core = {f"{stem}.lora_mid.weight": torch.ones(RANK, RANK, 3, 3)}
    path = written(tmp_path / "locon.safetensors", kohya(spec, 1.0) | core, spec)
    with pytest.raises(InputError, match=r"has Tucker factors \(.*train it without use_tucker"):
        changes(path)


def test_a_convolution_computes_alike_adapted_and_changed(
    base: Path, spec: FamilySpec, tmp_path: Path
) -> None:
    path = written(tmp_path / "lora.safetensors", kohya(spec, 1.0), spec)
    family = load_base({"family": "sdxl", "folder": str(base), "device": "cpu"})
    lora = read_lora(path, family.spec)
    small = Lora({name: replace(one, up=0.02 * one.up) for name, one in lora.modules.items()})
    unet = {row.name for row in family.spec.backbone_layers}
    factors = {name: one for name, one in small.modules.items() if name in unet}
    texts = family.encode_text(["1girl, red hair"])
    x, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([0.5])
    with torch.no_grad():
        before = family.denoise(x, t, texts)
        with applied(family, Lora(factors), 1.0):
            changed = family.denoise(x, t, texts)
        adapters = Adapters(factors, torch.device("cpu"))
        with attached(family, adapters, torch.float32):
            adapted = family.denoise(x, t, texts)
            with adapters.low_precision(torch.float32):
                torch.testing.assert_close(family.denoise(x, t, texts), adapted)
        assert torch.equal(family.denoise(x, t, texts), before)
    torch.testing.assert_close(adapted, changed, rtol=1e-4, atol=1e-4)
    assert (changed - before).norm() > 0.01 * before.norm()


def test_a_lora_goes_into_a_checkpoint_and_comes_out_of_it(
    base: Path, spec: FamilySpec, tmp_path: Path
) -> None:
    wanted = {row: (down, 0.01 * up) for row, (down, up) in products(spec).items()}
    tensors: Tensors = {}
    for row, factors in wanted.items():
        if row.component is None:
            down, up = in_files(row, *factors)
            keys = written_keys(row.name, "kohya")
            tensors |= {keys[0]: down, keys[1]: up, str(keys[2]): torch.tensor(float(RANK))}
    lora = written(tmp_path / "lora.safetensors", tensors, spec)
    plain = base / "unet" / "diffusion_pytorch_model.safetensors"
    tuned, back = tmp_path / "tuned.safetensors", tmp_path / "back.safetensors"
    made = onmodel("lora", "into", str(plain), "-o", str(tuned), str(lora))
    assert made.returncode == 0, made.stderr
    options = ("--base", str(plain), "--rank", str(RANK), "-o", str(back))
    made = onmodel("lora", "extract", str(tuned), *options)
    assert made.returncode == 0, made.stderr
    assert worst(changes(back), changes(lora)) < 1e-4


def test_other_networks_refuse_convolutions_before_any_work(spec: FamilySpec) -> None:
    options = Options(targets="locon", network="dora", epochs=1, learning_rate=1e-4)
    with pytest.raises(InputError, match=r"targets: locon — adapts .* convolutions, which network"):
        trained_layers(spec, options)


def test_files_are_told_from_animas(base: Path, spec: FamilySpec, tmp_path: Path) -> None:
    path = written(tmp_path / "lora.safetensors", kohya(spec, 1.0), spec)
    assert family_of(list(load_file(path))) == "sdxl"
    assert not is_checkpoint(path)
    (checkpoint, *_) = export_single_files(base, tmp_path / "single")
    assert is_checkpoint(checkpoint)
    with pytest.raises(InputError, match="lora"):
        write_weights(stray := tmp_path / "stray.safetensors", {}, {})
        spec_of_loras([stray])
        read_lora(stray, spec)


def test_a_checkpoint_is_found_in_comfyuis_folders(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ComfyUI"
    (folder / "comfy" / "sd1_tokenizer").mkdir(parents=True)
    models = folder / "models" / "checkpoints"
    models.mkdir(parents=True)
    missing = find_parts(Settings(comfyui=folder))["checkpoint"]
    assert isinstance(missing, InputError) and "no SDXL checkpoint" in missing.remedy
    (checkpoint, *_) = export_single_files(base, tmp_path / "single")
    checkpoint.rename(models / "any name.safetensors")
    found = find_parts(Settings(comfyui=folder))
    assert found["checkpoint"] == found["vae"] == models / "any name.safetensors"
    assert found["tokenizer"] == found["tokenizer_2"] == folder / "comfy" / "sd1_tokenizer"
