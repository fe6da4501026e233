"""SDXL's training objective: the noise of x = √ᾱ·x0 + √(1−ᾱ)·noise, or v = √ᾱ·noise − √(1−ᾱ)·x0
(https://arxiv.org/abs/2202.00512). Implements `onmodel.families.protocol.Objective`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from onmodel.families.sdxl.noise import NoiseSchedule

MIN_SNR_GAMMA = 5.0


@dataclass(frozen=True)
class NoiseObjective:
    """The objective of a base with this schedule."""

    schedule: NoiseSchedule

    def noisy(self, latents_bchw: Tensor, noise_bchw: Tensor, t_b: Tensor) -> Tensor:
        signal, noise = self._shares(t_b)
        return signal * latents_bchw + noise * noise_bchw

    def target(self, latents_bchw: Tensor, noise_bchw: Tensor, t_b: Tensor) -> Tensor:
        if self.schedule.prediction == "epsilon":
            return noise_bchw
        signal, noise = self._shares(t_b)
        return signal * noise_bchw - noise * latents_bchw

    def loss_weight(self, kind: str, t_b: Tensor) -> Tensor:
        """`min_snr` (https://arxiv.org/abs/2303.09556): min(SNR, γ) on the error of x0, for the
        error of the noise divided by SNR, of v by SNR + 1."""
        if kind != "min_snr":
            return torch.ones_like(t_b)
        alphas = self._alphas(t_b)
        snr = alphas / (1 - alphas)
        whole = snr if self.schedule.prediction == "epsilon" else snr + 1
        return snr.clamp(max=MIN_SNR_GAMMA) / whole

    def _alphas(self, t_b: Tensor) -> Tensor:
        return self.schedule.alphas.to(t_b.device)[self.schedule.step_of(t_b)]

    def _shares(self, t_b: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1−ᾱ), [B, 1, 1, 1]."""
        alphas = self._alphas(t_b).view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()
