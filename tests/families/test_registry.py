"""Bases from a diffusers folder and from single files, and what is said when something is
missing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from onmodel.errors import InputError
from onmodel.families.anima.single_file import CONFIG_KEY, export_single_files, single_source
from onmodel.families.anima.text import stack
from onmodel.families.parts import build
from onmodel.families.protocol import Family
from onmodel.families.registry import (
    base_facts,
    base_sha256,
    find,
    load_base,
    outline,
    parse_base,
    text_rows,
)
from onmodel.sample.sampler import Job, sample
from onmodel.sample.sampling import Sampling
from onmodel.weights import read_metadata
from tests.support.events import Recorded

JOBS = [Job("1girl, smile", "bad", 5, 64, 64)]


@pytest.fixture(scope="module")
def single_files(tiny_anima: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("single")
    names = ("dit", "text_encoder", "vae")
    assert export_single_files(tiny_anima, out) == [out / f"{name}.safetensors" for name in names]
    return {name: out / f"{name}.safetensors" for name in names} | {"tokenizers": tiny_anima}


def picture(family: Family) -> torch.Tensor:
    return family.decode_latents(sample(family, JOBS, Sampling(steps=2)))


def test_single_files_are_the_same_base(tiny_anima: Path, single_files: dict[str, Path]) -> None:
    folder, single = load_base({"folder": tiny_anima}), load_base(dict(single_files))
    assert torch.equal(picture(folder), picture(single))
    assert folder.spec == single.spec
    assert folder.sha256 == base_sha256({"folder": tiny_anima})
    assert single.sha256 == base_sha256(dict(single_files))


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", ""])
def test_derived_models_have_another_prefix(
    tmp_path: Path, single_files: dict[str, Path], prefix: str
) -> None:
    tensors = load_file(single_files["dit"])
    renamed = {f"{prefix}{key.removeprefix('net.')}": tensor for key, tensor in tensors.items()}
    renamed[f"{prefix}pos_embedder.seq"] = torch.arange(8.0)
    save_file(renamed, tmp_path / "dit.safetensors", read_metadata(single_files["dit"]))
    derived = load_base({**single_files, "dit": tmp_path / "dit.safetensors"})
    assert torch.equal(picture(derived), picture(load_base(dict(single_files))))


def test_sizes_come_from_shapes_alone(tmp_path: Path, single_files: dict[str, Path]) -> None:
    """Published files have no words of ours; all that they then lack are constants."""
    save_file(load_file(single_files["dit"]), tmp_path / "dit.safetensors")
    assert CONFIG_KEY not in read_metadata(tmp_path / "dit.safetensors")
    spec = load_base({**single_files, "dit": tmp_path / "dit.safetensors"}).spec
    assert (spec.blocks, spec.latent_channels) == (2, 16)


def test_a_base_asked_for_in_bfloat16_is_in_bfloat16(tiny_anima: Path) -> None:
    half, full = (
        load_base({"folder": tiny_anima, "dtype": dtype}) for dtype in ("bfloat16", "float32")
    )
    assert {parameter.dtype for parameter in half.backbone.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in full.backbone.parameters()} == {torch.float32}
    assert half.encode_text(["smile"])[0].rows_sd.dtype == torch.bfloat16
    assert (picture(half) - picture(full)).abs().mean() < 0.1 < picture(full).std()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux")
def test_loading_takes_the_files_size_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The VAE in its published size: the process grows by the file, not by twice that and not by
    float32 on the way."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    from random_base import write_files

    def resident(field: str) -> int:
        rows = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(row for row in rows if row.startswith(field)).split()[1])

    path = write_files(tmp_path, ["vae"])["vae"]
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    vae = build(single_source("vae", path, "base.vae"), torch.bfloat16, "cpu")
    assert sum(parameter.nbytes for parameter in vae.parameters()) == pytest.approx(
        path.stat().st_size, rel=0.01
    )
    assert (resident("VmHWM") - before) / path.stat().st_size < 1.2


def test_missing_files_are_named(
    tiny_anima: Path, single_files: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"base\.folder: .*transformer — no such"):
        load_base({"folder": tmp_path})
    with pytest.raises(InputError, match=r"base\.vae: .*nowhere — no such"):
        load_base({**single_files, "vae": tmp_path / "nowhere"})
    with pytest.raises(
        InputError, match=r"base\.tokenizers: missing — single files hold no tokenizers"
    ):
        load_base({name: path for name, path in single_files.items() if name != "tokenizers"})
    with pytest.raises(InputError, match=r"base\.tokenizers: .*tokenizer — no such file or folder"):
        load_base({**single_files, "tokenizers": tmp_path})
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "t5_tokenizer").mkdir()
    with pytest.raises(InputError, match=r"base\.tokenizers: .* — no tokenizer here"):
        load_base({**single_files, "tokenizers": tmp_path})
    with pytest.raises(InputError, match="not both"):
        load_base({"folder": tiny_anima, "vae": single_files["vae"]})


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InputError, match='base: flux — write "toon"'):
        parse_base("flux")
    with pytest.raises(InputError, match=r"base\.foldr: x .*known: family, folder"):
        parse_base({"foldr": "x"})
    with pytest.raises(InputError, match=r"base\.family"):
        parse_base({"family": "flux"})


def test_float16_is_refused(tiny_anima: Path) -> None:
    with pytest.raises(InputError, match="overflows in float16"):
        load_base({"folder": tiny_anima, "dtype": "float16"})


def test_torn_and_foreign_files_stop(tmp_path: Path, single_files: dict[str, Path]) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(single_files["vae"].read_bytes()[:-100])
    with pytest.raises(InputError, match=r"base\.vae: .*is no complete safetensors"):
        load_base({**single_files, "vae": torn})
    with pytest.raises(InputError, match="is a video VAE, not an Anima transformer: 0 keys"):
        load_base({**single_files, "dit": single_files["vae"]})
    with pytest.raises(InputError, match="is a video VAE, not Anima's text_encoder"):
        load_base({**single_files, "text_encoder": single_files["vae"]})
    with pytest.raises(InputError, match="is an Anima checkpoint, not Anima's vae"):
        load_base({**single_files, "vae": single_files["dit"]})
    (tmp_path / "dit.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(InputError, match="is a quantised GGUF file"):
        load_base({**single_files, "dit": tmp_path / "dit.gguf"})
    torch.save({"a": torch.ones(1)}, tmp_path / "dit.ckpt")
    with pytest.raises(InputError, match="is a PyTorch pickle"):
        load_base({**single_files, "dit": tmp_path / "dit.ckpt"})


def test_a_cosmos_model_has_no_text_conditioner(
    tmp_path: Path, single_files: dict[str, Path]
) -> None:
    tensors = {
        key: tensor
        for key, tensor in load_file(single_files["dit"]).items()
        if "llm_adapter" not in key
    }
    save_file(tensors, tmp_path / "dit.safetensors")
    with pytest.raises(InputError, match="has no text conditioner"):
        load_base({**single_files, "dit": tmp_path / "dit.safetensors"})


def test_lost_and_quantised_tensors_stop(tmp_path: Path, single_files: dict[str, Path]) -> None:
    tensors, words = load_file(single_files["dit"]), read_metadata(single_files["dit"])
    path = tmp_path / "dit.safetensors"
    lost = {key: tensor for key, tensor in tensors.items() if ".blocks.0.mlp.layer2" not in key}
    save_file(lost, path, words)
    with pytest.raises(
        InputError, match=r"1 of \d+ tensors are missing, e.g. blocks\.0\.mlp\.layer2\.weight"
    ):
        load_base({**single_files, "dit": path})
    save_file({**tensors, "net.blocks.9.mlp.layer2.weight": torch.ones(1)}, path, words)
    with pytest.raises(
        InputError, match=r"blocks\.2 is missing, although there is blocks\.9; get the file again"
    ):
        load_base({**single_files, "dit": path})
    key = "net.blocks.0.mlp.layer2.weight"
    save_file({**tensors, key: tensors[key].to(torch.int8)}, path, words)
    with pytest.raises(InputError, match=r"is quantised \(I8\); use the bfloat16 file"):
        load_base({**single_files, "dit": path})
    for beside, packing in (("absmax", "nf4"), ("weight_scale_2", "nvfp4")):
        other = f"{key.removesuffix('weight')}{beside}"
        save_file({**tensors, other: torch.ones(1)}, path, words)
        with pytest.raises(InputError, match=rf"is quantised \({packing}\); use the bfloat16"):
            load_base({**single_files, "dit": path})


@pytest.mark.parametrize("scale_name", ["scale_weight", "weight_scale", ""])
def test_fp8_weights_are_read_as_numbers_and_told(
    tmp_path: Path,
    single_files: dict[str, Path],
    scale_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tensors, words = load_file(single_files["dit"]), read_metadata(single_files["dit"])
    key, path = "net.blocks.0.mlp.layer2.weight", tmp_path / "dit.safetensors"
    scale = torch.tensor(0.25 if scale_name else 1.0)
    stored = (tensors[key].float() / scale).to(torch.float8_e4m3fn)
    extra = {f"{key.removesuffix('weight')}{scale_name}": scale} if scale_name else {}
    save_file({**tensors, key: stored, **extra}, path, words)
    family = load_base({**single_files, "dit": path})
    assert caplog.text.count("is stored in fp8 and is read as bfloat16") == 1
    got = family.backbone.get_parameter("transformer_blocks.0.ff.net.2.weight")
    assert torch.equal(got, stored.float() * scale)


@pytest.mark.parametrize("prefix", ["net.", "net_ema.", "model.diffusion_model."])
def test_one_file_may_hold_all_parts(
    tmp_path: Path, single_files: dict[str, Path], prefix: str
) -> None:
    own = {"dit": prefix, "text_encoder": "text_encoders.qwen3_06b.transformer.", "vae": "vae."}
    tensors, words = {}, {}
    for name, start in own.items():
        for key, tensor in load_file(single_files[name]).items():
            tensors[start + (key.removeprefix("net.") if name == "dit" else key)] = tensor
        header = json.loads(read_metadata(single_files[name])[CONFIG_KEY])
        words |= header
    path = tmp_path / "all.safetensors"
    save_file(tensors, path, {CONFIG_KEY: json.dumps(words)})
    whole = load_base({**single_files, **dict.fromkeys(own, path)})
    assert torch.equal(picture(whole), picture(load_base(dict(single_files))))


@pytest.fixture
def comfyui(tmp_path: Path, tiny_anima: Path, single_files: dict[str, Path]) -> Path:
    """A folder as ComfyUI has it, with other models beside Anima's."""
    root = tmp_path / "ComfyUI"
    places = {
        "models/diffusion_models/my-anima.safetensors": single_files["dit"],
        "models/text_encoders/qwen.safetensors": single_files["text_encoder"],
        "models/vae/qwen_image_vae.safetensors": single_files["vae"],
        "models/vae/other_of_the_same_shape.safetensors": single_files["vae"],
    }
    for place, file in places.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / place)
    save_file({"a": torch.ones(1)}, root / "models/diffusion_models/other.safetensors")
    (root / "models/vae/torn.safetensors").write_bytes(b"x")
    for name, folder in (("tokenizer", "qwen25_tokenizer"), ("t5_tokenizer", "t5_tokenizer")):
        shutil.copytree(tiny_anima / name, root / "comfy/text_encoders" / folder)
    return root


