"""The loss of a training step. Times and noise depend on counters. The family defines what the
network is given and what it predicts (`Family.objective`)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onmodel.families.protocol import Family, Text
from onmodel.families.settings import Timesteps
from onmodel.randomness import generator, normal

HELD_OUT_TIMES = tuple((i + 0.5) / 8 for i in range(8))


def draw_time(rules: Timesteps, flow: bool, seed: int, step: int, slot: int) -> float:
    """The time of one picture of one step; `flow`: of a model that predicts a flow."""
    rng = generator(seed, "timestep", step, slot)
    plain = rules.mean == 0 and rules.std == 1
    if rules.kind == "uniform" or (rules.kind == "auto" and plain and not flow):
        t = float(rng.random())
    else:
        t = 1 / (1 + math.exp(-(rules.mean + rules.std * float(rng.standard_normal()))))
    return rules.shift * t / (1 + (rules.shift - 1) * t)


def draw_offset(strength: float, channels: int, seed: int, step: int, slot: int) -> Tensor:
    """What `noise_offset` adds to one picture's noise: a number for each channel, [C, 1, 1]."""
    return strength * draw_noise((channels, 1, 1), seed, "noise offset", step, slot)


def draw_noise(shape: Sequence[int], seed: int, purpose: str, *counters: int | str) -> Tensor:
    """Standard normal noise of one picture's latents, float32 on the CPU."""
    return torch.from_numpy(normal(tuple(shape), seed, purpose, *counters))


def denoising_loss(
    family: Family,
    latents_bchw: Tensor,
    noise_bchw: Tensor,
    t_b: Tensor,
    texts: Sequence[Text],
    weights_b1hw: Tensor | None = None,
) -> Tensor:
    """Mean squared error of what the network predicts of each picture, [B] float32; each place
    counts its weight.

    The mean is over all places, as in kohya's masked loss: a picture of which half is masked counts
    half.
    """
    noisy = family.objective.noisy(latents_bchw, noise_bchw, t_b)
    prediction = family.denoise(noisy, t_b, texts)
    target = family.objective.target(latents_bchw, noise_bchw, t_b)
    errors = (prediction.float() - target).square()
    return (errors if weights_b1hw is None else errors * weights_b1hw.to(errors)).mean(
        dim=(1, 2, 3)
    )
