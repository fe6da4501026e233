"""Solvers: from noise to latents along the noise levels of a schedule.

`euler` steps along dx/dσ; `euler_ancestral` steps further and adds noise back, as in k-diffusion
and, for a flow, as in ComfyUI. `dpmpp_2m` is DPM-Solver++(2M) (https://arxiv.org/abs/2211.01095).
`er_sde` is the third-order ER-SDE solver of Cui et al. 2023
(https://arxiv.org/abs/2309.06169), with the noise scale of its ER-SDE 5. docs/reference/sampling.md
says what it is compared with.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from torch import Tensor

from onmodel.families.protocol import SamplingRules

Predict = Callable[[Tensor, Tensor], Tensor]
"""Latents and a noise level to what the network predicts."""
Draw = Callable[[int], Tensor]
"""Step to standard normal noise of the latents' shape."""
Solver = Callable[[SamplingRules, Predict, Tensor, Tensor, Draw], Tensor]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


def euler(
    rules: SamplingRules, predict: Predict, x_bchw: Tensor, sigmas: Tensor, draw: Draw
) -> Tensor:
    """One call of the network and no noise per step."""
    for now, after in pairwise(sigmas):
        x_bchw = x_bchw + (after - now) * rules.velocity(x_bchw, predict(x_bchw, now), now)
    return x_bchw


def euler_ancestral(
    rules: SamplingRules, predict: Predict, x_bchw: Tensor, sigmas: Tensor, draw: Draw
) -> Tensor:
    """One call of the network and fresh noise per step: a step to σ'²/σ, and noise up to σ'."""
    for i, (now, after) in enumerate(pairwise(map(float, sigmas))):
        x0 = rules.denoised(x_bchw, predict(x_bchw, sigmas[i]), sigmas[i])
        if after == 0:
            return x0
        down = after**2 / now
        kept = rules.signal(after) / rules.signal(down)
        x_bchw = kept * (x0 + down / now * (x_bchw - x0))
        x_bchw = x_bchw + math.sqrt(after**2 - (down * kept) ** 2) * draw(i).to(x_bchw)
    return x_bchw


def dpmpp_2m(
    rules: SamplingRules, predict: Predict, x_bchw: Tensor, sigmas: Tensor, draw: Draw
) -> Tensor:
    """One call of the network and no noise per step; the predicted x0 is a straight line in
    −log λ through this step's and the last one's. The step to 0 returns the predicted x0."""
    before: Tensor | None = None
    last = math.inf  # length of the step before in −log λ; from pure noise it has no end
    for i, (now, after) in enumerate(pairwise(map(float, sigmas))):
        x0 = rules.denoised(x_bchw, predict(x_bchw, sigmas[i]), sigmas[i])
        if after == 0:
            return x0
        signal, signal_after = rules.signal(now), rules.signal(after)
        step = math.log(now * signal_after / (signal * after)) if signal else math.inf
        aim = x0 if before is None else x0 + step / (2 * last) * (x0 - before)
        x_bchw = after / now * x_bchw - signal_after * math.expm1(-step) * aim
        before, last = x0, step
    return x_bchw


def er_sde(
    rules: SamplingRules, predict: Predict, x_bchw: Tensor, sigmas: Tensor, draw: Draw
) -> Tensor:
    """One call of the network and fresh noise per step. With x = α·x0 + σ·noise and λ = σ/α, the
    predicted x0 is a polynomial in λ, of degree two from the third step.

    Pure noise has λ = ∞: the step from it is the limit, where nothing of x is left, and x0
    predicted there has no part in the differences. The step to λ = 0 returns the predicted x0.
    """
    levels = [
        (signal, float(sigma) / signal if signal else math.inf)
        for sigma in sigmas
        for signal in [rules.signal(float(sigma))]
    ]
    before: Tensor | None = None
    slope_before: Tensor | None = None
    for i, ((signal, level), (signal_after, level_after)) in enumerate(pairwise(levels)):
        x0 = rules.denoised(x_bchw, predict(x_bchw, sigmas[i]), sigmas[i])
        if level_after == 0:
            return x0
        kept = 0.0 if math.isinf(level) else _scale(level_after) / _scale(level)
        fresh = math.sqrt(level_after**2 - (level * kept) ** 2) if kept else level_after
        mean = (1 - kept) * x0
        slope: Tensor | None = None
        if before is not None and not math.isinf(levels[i - 1][1]):
            first, second = _factors(level, level_after)
            slope = (x0 - before) / (level - levels[i - 1][1])
            mean = mean + first * slope
            if slope_before is not None:
                bend = (slope - slope_before) / ((level - levels[i - 2][1]) / 2)
                mean = mean + second * bend
        if kept:
            mean = mean + kept / signal * x_bchw
        x_bchw = signal_after * (mean + fresh * draw(i).to(mean))
        before, slope_before = x0, slope
    return x_bchw


def _scale(level: float) -> float:
    """φ(λ) of ER-SDE 5."""
    return level * (math.exp(level**0.3) + 10)


def _factors(level: float, after: float) -> tuple[float, float]:
    """What x0' and x0'' count in a step from λ = `level` to `after`: the integrals of (λ − level)
    and (λ − level)²/2 over d(−φ(after)/φ(λ)), by parts; by Gauss-Legendre over log λ."""
    low, high = math.log(after), math.log(level)
    lambdas = np.exp(low + (high - low) * (_NODES + 1) / 2)
    areas = _WEIGHTS * (high - low) / 2 / (np.exp(lambdas**0.3) + 10)
    one, two = float(areas.sum()), float((areas * (lambdas - level)).sum())
    scale, step = _scale(after), after - level
    return step + scale * one, step**2 / 2 + scale * two


SOLVERS: dict[str, Solver] = {
    "euler": euler,
    "euler_ancestral": euler_ancestral,
    "dpmpp_2m": dpmpp_2m,
    "er_sde": er_sde,
}