def test_a_folder_of_comfyui_is_enough(comfyui: Path, single_files: dict[str, Path]) -> None:
    found = load_base({"comfyui": comfyui})
    assert torch.equal(picture(found), picture(load_base(dict(single_files))))


def test_what_was_taken_from_comfyui_is_told(comfyui: Path) -> None:
    events = Recorded()
    base_sha256({"comfyui": comfyui}, events)
    told = "".join(events.text.split())  # lines are wrapped
    assert "my-anima.safetensors" in told and "qwen25_tokenizer" in told


def test_a_given_file_wins_over_the_folder(comfyui: Path) -> None:
    files = comfyui / "models/diffusion_models"
    shutil.copy(files / "my-anima.safetensors", files / "second.safetensors")
    with pytest.raises(InputError, match=r"base.dit: .*my-anima.*, .*set base.dit to one of them"):
        base_sha256({"comfyui": comfyui})
    places = find(parse_base({"comfyui": comfyui, "dit": files / "second.safetensors"}))
    assert places["text_conditioner"].path.name == "second.safetensors"


def test_what_comfyui_lacks_is_named(comfyui: Path) -> None:
    shutil.rmtree(comfyui / "models/text_encoders")
    with pytest.raises(InputError, match=r"has no Qwen3 0.6B .*; set base.text_encoder"):
        base_sha256({"comfyui": comfyui})
    with pytest.raises(InputError, match="no such folder"):
        base_sha256({"comfyui": comfyui / "nowhere"})


