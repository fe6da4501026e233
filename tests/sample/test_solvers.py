"""The solvers against plain float64 references."""

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from onmodel.families.anima import sampling
from onmodel.families.sdxl.noise import NoiseSchedule
from onmodel.families.sdxl.sampling import NoiseSampling
from onmodel.sample.sampler import Job, noise, sample
from onmodel.sample.sampling import Sampling
from onmodel.sample.solvers import dpmpp_2m, er_sde, euler, euler_ancestral

SHAPE = (2, 3, 4, 4)


def drawn(step: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(step).standard_normal(SHAPE)).float()


def velocity(x: Any, sigma: Any) -> Any:
    """A network that is no straight line in x or in σ."""
    return 0.7 * x - 0.4 * x * sigma + 0.2 * sigma**2 - 0.1


def phi(level: float) -> float:
    return level * (math.exp(level**0.3) + 10)


def reference(
    x: np.ndarray, sigmas: list[float], points: int = 200_000, place: float = 0.5
) -> np.ndarray:
    """Algorithm of arXiv 2309.06169, written out; its integrals by sums over `points`, each at
    `place` of its piece."""
    levels = [s / (1 - s) if s < 1 else math.inf for s in sigmas]
    x0s: list[np.ndarray] = []
    slopes: dict[int, np.ndarray] = {}
    for i, (s, t) in enumerate(pairwise(sigmas)):
        x0s.append(x - s * velocity(x, s))
        if t == 0:
            return x0s[-1]
        ls, lt, at = levels[i], levels[i + 1], 1 - t
        z = drawn(i).double().numpy()
        if math.isinf(ls):
            x = at * x0s[i] + at * lt * z
            continue
        r = phi(lt) / phi(ls)
        new = at / (1 - s) * r * x + at * (1 - r) * x0s[i]
        grid = lt + (ls - lt) * (np.arange(points) + place) / points
        weights = (ls - lt) / points / np.array([phi(g) for g in grid])
        if i >= 1 and math.isfinite(levels[i - 1]):
            slopes[i] = (x0s[i] - x0s[i - 1]) / (ls - levels[i - 1])
            new = new + at * (lt - ls + phi(lt) * weights.sum()) * slopes[i]
        if i - 1 in slopes:
            bend = (slopes[i] - slopes[i - 1]) / ((ls - levels[i - 2]) / 2)
            area = (weights * (grid - ls)).sum()
            new = new + at * ((lt - ls) ** 2 / 2 + phi(lt) * area) * bend
        x = new + at * math.sqrt(lt**2 - ls**2 * r**2) * z
    return x


@pytest.mark.parametrize("first", [1.0, 0.97])
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_er_sde_is_the_papers_formula(steps: int, first: float) -> None:
    sigmas = sampling.schedule(steps, 3.0, "simple") * first
    x = drawn(99)
    got = er_sde(sampling, velocity, x, sigmas, drawn)  # type: ignore[arg-type]
    expected = reference(x.double().numpy(), [float(sigma) for sigma in sigmas])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("steps", [10, 30])
def test_er_sde_from_pure_noise_is_the_limit_of_what_comfyui_computes(steps: int) -> None:
    """For flow models ComfyUI moves a first σ of 1 to the shifted time 0.9999, where λ is finite
    (29,997 at shift 3), and sums each integral over 200 points at the start of their pieces."""
    sigmas = sampling.schedule(steps, 3.0, "simple")
    x = drawn(99)
    got = er_sde(sampling, velocity, x, sigmas, drawn)  # type: ignore[arg-type]
    first = 3 * 0.9999 / (1 + 2 * 0.9999)
    assert first / (1 - first) == pytest.approx(29_997)
    moved = [first, *(float(sigma) for sigma in sigmas[1:])]
    comfyui = reference(x.double().numpy(), moved, points=200, place=0.0)
    np.testing.assert_allclose(got.numpy(), comfyui, atol=5e-4 * np.abs(comfyui).max())


