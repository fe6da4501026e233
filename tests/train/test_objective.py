"""Times, noise and the loss of flow matching."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from onmodel.families.anima.family import Anima
from onmodel.families.anima.objective import loss_weight
from onmodel.families.settings import Timesteps
from onmodel.train.objective import (
    HELD_OUT_TIMES,
    denoising_loss,
    draw_noise,
    draw_offset,
    draw_time,
)
from onmodel.train.options import Options


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_times_are_logit_normal_and_shifted(shift: float) -> None:
    rules = Timesteps(kind="logit_normal", shift=shift)
    times = np.array(
        [draw_time(rules, True, 1, step, slot) for step in range(500) for slot in range(8)]
    )
    assert times.min() > 0 and times.max() < 1
    quartiles = 1 / (1 + np.exp(-norm.ppf([0.25, 0.5, 0.75])))
    assert np.quantile(times, [0.25, 0.5, 0.75]) == pytest.approx(
        shift * quartiles / (1 + (shift - 1) * quartiles), abs=0.02
    )


def test_times_are_uniform() -> None:
    times = [draw_time(Timesteps(kind="uniform"), True, 1, step, 0) for step in range(3000)]
    assert np.quantile(times, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.03)


def test_times_of_a_model_that_predicts_noise_are_uniform_unless_a_form_is_asked_for() -> None:
    def quartiles(rules: Timesteps, flow: bool) -> list[float]:
        times = [draw_time(rules, flow, 1, step, 0) for step in range(3000)]
        return [float(one) for one in np.quantile(times, [0.25, 0.75])]

    assert quartiles(Timesteps(), False) == pytest.approx([0.25, 0.75], abs=0.03)
    normal = quartiles(Timesteps(kind="logit_normal"), True)
    for rules, flow in ((Timesteps(), True), (Timesteps(kind="logit_normal"), False)):
        assert quartiles(rules, flow) == normal
    assert quartiles(Timesteps(mean=1.0), False) == quartiles(Timesteps(mean=1.0), True)


def test_a_noise_offset_is_one_number_for_each_channel() -> None:
    drawn = torch.stack([draw_offset(0.1, 4, 1, step, 0) for step in range(500)])
    assert drawn.shape == (500, 4, 1, 1)
    assert float(drawn.std()) == pytest.approx(0.1, rel=0.1)
    assert torch.equal(drawn[7], draw_offset(0.1, 4, 1, 7, 0))


def test_draws_depend_on_their_counters_alone() -> None:
    rules = Timesteps()
    assert (
        draw_time(rules, True, 1, 5, 2)
        == draw_time(rules, True, 1, 5, 2)
        != draw_time(rules, True, 1, 2, 5)
    )
    assert torch.equal(
        draw_noise((16, 2, 3), 1, "noise", 5, 2), draw_noise((16, 2, 3), 1, "noise", 5, 2)
    )
    assert not torch.equal(
        draw_noise((16, 2, 3), 1, "noise", 5, 2), draw_noise((16, 2, 3), 1, "noise", 2, 5)
    )


def test_loss(tiny_family: Anima) -> None:
    texts = tiny_family.encode_text(["smile", "1girl"])
    latents, noise = draw_noise((2, 16, 6, 8), 1, "a"), draw_noise((2, 16, 6, 8), 1, "b")
    t = torch.tensor([0.25, 0.75])
    with torch.no_grad():
        loss = denoising_loss(tiny_family, latents, noise, t, texts)
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
        plain = denoising_loss(tiny_family, latents, noise, t, texts)
        weighed = denoising_loss(tiny_family, latents, noise, t, texts, weights)
        ones = denoising_loss(tiny_family, latents, noise, t, texts, torch.ones(2, 1, 6, 8))
        velocity = tiny_family.denoise(torch.lerp(latents, noise, t.view(-1, 1, 1, 1)), t, texts)
    half = (velocity - (noise - latents)).square()[0, :, :, :4].sum() / latents[0].numel()
    assert weighed[0].item() == pytest.approx(half.item(), rel=1e-4)
    assert weighed[1].item() == pytest.approx(plain[1].item() / 2, rel=1e-5)
    assert torch.equal(ones, plain)


def test_what_is_masked_teaches_nothing(tiny_family: Anima) -> None:
    texts = tiny_family.encode_text(["smile"])
    noise, t = draw_noise((1, 16, 6, 8), 1, "b"), torch.tensor([0.5])
    latents = draw_noise((1, 16, 6, 8), 1, "a").requires_grad_()
    denoising_loss(tiny_family, latents, noise, t, texts, torch.zeros(1, 1, 6, 8)).sum().backward()
    assert latents.grad is not None and not latents.grad.any()


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "cosine_with_restarts"])
def test_schedules_are_those_of_diffusers(schedule: str) -> None:
    from diffusers.optimization import get_scheduler

    cycles = {"cycles": 3} if schedule == "cosine_with_restarts" else {}
    options = Options(epochs=1, learning_rate=2e-3, schedule=schedule, **cycles)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-3)
    theirs = get_scheduler(
        schedule,
        optimizer,
        num_warmup_steps=0,
        num_training_steps=24,
        num_cycles=cycles.get("cycles", 1),
    )
    for step in range(24):
        assert options.rate(step, 24) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_loss_weights_are_those_of_sd3_and_min_snr() -> None:
    from diffusers.training_utils import compute_loss_weighting_for_sd3

    t = torch.linspace(0.05, 0.95, 19)
    for kind in ("none", "sigma_sqrt", "cosmap"):
        assert torch.allclose(loss_weight(kind, t), compute_loss_weighting_for_sd3(kind, t))
    snr = ((1 - t) / t) ** 2
    x0_error, velocity_error = torch.ones_like(t), t**-2  # x0 = x_t − t·velocity
    assert torch.allclose(
        loss_weight("min_snr", t) * velocity_error, snr.clamp(max=5) * x0_error, rtol=1e-5
    )


def test_times_follow_mean_and_std() -> None:
    rules = Timesteps(mean=-1.0, std=0.5)
    times = np.array(
        [draw_time(rules, True, 1, step, slot) for step in range(500) for slot in range(8)]
    )
    logits = np.log(times / (1 - times))
    assert (logits.mean(), logits.std()) == pytest.approx((-1.0, 0.5), abs=0.03)


def test_accumulated_batches_have_the_gradient_of_one(tiny_family: Anima) -> None:
    from onmodel.dataset.captions import plain_caption
    from onmodel.records import Item
    from onmodel.train import loop
    from onmodel.train.adapters import Adapters, attached, fresh_factors

    options = Options(epochs=1, learning_rate=1e-3, loss_weighting="cosmap", caption="tags")
    items = [
        Item("x", f"{i:064x}", 64, 64, "base", "1girl, smile", "", i, "train", "toon")
        for i in range(3)
    ]
    examples = [
        loop.Example(
            item,
            draw_noise((16, 6, 6), 1, "latents", i),
            1,
            [plain_caption(item, options.caption_rules)],
        )
        for i, item in enumerate(items)
    ]
    texts = dict(zip(["1girl, smile"], tiny_family.encode_text(["1girl, smile"]), strict=True))
    targets = tiny_family.spec.targets("attention_mlp")
    factors = fresh_factors(targets, {linear.name: (2, 2.0) for linear in targets}, 1)
    training = loop.TrainingInputs(tiny_family, examples, [], texts, options, seed=1)
    shown = [loop.Shown(i, 0) for i in range(3)]
    found = []
    for batches in ([shown], [shown[:2], shown[2:]]):
        adapters = Adapters(factors, torch.device("cpu"))
        with attached(tiny_family, adapters, torch.float32):
            step = loop.prepare(training, 0, batches, torch.device("cpu"))
            loss = loop.fill_gradient(training, adapters, step)
        found.append((float(loss), adapters.flat.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert (
        torch.allclose(found[0][1], found[1][1], rtol=1e-3, atol=1e-6)
        and found[0][1].abs().max() > 1e-4
    )


def test_the_average_of_the_weights(tmp_path: Path, tiny_family: Anima) -> None:
    from onmodel.train.adapters import Adapters, fresh_factors
    from onmodel.train.state import State

    targets = tiny_family.spec.targets(["*.mlp.layer1"])
    adapters = Adapters(
        fresh_factors(targets, {linear.name: (2, 2.0) for linear in targets}, 1),
        torch.device("cpu"),
    )
    state = State(tmp_path, adapters, Options(epochs=1, learning_rate=1e-3, ema=0.4))
    wanted = adapters.flat.detach().clone()
    for n in range(1, 15):
        with torch.no_grad():
            adapters.flat.add_(0.1)
        state.history.rates.append(0.0)
        state.average()
        decay = min(0.4, (1 + n) / (10 + n))
        wanted = decay * wanted + (1 - decay) * adapters.flat.detach()
    raw = adapters.flat.detach().clone()
    with state.averaged():
        assert torch.allclose(adapters.flat, wanted, atol=1e-6) and not torch.allclose(
            adapters.flat, raw, atol=1e-3
        )
    assert torch.equal(adapters.flat, raw)


def test_which_checkpoints_are_dropped() -> None:
    losses = {1: 0.5, 2: 0.3, 3: 0.4, 4: 0.6}

    def dropped(**changes: int) -> set[int]:
        return Options(epochs=6, learning_rate=1e-3, **changes).dropped(losses)

    assert dropped() == set()
    assert dropped(keep_last=2) == {1, 2}
    assert dropped(keep_best=2) == {1, 4}
    assert dropped(keep_last=1, keep_best=1) == {1, 3}
    assert Options(epochs=4, learning_rate=1e-3, keep_best=1).dropped(losses) == {
        1,
        3,
    }  # the end stays


def test_what_a_forward_pass_keeps_is_measured(tiny_family: Anima) -> None:
    from onmodel.train.checkpointing import activation_bytes

    text = tiny_family.encode_text(["1girl"])

    def kept(side: int, limit: int = 10**12) -> int | None:
        latents = torch.zeros(1, 16, side, side, requires_grad=True)
        t = torch.tensor([0.5])
        return activation_bytes(
            tiny_family, lambda: tiny_family.denoise(latents, t, text).sum(), limit
        )

    small, large = kept(8), kept(16)
    assert small and large and 2.5 * small < large < 6 * small  # four times the pixels
    assert kept(16, large - 1) is None
    tiny_family.backbone.enable_gradient_checkpointing()
    assert kept(16) < 0.5 * large
