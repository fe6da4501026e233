"""Anima's noise levels σ, from 1 (noise) to 0 (picture), and dx/dσ. Implements
`onmodel.families.protocol.SamplingRules`."""

import numpy as np
import torch
from torch import Tensor


def schedule(steps: int, shift: float) -> Tensor:
    """As FlowMatchEulerDiscreteScheduler shifts them."""
    even = np.linspace(1.0, 1.0 / steps, steps).astype(np.float32)
    shifted = shift * even / (1 + (shift - 1) * even)
    return torch.from_numpy(np.append(shifted, 0.0).astype(np.float32))


def start(noise_bchw: Tensor, sigmas: Tensor) -> Tensor:
    return noise_bchw


def velocity(x_bchw: Tensor, prediction_bchw: Tensor, sigma: Tensor) -> Tensor:
    """The transformer predicts it."""
    return prediction_bchw