def ancestral_reference(x: np.ndarray, sigmas: list[float], flow: bool) -> np.ndarray:
    """k-diffusion's `sample_euler_ancestral`, and ComfyUI's form of it for flows, at eta 1."""
    for i, (s, t) in enumerate(pairwise(sigmas)):
        x0 = x - s * velocity(x, s)
        noise = drawn(i).double().numpy()
        if t == 0:
            return x0
        if flow:
            down = t * (1 + (t / s - 1))
            again = math.sqrt(t**2 - down**2 * (1 - t) ** 2 / (1 - down) ** 2)
            x = (1 - t) / (1 - down) * (down / s * x + (1 - down / s) * x0) + noise * again
        else:
            up = min(t, math.sqrt(t**2 * (s**2 - t**2) / s**2))
            x = x + (x - x0) / s * (math.sqrt(t**2 - up**2) - s) + noise * up
    return x


def dpmpp_2m_reference(x: np.ndarray, sigmas: list[float], flow: bool) -> np.ndarray:
    """k-diffusion's `sample_dpmpp_2m`, on x divided by the signal."""
    signals = [1 - s if flow else 1.0 for s in sigmas]
    old = None
    for i, (s, t) in enumerate(pairwise(sigmas)):
        x0 = x - s * velocity(x, s)
        if t == 0:
            return x0
        level, after = s / signals[i], t / signals[i + 1]
        h = math.log(level) - math.log(after)
        d = x0
        if old is not None:
            r = (math.log(sigmas[i - 1] / signals[i - 1]) - math.log(level)) / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * old
        x = signals[i + 1] * (after / level * x / signals[i] - math.expm1(-h) * d)
        old = x0
    return x


@pytest.mark.parametrize("flow", [True, False])
@pytest.mark.parametrize(
    ("solver", "formula"),
    [(euler_ancestral, ancestral_reference), (dpmpp_2m, dpmpp_2m_reference)],
)
def test_a_solver_is_k_diffusions(solver: Any, formula: Any, flow: bool) -> None:
    rules = sampling if flow else NoiseSampling(NoiseSchedule())
    sigmas = sampling.schedule(7, 3.0, "simple") * 0.97 * (1 if flow else 14)
    x = drawn(99)
    got = solver(rules, velocity, x, sigmas, drawn)
    expected = formula(x.double().numpy(), [float(sigma) for sigma in sigmas], flow)
    np.testing.assert_allclose(got.numpy(), expected, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("solver", [euler, euler_ancestral, dpmpp_2m, er_sde])
def test_a_known_picture_is_found(solver: Any) -> None:
    """A network that always predicts one picture gives that picture."""
    picture = drawn(5)
    rules = SimpleNamespace(
        velocity=sampling.velocity, denoised=sampling.denoised, signal=sampling.signal
    )
    sigmas = sampling.schedule(5, 3.0)
    got = solver(rules, lambda x, sigma: (x - picture) / sigma, drawn(1), sigmas, drawn)
    torch.testing.assert_close(got, picture, rtol=1e-5, atol=1e-5)


def test_schedules_are_those_of_comfyui() -> None:
    """Values computed by hand for shift 3: σ(t) = 3t / (1 + 2t), and σ(1/1000) = 0.0029940."""
    expected = {
        "simple": [1.0, 3 * 0.667 / 2.334, 3 * 0.334 / 1.668, 0.0],
        "sgm_uniform": [1.0, 3 * 0.667665 / 2.335329, 3 * 0.335329 / 1.670659, 0.0],
        "normal": [1.0, 3 * 0.501497 / 2.002994, 3 * 0.002994 / 1.005988, 0.0],
    }
    for name, sigmas in expected.items():
        got = sampling.schedule(3, 3.0, name)  # type: ignore[arg-type]
        np.testing.assert_allclose(got.numpy(), sigmas, atol=2e-6)


def test_noise_of_a_step_depends_on_the_job_alone(tiny_family: Any) -> None:
    jobs = [Job("1girl", "", seed, 32, 32) for seed in (1, 2)]
    how = Sampling(steps=3, guidance=1.0, sampler="er_sde", schedule="simple")
    together = sample(tiny_family, jobs, how)
    alone = torch.cat([sample(tiny_family, [job], how) for job in jobs])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    assert not torch.equal(
        noise(tiny_family, jobs[0], "noise of step 0"), noise(tiny_family, jobs[0])
    )
