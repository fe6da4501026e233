"""Flow matching: x_t = (1−t)·x0 + t·noise, the network predicts noise − x0. Times and noise come by
counter."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onmodel.families.protocol import Family, Text
from onmodel.randomness import generator, normal
from onmodel.train.options import Timesteps

MIN_SNR_GAMMA = 5.0
HELD_OUT_TIMES = tuple((i + 0.5) / 8 for i in range(8))


def draw_time(rules: Timesteps, seed: int, step: int, slot: int) -> float:
    """The time of one picture of one step."""
    rng = generator(seed, "timestep", step, slot)
    if rules.kind == "uniform":
        t = float(rng.random())
    else:
        t = 1 / (1 + math.exp(-(rules.mean + rules.std * float(rng.standard_normal()))))
    return rules.shift * t / (1 + (rules.shift - 1) * t)


def loss_weight(kind: str, t_b: Tensor) -> Tensor:
    """What the loss of pictures at times `t_b` counts, [B]. t is σ of rectified flow, SNR =
    ((1−t)/t)².

    `sigma_sqrt` (1/σ²) and `cosmap` as in SD3 (https://arxiv.org/abs/2403.03206, 3.1 and B; as in
    diffusers' trainers). `min_snr` (https://arxiv.org/abs/2303.09556): min(SNR, γ) on the error of
    x0, which is t times that of the velocity.
    """
    match kind:
        case "sigma_sqrt":
            return t_b**-2
        case "cosmap":
            return 2 / (math.pi * (1 - 2 * t_b + 2 * t_b**2))
        case "min_snr":
            return torch.minimum((1 - t_b) ** 2, MIN_SNR_GAMMA * t_b**2)
        case _:
            return torch.ones_like(t_b)


def draw_noise(shape: Sequence[int], seed: int, purpose: str, *counters: int | str) -> Tensor:
    """Standard normal noise of one picture's latents, float32 on the CPU."""
    return torch.from_numpy(normal(tuple(shape), seed, purpose, *counters))


def velocity_loss(
    family: Family,
    latents_bchw: Tensor,
    noise_bchw: Tensor,
    t_b: Tensor,
    texts: Sequence[Text],
    weights_b1hw: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the predicted velocity of each picture, [B] float32; each place counts
    its weight.

    The mean is over all places, as in kohya's masked loss: a picture of which half is masked counts
    half.
    """
    t_b111 = t_b.view(-1, 1, 1, 1)
    noisy = torch.lerp(latents_bchw, noise_bchw, t_b111)
    velocity = family.denoise(noisy, t_b, texts)
    errors = (velocity.float() - (noise_bchw - latents_bchw)).square()
    return (errors if weights_b1hw is None else errors * weights_b1hw.to(errors)).mean(
        dim=(1, 2, 3)
    )
