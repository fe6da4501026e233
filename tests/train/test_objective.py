"""Times, noise and the loss of flow matching."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from onmodel.models.anima.family import Anima
from onmodel.train.objective import HELD_OUT_TIMES, draw_noise, draw_time, velocity_loss
from onmodel.train.options import Options, Timesteps


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_times_are_logit_normal_and_shifted(shift: float) -> None:
    rules = Timesteps(kind="logit_normal", shift=shift)
    times = np.array([draw_time(rules, 1, step, slot) for step in range(500) for slot in range(8)])
    assert times.min() > 0 and times.max() < 1
    quartiles = 1 / (1 + np.exp(-norm.ppf([0.25, 0.5, 0.75])))
    assert np.quantile(times, [0.25, 0.5, 0.75]) == pytest.approx(
        shift * quartiles / (1 + (shift - 1) * quartiles), abs=0.02
    )


def test_times_are_uniform() -> None:
    times = [draw_time(Timesteps(kind="uniform"), 1, step, 0) for step in range(3000)]
    assert np.quantile(times, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.03)


def test_draws_depend_on_their_counters_alone() -> None:
    rules = Timesteps()
    assert draw_time(rules, 1, 5, 2) == draw_time(rules, 1, 5, 2) != draw_time(rules, 1, 2, 5)
    assert torch.equal(draw_noise((16, 2, 3), 1, "noise", 5, 2), draw_noise((16, 2, 3), 1, "noise", 5, 2))
    assert not torch.equal(draw_noise((16, 2, 3), 1, "noise", 5, 2), draw_noise((16, 2, 3), 1, "noise", 2, 5))


def test_loss(tiny_family: Anima) -> None:
    texts = tiny_family.encode_text(["smile", "1girl"])
    latents, noise = draw_noise((2, 16, 6, 8), 1, "a"), draw_noise((2, 16, 6, 8), 1, "b")
    t = torch.tensor([0.25, 0.75])
    with torch.no_grad():
        loss = velocity_loss(tiny_family, latents, noise, t, texts)
        for i in range(2):
            noisy = (1 - t[i]) * latents[i] + t[i] * noise[i]
            velocity = tiny_family.denoise(noisy[None], t[i : i + 1], texts[i : i + 1])[0]
            assert loss[i].item() == pytest.approx(
                (velocity - (noise[i] - latents[i])).square().mean().item(), rel=1e-4
            )
    assert loss.dtype == torch.float32


def test_held_out_times_are_spread() -> None:
    assert np.diff(HELD_OUT_TIMES) == pytest.approx([0.125] * 7)


def test_learning_rate() -> None:
    options = Options(epochs=1, learning_rate=2e-3, warmup=4, schedule="cosine")
    rates = [options.rate(step, 24) for step in range(24)]
    assert rates[:4] == pytest.approx([5e-4, 1e-3, 1.5e-3, 2e-3])
    assert rates[4] == 2e-3 and rates[14] == pytest.approx(1e-3) and rates[-1] < 2e-5
    assert rates[4:] == sorted(rates[4:], reverse=True)
    flat = Options(epochs=1, learning_rate=2e-3)
    assert {flat.rate(step, 24) for step in range(24)} == {2e-3}


def test_kept_epochs() -> None:
    options = Options(epochs=7, learning_rate=1e-3, keep_every=3)
    assert [epoch for epoch in range(1, 8) if options.kept(epoch)] == [3, 6, 7]


def test_weighed_loss(tiny_family: Anima) -> None:
    texts = tiny_family.encode_text(["smile", "1girl"])
    latents, noise = draw_noise((2, 16, 6, 8), 1, "a"), draw_noise((2, 16, 6, 8), 1, "b")
    t = torch.tensor([0.25, 0.75])
    weights = torch.zeros(2, 1, 6, 8)
    weights[0, :, :, :4] = 1
    weights[1] = 0.5
    with torch.no_grad():
        plain = velocity_loss(tiny_family, latents, noise, t, texts)
        weighed = velocity_loss(tiny_family, latents, noise, t, texts, weights)
        ones = velocity_loss(tiny_family, latents, noise, t, texts, torch.ones(2, 1, 6, 8))
        velocity = tiny_family.denoise(torch.lerp(latents, noise, t.view(-1, 1, 1, 1)), t, texts)
    half = (velocity - (noise - latents)).square()[0, :, :, :4].sum() / latents[0].numel()
    assert weighed[0].item() == pytest.approx(half.item(), rel=1e-4)
    assert weighed[1].item() == pytest.approx(plain[1].item() / 2, rel=1e-5)
    assert torch.equal(ones, plain)


def test_what_is_masked_teaches_nothing(tiny_family: Anima) -> None:
    texts = tiny_family.encode_text(["smile"])
    noise, t = draw_noise((1, 16, 6, 8), 1, "b"), torch.tensor([0.5])
    latents = draw_noise((1, 16, 6, 8), 1, "a").requires_grad_()
    velocity_loss(tiny_family, latents, noise, t, texts, torch.zeros(1, 1, 6, 8)).sum().backward()
    assert latents.grad is not None and not latents.grad.any()
