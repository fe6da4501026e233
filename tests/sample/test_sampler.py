"""Our sampler against diffusers' own AnimaModularPipeline, and what batches must not change."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from pydantic import TypeAdapter

from onmodel.errors import InputError
from onmodel.evaluate.evaluation import EvaluationPlan
from onmodel.evaluate.plan import make_plan
from onmodel.families.anima.family import Anima
from onmodel.families.anima.sampling import schedule
from onmodel.randomness import normal
from onmodel.sample.sampler import Job, generate, guide, noise, sample
from onmodel.sample.sampling import Sampling
from tests.support.diffusers_anima import diffusers_pipeline


@pytest.fixture
def pipeline(tiny_anima: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return diffusers_pipeline(tiny_anima, monkeypatch)


def test_the_same_pictures_as_the_pipeline(tiny_family: Anima, pipeline: Any) -> None:
    job = Job("1girl, smile", "", 11, 48, 64)
    arguments = {
        "prompt": job.prompt,
        "negative_prompt": job.negative,
        "height": job.height,
        "width": job.width,
        "num_inference_steps": 4,
        "latents": noise(tiny_family, job).unsqueeze(2),
    }
    state = pipeline(**arguments, output_type="np")
    latents = state.get("latents").squeeze(2)
    ours = sample(tiny_family, [job], Sampling(steps=4, guidance=3.0))
    torch.testing.assert_close(ours, latents, rtol=1e-4, atol=1e-4)
    ((_, image),) = generate(tiny_family, [job], Sampling(steps=4, batch=1))
    assert image.size == (48, 64)
    np.testing.assert_allclose(
        np.asarray(image) / 255, state.get("images")[0], atol=0.51 / 255 + 1e-4
    )


@pytest.mark.parametrize("caption", ["1girl, smile", "", "a girl who smiles, 猫", "word " * 100])
def test_the_same_text_as_the_pipeline(tiny_family: Anima, pipeline: Any, caption: str) -> None:
    state = pipeline(prompt=caption, height=32, width=32, num_inference_steps=1, output_type="pt")
    (text,) = tiny_family.encode_text([caption])
    rows = F.pad(text.rows_sd, (0, 0, 0, text.zero_rows))
    torch.testing.assert_close(rows, state.get("prompt_embeds")[0], rtol=1e-4, atol=1e-5)
    assert (rows[: len(text.rows_sd)].abs().amax(1) > 0).all()


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 16, 30])
def test_the_scheduler_s_sigmas(shift: float, steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps))
    torch.testing.assert_close(schedule(steps, shift), scheduler.sigmas, rtol=1e-6, atol=1e-7)


def test_batches_change_nothing_but_rounding(tiny_family: Anima) -> None:
    jobs = [
        Job(f"{'smile, ' * i}1girl", "bad", i % 2, *size)
        for i, size in enumerate([(32, 32), (32, 48)] * 4)
    ]
    how = Sampling(steps=3, guidance=2.0, batch=3)
    together = list(generate(tiny_family, jobs, how))
    assert [job for job, _ in together] == jobs
    alone = [next(generate(tiny_family, [job], replace(how, batch=1))) for job in jobs]
    for (job, one), (_, two) in zip(together, alone, strict=True):
        assert one.size == (job.width, job.height)
        assert np.abs(np.asarray(one, dtype=int) - np.asarray(two, dtype=int)).max() <= 1


def test_noise_is_the_seed_s_alone(tiny_family: Anima) -> None:
    one, two = Job("a", "", 3, 32, 48), Job("b", "c", 3, 32, 48)
    assert torch.equal(noise(tiny_family, one), noise(tiny_family, two))
    assert not torch.equal(noise(tiny_family, one), noise(tiny_family, Job("a", "", 4, 32, 48)))


def test_guidance_one_leaves_the_negative_out(
    tiny_family: Anima, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    sampling = tiny_family.sampling

    def counted(texts: Any) -> Any:
        sizes.append(len(texts))
        return sampling(texts)

    monkeypatch.setattr(tiny_family, "sampling", counted)
    job = Job("a", "b", 3, 32, 32)
    sample(tiny_family, [job], Sampling(steps=2, guidance=1.0))
    sample(tiny_family, [job], Sampling(steps=2, guidance=2.0))
    assert sizes == [1, 2]


@pytest.mark.parametrize(("width", "height"), [(40, 32), (0, 32), (32, 8192)])
def test_sides_must_fit(tiny_family: Anima, width: int, height: int) -> None:
    largest = tiny_family.spec.resolution.largest
    remedy = f"size: {width}×{height} — sides are multiples of 16 px, at most {largest}"
    job = Job("a", "", 0, width, height)
    with pytest.raises(InputError, match=remedy):
        next(generate(tiny_family, [job], Sampling(steps=1, guidance=1.0, batch=1)))


def test_inference_mode_does_not_leak_to_the_caller(tiny_family: Anima) -> None:
    jobs = [Job("a", "", 0, 32, 32)] * 2
    for _ in generate(tiny_family, jobs, Sampling(steps=1, guidance=1.0, shift=1.0, batch=1)):
        assert not torch.is_inference_mode_enabled()


def test_an_empty_negative_prompt_of_comfyui_gives_other_pictures(tiny_family: Anima) -> None:
    def latents(job: Job) -> torch.Tensor:
        return sample(tiny_family, [job], Sampling(steps=2, guidance=3.0))

    here, comfyui = Job("smile", "", 3, 32, 32), Job("smile", "", 3, 32, 32, "comfyui")
    assert not torch.equal(latents(here), latents(comfyui))
    together = sample(tiny_family, [here, comfyui], Sampling(steps=2, guidance=3.0))
    alone = torch.cat([latents(here), latents(comfyui)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_a_rescaled_guidance_has_the_deviation_of_the_unguided_prediction() -> None:
    cond, uncond = (torch.from_numpy(normal((2, 4, 6, 6), seed, "noise")) for seed in (1, 2))
    whole = guide(cond, uncond, 7.0, 1.0)
    torch.testing.assert_close(whole.std((1, 2, 3)), cond.std((1, 2, 3)))
    plain = guide(cond, uncond, 7.0, 0.0)
    torch.testing.assert_close(guide(cond, uncond, 7.0, 0.25), 0.75 * plain + 0.25 * whole)


def test_a_rescale_is_another_sampler_for_keys_and_signatures() -> None:
    rescaled = Sampling(guidance_rescale=0.7)
    assert Sampling().sampler_version == "euler-flow-2"
    assert rescaled.sampler_version == "euler-flow-2-rescale0.7"


@pytest.mark.parametrize("rescale", [0.0, 0.7, 1e-5, 1.0])
@pytest.mark.parametrize("empty", ["diffusers", "comfyui"])
def test_a_plan_keeps_how_its_pictures_are_drawn(rescale: float, empty: Any) -> None:
    how = Sampling(sampler="dpmpp_2m", guidance_rescale=rescale, empty_text=empty, batch=8)
    plan = make_plan("0" * 64, "choose", [], 1, how, {}, "")
    read = TypeAdapter(EvaluationPlan).validate_json(json.dumps(asdict(plan)))
    assert read.sampling == how
