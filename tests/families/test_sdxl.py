"""SDXL behind the protocol equals diffusers' own pipeline: text, noise, prediction, pictures."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.parts import build, without_weights
from onmodel.families.protocol import Place
from onmodel.families.sdxl.family import Sdxl
from onmodel.families.sdxl.load import load
from onmodel.families.sdxl.lora_layouts import count_blocks, unet_name, vae_name
from onmodel.families.sdxl.noise import NoiseSchedule
from onmodel.families.sdxl.objective import NoiseObjective
from onmodel.families.sdxl.parts import CLASSES, empty, folder_source
from onmodel.families.sdxl.single_file import export_single_files, schedule_in, single_source
from onmodel.families.sdxl.spec import (
    COMPONENTS,
    PUBLISHED,
    Settings,
    make_spec,
    published,
    spec_of_folder,
)
from onmodel.families.sdxl.text import ENCODERS
from onmodel.lora.layouts import name_table
from onmodel.randomness import normal
from onmodel.sample.sampler import Job, noise, sample
from onmodel.sample.sampling import Sampling
from tests.support.tiny_sdxl import write_tiny_sdxl

PROMPT, NEGATIVE = "1girl, smile, red hair, long hair", "worst quality"
TRAINED = [("epsilon", False), ("v", False), ("v", True)]
BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sdxl(tmp_path_factory.mktemp("sdxl"))


def loaded(folder: Path, **settings: Any) -> Sdxl:
    places = {part.name: Place("base.folder", folder / part.name, False) for part in COMPONENTS}
    return load(places, Settings(folder=folder, **settings), torch.float32, "cpu", "")


def pipeline(family: Sdxl, scheduler: Any) -> StableDiffusionXLPipeline:
    """diffusers' pipeline of the same modules."""
    encoders = {name: family.component(name) for name in ENCODERS}
    first, second = family._text.tokenizers  # type: ignore[attr-defined]
    made = StableDiffusionXLPipeline(
        vae=family._vae.model,
        tokenizer=first,
        tokenizer_2=second,
        unet=family.backbone,
        scheduler=scheduler,
        add_watermarker=False,
        **encoders,
    )
    made.set_progress_bar_config(disable=True)
    return made


def test_a_shift_is_refused(tiny_sdxl: Path) -> None:
    family = loaded(tiny_sdxl)
    with pytest.raises(InputError, match=r"shift: 5\.0 — bases that predict noise have none"):
        sample(family, [Job(PROMPT, "", 1, 64, 64)], Sampling(2, 3.0, 5.0))


def latents(*shape: int) -> Tensor:
    return torch.from_numpy(normal(shape, 0, "latents"))


def test_text_equals_that_of_diffusers(tiny_sdxl: Path) -> None:
    family = loaded(tiny_sdxl)
    states, _, pooled, _ = pipeline(family, EulerDiscreteScheduler()).encode_prompt(
        PROMPT, device="cpu", do_classifier_free_guidance=False
    )
    (text,) = family.encode_text([PROMPT])
    assert torch.equal(text.tensors()["rows"], states[0])
    assert torch.equal(text.tensors()["pooled"], pooled[0])


@pytest.mark.parametrize("rescale", [0.0, 0.7])
@pytest.mark.parametrize(("prediction", "zero_snr"), TRAINED)
def test_a_picture_equals_that_of_diffusers(
    tiny_sdxl: Path, prediction: str, zero_snr: bool, rescale: float
) -> None:
    family = loaded(tiny_sdxl, prediction=prediction, zero_snr=zero_snr)
    scheduler = EulerDiscreteScheduler(
        **BETAS,
        timestep_spacing="trailing" if zero_snr else "leading",
        steps_offset=1,
        prediction_type="v_prediction" if prediction == "v" else "epsilon",
        rescale_betas_zero_snr=zero_snr,
    )
    job = Job(PROMPT, NEGATIVE, 3, 64, 32)
    made = pipeline(family, scheduler)
    with torch.no_grad():
        wanted = made(
            PROMPT,
            negative_prompt=NEGATIVE,
            width=64,
            height=32,
            num_inference_steps=7,
            guidance_scale=5.0,
            guidance_rescale=rescale,
            latents=noise(family, job),
            output_type="latent",
        ).images
    how = Sampling(steps=7, guidance=5.0, shift=1.0, guidance_rescale=rescale)
    found = sample(family, [job], how)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-4)
    with torch.no_grad():
        picture = made.vae.decode(wanted / made.vae.config.scaling_factor).sample.clamp(-1, 1)
    torch.testing.assert_close(family.decode_latents(wanted), picture, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("prediction", "zero_snr"), TRAINED)
