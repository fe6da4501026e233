"""Anima's training objective, flow matching: x_t = (1−t)·x0 + t·noise, the transformer predicts
noise − x0. Implements `onmodel.families.protocol.Objective`."""

import math

import torch
from torch import Tensor

MIN_SNR_GAMMA = 5.0


def noisy(latents_bchw: Tensor, noise_bchw: Tensor, t_b: Tensor) -> Tensor:
    return torch.lerp(latents_bchw, noise_bchw, t_b.view(-1, 1, 1, 1))


def target(latents_bchw: Tensor, noise_bchw: Tensor, t_b: Tensor) -> Tensor:
    return noise_bchw - latents_bchw


def loss_weight(kind: str, t_b: Tensor) -> Tensor:
    """t is σ of rectified flow, SNR = ((1−t)/t)².

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