def test_quantised_files_of_comfyui_are_named_with_the_file_to_get(comfyui: Path) -> None:
    (comfyui / "models/diffusion_models/my-anima.safetensors").unlink()
    (comfyui / "models/diffusion_models/anima-Q8_0.gguf").write_bytes(b"GGUF")
    with pytest.raises(
        InputError,
        match=r"has only anima-Q8_0\.gguf there, and GGUF is not read; put"
        r" anima-base-v1\.0\.safetensors into diffusion_models",
    ):
        base_sha256({"comfyui": comfyui})


@pytest.mark.parametrize("layout", ["forge", "swarm", "extra paths", "links", "endings"])
def test_other_layouts_are_found(comfyui: Path, layout: str) -> None:
    models, old = comfyui / "models", comfyui / "moved"
    if layout == "forge":
        (models / "diffusion_models").rename(models / "Stable-diffusion")
        (models / "text_encoders").rename(models / "text_encoder")
        (models / "vae").rename(models / "VAE")
    elif layout == "swarm":
        models.rename(comfyui / "Models")
        (comfyui / "dlbackend/comfy/ComfyUI").mkdir(parents=True)
        (comfyui / "comfy").rename(comfyui / "dlbackend/comfy/ComfyUI/comfy")
    elif layout == "links":
        (models / "vae").rename(old)
        (models / "vae").mkdir()
        (models / "vae" / "more").symlink_to(old)
        (old / "loop").symlink_to(models / "vae")
        assert base_sha256({"comfyui": models})  # the folder within is enough
    elif layout == "endings":
        files = models / "diffusion_models"
        (files / "my-anima.safetensors").rename(files / "my-anima.SFT")
    else:
        models.rename(old)
        (comfyui / "extra_model_paths.yaml").write_text(
            f"mine:\n  base_path: {old}\n  diffusion_models: |\n    nowhere\n    diffusion_models\n"
            "  clip: text_encoders\n  vae: vae\n"
        )
    assert base_sha256({"comfyui": comfyui})


