"""SDXL's noise levels σ and dx/dσ, for x = x0 + σ·noise. Implements
`onmodel.families.protocol.SamplingRules`."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.sdxl.noise import STEPS, NoiseSchedule
from onmodel.families.settings import SamplingSettings, Schedule


@dataclass(frozen=True)
class NoiseSampling:
    """The rules of a base that was trained with this schedule."""

    trained: NoiseSchedule

    def schedule(self, steps: int, shift: float, name: Schedule = "flow") -> Tensor:
        """`flow`, the default of every family: the steps of SDXL's EulerDiscreteScheduler,
        "leading" with an offset of 1; "trailing" for a base with zero terminal SNR, so that it
        begins with pure noise. The others as in ComfyUI. Raises InputError for a `shift`."""
        if shift not in (1.0, SamplingSettings.model_fields["shift"].default):
            raise InputError("shift", shift, "bases that predict noise have none; leave it out")
        table = self.trained.sigmas
        last = STEPS - 1
        match name:
            case "flow" if self.trained.zero_snr:
                chosen = np.round(np.arange(STEPS, 0, -STEPS / steps)) - 1
                levels = np.interp(chosen, np.arange(STEPS), table)
            case "flow":
                chosen = np.arange(steps)[::-1] * (STEPS // steps) + 1
                levels = np.interp(chosen, np.arange(STEPS), table)
            case "simple":
                levels = table[[-(1 + int(place * STEPS / steps)) for place in range(steps)]]
            case "sgm_uniform":
                levels = self.trained.sigma_of(np.linspace(last, 0, steps + 1)[:-1])
            case "normal":
                levels = self.trained.sigma_of(np.linspace(last, 0, steps))
        return torch.from_numpy(np.append(levels, 0.0).astype(np.float32))

    def start(self, noise_bchw: Tensor, sigmas: Tensor) -> Tensor:
        """As if there were a picture of variance 1 below the noise."""
        return noise_bchw * (1 + sigmas[0] ** 2).sqrt()

    def velocity(self, x_bchw: Tensor, prediction_bchw: Tensor, sigma: Tensor) -> Tensor:
        if self.trained.prediction == "epsilon":
            return prediction_bchw
        whole = 1 + sigma**2
        return x_bchw * (sigma / whole) + prediction_bchw / whole.sqrt()

    def denoised(self, x_bchw: Tensor, prediction_bchw: Tensor, sigma: Tensor) -> Tensor:
        return x_bchw - sigma * self.velocity(x_bchw, prediction_bchw, sigma)

    def signal(self, sigma: float) -> float:
        return 1.0