def test_a_training_step_equals_that_of_diffusers(
    tiny_sdxl: Path, prediction: str, zero_snr: bool
) -> None:
    family = loaded(tiny_sdxl, prediction=prediction, zero_snr=zero_snr)
    kind = "v_prediction" if prediction == "v" else "epsilon"
    theirs = DDPMScheduler(**BETAS, prediction_type=kind, rescale_betas_zero_snr=zero_snr)
    x, drawn = latents(4, 4, 8, 8), torch.from_numpy(normal((4, 4, 8, 8), 1, "noise"))
    t = torch.tensor([0.0005, 0.3, 0.77, 0.998])
    steps = torch.tensor([0, 300, 770, 998])
    noisy = theirs.add_noise(x, drawn, steps)  # type: ignore[arg-type]
    torch.testing.assert_close(family.objective.noisy(x, drawn, t), noisy)
    target = theirs.get_velocity(x, drawn, steps) if prediction == "v" else drawn  # type: ignore[arg-type]
    torch.testing.assert_close(family.objective.target(x, drawn, t), target)
    (text,) = family.encode_text([PROMPT])
    rows, pooled = text.tensors()["rows"], text.tensors()["pooled"]
    ids = torch.tensor([[32.0, 32, 0, 0, 32, 32]]).expand(4, -1)
    said = {"text_embeds": pooled.expand(4, -1), "time_ids": ids}
    with torch.no_grad():
        wanted = family.backbone(
            noisy, steps, rows.expand(4, -1, -1), added_cond_kwargs=said
        ).sample
        found = family.denoise(noisy, t, [text] * 4)
    torch.testing.assert_close(found, wanted)


def test_min_snr_weighs_the_error_of_the_picture() -> None:
    t = torch.tensor([0.01, 0.5, 0.99])
    for prediction in ("epsilon", "v"):
        schedule = NoiseSchedule(prediction)  # type: ignore[arg-type]
        alphas = schedule.alphas[schedule.step_of(t)]
        snr = alphas / (1 - alphas)
        weight = NoiseObjective(schedule).loss_weight("min_snr", t)
        # the error of x0 is that of the noise times √(1−ᾱ)/√ᾱ, of v times √(1−ᾱ)
        scale = 1 / snr if prediction == "epsilon" else 1 - alphas
        torch.testing.assert_close(weight, snr.clamp(max=5) * scale)


def test_a_long_caption_has_more_chunks_and_changes_no_neighbour(tiny_sdxl: Path) -> None:
    family = loaded(tiny_sdxl)
    short, long = family.encode_text([PROMPT, "smile, red hair, " * 20])
    assert len(short.tensors()["rows"]) == 77
    assert len(long.tensors()["rows"]) == 77 * 4
    x, t = latents(2, 4, 8, 8), torch.tensor([0.3, 0.6])
    with torch.no_grad():
        both = family.denoise(x, t, [short, long])
        alone = family.denoise(x[:1], t[:1], [short])
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-5)


def test_a_weight_scales_how_far_the_rows_are_from_an_empty_prompt(tiny_sdxl: Path) -> None:
    family = loaded(tiny_sdxl)
    plain, weighted, empty_text = (
        text.tensors()["rows"] for text in family.encode_prompts(["red hair", "red (hair:1.5)", ""])
    )
    tokens = 1 + len("red")
    torch.testing.assert_close(weighted[:tokens], plain[:tokens])
    place = tokens + 1
    expected = empty_text[place] + 1.5 * (plain[place] - empty_text[place])
    torch.testing.assert_close(weighted[place], expected)


def test_trained_encoders_give_the_same_text(tiny_sdxl: Path) -> None:
    family = loaded(tiny_sdxl)
    (plain,) = family.encode_text([PROMPT])
    with family.training_text(ENCODERS):
        (tokens,) = family.encode_text([PROMPT])
        assert set(tokens.tensors()) == {"ids", "ids_2", "weights", "weights_2"}
        read = family.read_text(tokens.tensors())
        x, t = latents(1, 4, 8, 8), torch.tensor([0.4])
        with torch.no_grad():
            torch.testing.assert_close(family.denoise(x, t, [read]), family.denoise(x, t, [plain]))


def test_changed_weights_come_back(tiny_sdxl: Path) -> None:
    family = loaded(tiny_sdxl)
    row = family.spec.targets("attention_mlp")[3]
    layer = family.backbone.get_submodule(row.diffusers)
    before = layer.weight.clone()
    with family.changed([row]) as weights:
        weights[row.name].mul_(2)
        assert torch.equal(layer.weight, 2 * before)
    assert torch.equal(layer.weight, before)


def test_a_single_file_holds_the_same_base(tiny_sdxl: Path, tmp_path: Path) -> None:
    (path,) = export_single_files(tiny_sdxl, tmp_path)
    for role in CLASSES:
        one = build(folder_source(role, tiny_sdxl / role, "base.folder"), torch.float32, "cpu")
        other = build(single_source(role, path, "base.checkpoint"), torch.float32, "cpu")
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), (role, name)