def test_two_variants_of_one_part_are_not_mixed(tmp_path: Path, tiny_anima: Path) -> None:
    shutil.copytree(tiny_anima, tmp_path / "x")
    weights = tmp_path / "x" / "vae" / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    with pytest.raises(
        InputError, match=r"is in diffusion_pytorch_model\.fp16\.safetensors too; keep one"
    ):
        load_base({"folder": tmp_path / "x"})


def test_the_outline_is_the_loaded_base_without_its_weights(
    tiny_anima: Path, single_files: dict[str, Path]
) -> None:
    for base in ({"folder": tiny_anima}, dict(single_files)):
        shapes = outline(base)
        assert shapes.spec == load_base(base).spec and not shapes.missing
        assert all(
            parameter.is_meta
            for model in shapes.models.values()
            for parameter in model.parameters()
        )


def test_the_facts_of_a_shipped_base_are_those_of_its_outline() -> None:
    shapes, facts = outline("toon"), base_facts("toon")
    assert facts is not None
    assert set(facts.spec.linears) == set(shapes.spec.linears)  # in another order
    assert set(facts.spec.text_linears) == set(shapes.spec.text_linears)
    assert set(facts.spec.norms) == set(shapes.spec.norms)
    ordered = {name: getattr(shapes.spec, name) for name in ("linears", "text_linears", "norms")}
    assert replace(facts.spec, **ordered) == shapes.spec
    assert facts.parameters == {name: shapes.parameters(name) for name in shapes.components}
    assert (facts.found, facts.missing) == (shapes.found, shapes.missing)


def test_a_base_that_a_user_names_is_checked_file_by_file(tiny_anima: Path) -> None:
    assert base_facts({"folder": tiny_anima}) is None


def test_without_files_the_outline_is_the_published_base() -> None:
    """The published files have 4.18, 1.19 and 0.254 GB in bfloat16."""
    shapes = outline({})
    sizes = {role: 2 * shapes.parameters(role) / 1e9 for role in shapes.models}
    assert sizes["transformer"] + sizes["text_conditioner"] == pytest.approx(4.18, abs=0.005)
    assert sizes["text_encoder"] == pytest.approx(1.19, abs=0.005)
    assert sizes["vae"] == pytest.approx(0.254, abs=0.0005)
    assert (shapes.spec.blocks, len(shapes.spec.targets("attention_mlp"))) == (28, 280)
    assert len(shapes.spec.targets("attention_mlp_adaln")) == 448
    assert [error.field for error in shapes.missing] == [
        "base.dit",
        "base.text_encoder",
        "base.vae",
        "base.tokenizers",
    ]


def test_a_hub_id_that_cannot_be_had_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError,
        match=r"^base\.hub: someone/anima — is not in the local cache and the hub cannot",
    ):
        load_base({"hub": "someone/anima"})
    with pytest.raises(InputError, match=r'base\.hub: some one/anima — write "owner/name"'):
        load_base({"hub": "some one/anima"})
    with pytest.raises(InputError, match="not both"):
        load_base({"hub": "someone/anima", "folder": tmp_path})
    assert outline({"hub": "someone/anima"}).missing[0].field == "base.hub"


