"""SDXL's noise: how much of it a step of the training schedule has, by tables of 1,000 steps.

`alphas[i]` is ᾱ, the share of the picture's variance: x = √ᾱ·x0 + √(1−ᾱ)·noise. σ = √((1−ᾱ)/ᾱ)
is the noise level of the same picture divided by √ᾱ.
"""

from __future__ import annotations  # names and sizes are read without torch

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

STEPS = 1_000
_FIRST, _LAST = 0.00085, 0.012  # β of the first and the last step ("scaled_linear")
_LEAST = 2**-24  # ᾱ of the last step with zero terminal SNR, as diffusers keeps it from 0

Prediction = Literal["epsilon", "v"]


@dataclass(frozen=True)
class NoiseSchedule:
    """The schedule that a base was trained with. `zero_snr`: its last step is pure noise
    (https://arxiv.org/abs/2305.08891, algorithm 1)."""

    prediction: Prediction = "epsilon"
    zero_snr: bool = False

    @cached_property
    def alphas(self) -> Tensor:
        """ᾱ of each step [1000], float32, computed as diffusers does."""
        import torch

        betas = torch.linspace(_FIRST**0.5, _LAST**0.5, STEPS, dtype=torch.float32) ** 2
        alphas = torch.cumprod(1.0 - betas, dim=0)
        if not self.zero_snr:
            return alphas
        roots = alphas.sqrt()
        roots = (roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))
        # diffusers makes βs of these and multiplies them again
        steps = roots**2
        betas = 1 - torch.cat([steps[:1], steps[1:] / steps[:-1]])
        alphas = torch.cumprod(1.0 - betas, dim=0)
        alphas[-1] = _LEAST
        return alphas

    @cached_property
    def sigmas(self) -> np.ndarray:
        """σ of each step [1000], float64, rising."""
        alphas = self.alphas.double().numpy()
        return np.asarray(np.sqrt((1 - alphas) / alphas))

    def step_of(self, t_b: Tensor) -> Tensor:
        """The step [B] of times 0 (picture) to 1 (noise)."""
        return (t_b * STEPS).long().clamp(0, STEPS - 1)

    def step_of_sigma(self, sigma: float) -> int:
        """The step whose noise level is nearest, as ComfyUI finds it: by their logarithms."""
        return int(np.abs(np.log(self.sigmas) - np.log(sigma)).argmin())

    def sigma_of(self, step: np.ndarray) -> np.ndarray:
        """σ at steps between the table's, log-linear as in ComfyUI."""
        return np.asarray(np.exp(np.interp(step, np.arange(STEPS), np.log(self.sigmas))))