def test_diffusers_reads_the_same_of_a_single_file(tiny_sdxl: Path, tmp_path: Path) -> None:
    (path,) = export_single_files(tiny_sdxl, tmp_path)
    stored = load_file(path)
    parts = {
        role: build(folder_source(role, tiny_sdxl / role, "base.folder"), torch.float32, "cpu")
        for role in CLASSES
    }
    second = parts["text_encoder_2"]
    read = {
        "unet": convert_ldm_unet_checkpoint(dict(stored), dict(parts["unet"].config)),
        "vae": convert_ldm_vae_checkpoint(dict(stored), dict(parts["vae"].config)),
        "text_encoder_2": convert_open_clip_checkpoint(
            second, dict(stored), prefix="conditioner.embedders.1.model."
        ),
    }
    for role, tensors in read.items():
        for name, tensor in parts[role].state_dict().items():
            assert torch.equal(tensors[name], tensor), (role, name)


@pytest.mark.parametrize(("prediction", "zero_snr"), TRAINED)
def test_a_single_file_says_what_its_base_predicts(
    tmp_path: Path, prediction: str, zero_snr: bool
) -> None:
    kind = "v_prediction" if prediction == "v" else "epsilon"
    folder = write_tiny_sdxl(
        tmp_path / "base", prediction_type=kind, rescale_betas_zero_snr=zero_snr
    )
    assert spec_of_folder(folder).prediction == prediction
    (tmp_path / "out").mkdir()
    (path,) = export_single_files(folder, tmp_path / "out")
    found = schedule_in(path, "base.checkpoint")
    assert (found.prediction, found.zero_snr) == (prediction, zero_snr)


def test_another_file_is_named_for_what_it_is(tiny_sdxl: Path) -> None:
    vae = tiny_sdxl / "vae" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(InputError, match="not SDXL's unet"):
        single_source("unet", vae, "base.checkpoint")
    with pytest.raises(InputError, match="SDXL has UNet2DConditionModel here"):
        folder_source("unet", tiny_sdxl / "vae", "base.folder")


def test_every_name_of_the_published_unet_and_vae_is_that_of_diffusers_own_tables() -> None:
    class Name(str):
        ndim, shape = 0, (1,)

    unet = without_weights(UNet2DConditionModel.from_config, PUBLISHED["unet"])
    own = {unet_name(name, 2): name for name in unet.state_dict()}
    read = convert_ldm_unet_checkpoint(
        {f"model.diffusion_model.{name}": Name(name) for name in own}, dict(unet.config)
    )
    assert {name: own[found] for name, found in read.items()} == {
        name: name for name in unet.state_dict()
    }
    vae = without_weights(AutoencoderKL.from_config, PUBLISHED["vae"])
    own = {vae_name(name, 4): name for name in vae.state_dict()}
    read = convert_ldm_vae_checkpoint(
        {f"first_stage_model.{name}": Name(name) for name in own}, dict(vae.config)
    )
    assert {name: own[found] for name, found in read.items()} == {
        name: name for name in vae.state_dict()
    }


def test_the_published_base_has_the_sizes_and_layers_that_every_trainer_counts() -> None:
    models = {role: empty(role, PUBLISHED[role]) for role in CLASSES}
    counts = {role: sum(p.numel() for p in model.parameters()) for role, model in models.items()}
    assert counts == {
        "unet": 2_567_463_684,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
        "vae": 83_653_863,
    }
    text = {name: models[name] for name in ENCODERS}
    spec = make_spec(models["unet"], PUBLISHED["vae"], NoiseSchedule(), text)
    assert spec == published()
    assert len(spec.targets("attention_mlp")) == 722  # sd-scripts' count
    assert (spec.blocks, spec.resolution.step, spec.resolution.native) == (19, 64, 1024)


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        (
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
            "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
        ),
        ("lora_unet_middle_block_1_proj_in", "middle_block.1.proj_in"),
        (
            "lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_ff_net_0_proj",
            "input_blocks.4.1.transformer_blocks.1.ff.net.0.proj",
        ),
        (
            "unet.up_blocks.0.attentions.2.transformer_blocks.9.attn2.to_out.0",
            "output_blocks.2.1.transformer_blocks.9.attn2.to_out.0",
        ),
        (
            "lora_te1_text_model_encoder_layers_11_self_attn_q_proj",
            "clip_l.transformer.text_model.encoder.layers.11.self_attn.q_proj",
        ),
        (
            "lora_te2_text_model_encoder_layers_31_mlp_fc2",
            "clip_g.transformer.text_model.encoder.layers.31.mlp.fc2",
        ),
        (
            "text_encoder.text_model.encoder.layers.0.mlp.fc1",
            "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1",
        ),
    ],
)
def test_layers_are_found_by_every_tools_name(key: str, layer: str) -> None:
    assert name_table(published())[key].name == layer


def test_blocks_are_counted_by_either_name() -> None:
    own = [row.name for row in published().linears]
    theirs = [row.diffusers for row in published().linears]
    assert count_blocks(own) == count_blocks(theirs) == 19
    assert count_blocks([]) == 13