def test_a_hub_id_is_read_from_the_local_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_anima: Path, single_files: dict[str, Path]
) -> None:
    """The cache as huggingface_hub lays it out; single files take their tokenizers from it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--someone--anima"
    shutil.copytree(tiny_anima, repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    whole = load_base({"hub": "someone/anima"})
    assert whole.sha256 == base_sha256({"folder": tiny_anima})
    files = {name: path for name, path in single_files.items() if name != "tokenizers"}
    assert torch.equal(picture(load_base({**files, "hub": "someone/anima@main"})), picture(whole))
    shutil.rmtree(repository / "snapshots" / ("a" * 40) / "vae")
    with pytest.raises(InputError, match=r"base\.hub: someone/anima — has no vae/"):
        load_base({"hub": "someone/anima"})


def test_a_folder_of_another_class_stops(tmp_path: Path, tiny_anima: Path) -> None:
    shutil.copytree(tiny_anima, tmp_path / "x")
    shutil.rmtree(tmp_path / "x" / "transformer")
    shutil.copytree(tmp_path / "x" / "vae", tmp_path / "x" / "transformer")
    with pytest.raises(
        InputError, match="is AutoencoderKLQwenImage, Anima has CosmosTransformer3DModel here"
    ):
        load_base({"folder": tmp_path / "x"})


def test_the_toon_base_ships_with_the_package() -> None:
    """Blue hair is bluer than red hair, from the same noise: the shipped base is trained and its
    files fit."""
    family = load_base("toon")
    prompts = ("1girl, blue hair, close-up", "1girl, red hair, close-up")
    jobs = [Job(prompt, "", 1, 96, 96) for prompt in prompts]
    latents = sample(family, jobs, Sampling(steps=6))
    red, _, blue = family.decode_latents(latents).mean((2, 3)).unbind(1)
    assert (blue - red)[0] > (blue - red)[1] + 0.1


DIT_FAULTS = {
    "mark of no columns": lambda t, w: t.update(
        {"net.x_embedder.proj.1.weight": torch.ones(32, 0)}
    ),
    "0-d mark": lambda t, w: t.update({"net.x_embedder.proj.1.weight": torch.ones(())}),
    "head of 0": lambda t, w: t.update({"net.blocks.0.self_attn.q_norm.weight": torch.ones(0)}),
    "0-d head": lambda t, w: t.update({"net.blocks.0.self_attn.q_norm.weight": torch.ones(())}),
    "far block": lambda t, w: t.update({"net.blocks.999999999.x": torch.ones(1)}),
    "two models": lambda t, w: t.update(
        {f"{'x' * 900}.x_embedder.proj.1.weight": torch.ones(2, 2)}
    ),
    "config deep": lambda t, w: w.update({CONFIG_KEY: "[" * 100_000}),
    "config a list": lambda t, w: w.update({CONFIG_KEY: "[]"}),
    "config of lists": lambda t, w: w.update({CONFIG_KEY: '{"transformer": []}'}),
    "patch of text": lambda t, w: w.update({CONFIG_KEY: '{"transformer": {"patch_size": "x"}}'}),
    "patch of 0": lambda t, w: w.update({CONFIG_KEY: '{"transformer": {"patch_size": [0, 0, 0]}}'}),
}


@pytest.mark.parametrize("fault", DIT_FAULTS)
def test_a_malformed_single_file_is_refused_in_one_line(
    fault: str, tmp_path: Path, single_files: dict[str, Path]
) -> None:
    path = tmp_path / "dit.safetensors"
    tensors, words = load_file(single_files["dit"]), read_metadata(single_files["dit"])
    DIT_FAULTS[fault](tensors, words)
    save_file(tensors, path, words)
    with pytest.raises(InputError, match=r"^base\.dit: .*dit\.safetensors") as caught:
        load_base({**single_files, "dit": path})
    assert len(str(caught.value)) < 1_500


def test_a_header_cannot_set_what_the_shapes_tell(
    tmp_path: Path, single_files: dict[str, Path]
) -> None:
    path = tmp_path / "dit.safetensors"
    save_file(
        load_file(single_files["dit"]),
        path,
        {CONFIG_KEY: '{"transformer": {"num_layers": 1000000000}}'},
    )
    assert load_base({**single_files, "dit": path}).spec.blocks == 2


def test_the_rows_of_the_longest_caption_are_counted_without_a_model(tiny_anima: Path) -> None:
    settings = parse_base({"folder": tiny_anima})
    family: Any = load_base(settings)
    for captions in (["1girl", "1girl, smile, hat"], ["smile, " * 600, "1girl"]):
        rows, _ = stack(family.encode_text(captions), torch.float32)
        assert text_rows(settings, captions) == rows.shape[1]
    assert text_rows(settings, []) is None
    assert text_rows(parse_base({"dit": tiny_anima / "x"}), ["1girl"]) is None
