"""Anima's noise levels σ, from 1 (noise) to 0 (picture), and dx/dσ. Implements
`onmodel.families.protocol.SamplingRules`."""

import numpy as np
import torch
from torch import Tensor

from onmodel.families.settings import Schedule

_TABLE = 1_000  # ComfyUI's schedules take their levels from so many


def schedule(steps: int, shift: float, name: Schedule = "flow") -> Tensor:
    """`flow`: even times, shifted as FlowMatchEulerDiscreteScheduler does. The others as in
    ComfyUI, whose `sgm_uniform` and `normal` end at the shifted first level of its table and shift
    it again."""
    even: np.ndarray
    last = float(_shifted(np.array(1 / _TABLE), shift))
    match name:
        case "flow":
            even = np.linspace(1.0, 1.0 / steps, steps).astype(np.float32)
        case "simple":
            even = 1 - np.floor(np.arange(steps) * (_TABLE / steps)) / _TABLE
        case "sgm_uniform":
            even = np.linspace(1.0, last, steps + 1)[:-1]
        case "normal":
            even = np.linspace(1.0, last, steps)
    return torch.from_numpy(np.append(_shifted(even, shift), 0.0).astype(np.float32))


def _shifted(times: np.ndarray, shift: float) -> np.ndarray:
    return shift * times / (1 + (shift - 1) * times)


def start(noise_bchw: Tensor, sigmas: Tensor) -> Tensor:
    return noise_bchw


def velocity(x_bchw: Tensor, prediction_bchw: Tensor, sigma: Tensor) -> Tensor:
    """The transformer predicts it."""
    return prediction_bchw


def denoised(x_bchw: Tensor, prediction_bchw: Tensor, sigma: Tensor) -> Tensor:
    return x_bchw - sigma * prediction_bchw


def signal(sigma: float) -> float:
    return 1 - sigma
