"""Intervals and tests where the unit is the prompt, because pictures of one prompt resemble each other.

Every function takes one number per prompt (already averaged over seeds). Intervals are 95 % t-intervals; ratios of
means use the linearised (delta) form, geometric means the logarithm. The test is the paired sign-flip permutation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from onmodel.randomness import generator

CONFIDENCE = 0.95
EXACT = 16  # up to this many prompts all sign flips are counted
FLIPS = 10_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval over `n` prompts."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same prompts: mean difference with its interval, p of the test, share of prompts that rose."""

    mean: Interval
    p: float
    win_share: float


def mean_interval(values_p: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)) -> Interval:
    """t-interval of the mean, cut to `bounds`.

    When every prompt lies at the same end of the range there is no spread to measure; the interval then reaches as far
    as one unseen kind of prompt could move the mean (a prompt off the end has probability at most 1 − 0.05^(1/n)).
    """
    n, mean = len(values_p), float(np.mean(values_p))
    half = _t(n) * float(np.std(values_p, ddof=1)) / n**0.5
    low, high = max(bounds[0], mean - half), min(bounds[1], mean + half)
    if np.ptp(values_p) == 0 and np.isfinite(bounds).all() and mean in bounds:
        reach = (bounds[1] - bounds[0]) * (1 - (1 - CONFIDENCE) ** (1 / n))
        low, high = (mean, mean + reach) if mean == bounds[0] else (mean - reach, mean)
    return Interval(mean, low, high, n)


def ratio_interval(values_p: np.ndarray, control_p: np.ndarray) -> Interval:
    """mean(values) / mean(control) over the same prompts, with the interval of the linearised ratio.

    The spread is that of values − ratio · control, so what both share by prompt cancels. The control's mean must be
    well above 0.
    """
    n, scale = len(values_p), float(np.mean(control_p))
    ratio = float(np.mean(values_p)) / scale
    half = _t(n) * float(np.std(values_p - ratio * control_p, ddof=1)) / n**0.5 / scale
    return Interval(ratio, ratio - half, ratio + half, n)


def geometric_interval(ratios_p: np.ndarray) -> Interval:
    """Geometric mean of positive ratios with the t-interval of their logarithms."""
    log = mean_interval(np.log(ratios_p))
    return Interval(float(np.exp(log.value)), float(np.exp(log.low)), float(np.exp(log.high)), log.n)


def paired(a_p: np.ndarray, b_p: np.ndarray, seed: int = 0) -> Paired:
    """What changes from b to a on the same prompts; prompts where either says nothing (NaN) are left out."""
    difference = (a_p - b_p)[~np.isnan(a_p - b_p)]
    won = float(np.mean(difference > 0) + np.mean(difference == 0) / 2)
    return Paired(mean_interval(difference), sign_flip_p(difference, seed), won)


def sign_flip_p(differences_p: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of the sign-flip permutation test that the mean paired difference is 0.

    Exact up to 16 prompts, else 10,000 drawn flips (with the observed one counted, so p is never 0).
    """
    n = len(differences_p)
    if n <= EXACT:
        signs = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) * 2.0 - 1.0
    else:
        signs = generator(seed, "sign flips", n).integers(0, 2, (FLIPS, n)) * 2.0 - 1.0
    observed = abs(float(differences_p.sum()))
    reached = int((np.abs(signs @ differences_p) >= observed - 1e-9 * max(1.0, observed)).sum())
    return reached / len(signs) if n <= EXACT else (reached + 1) / (len(signs) + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for a family of tests (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    scaled = np.array(p_values, dtype=float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return [float(p) for p in adjusted]


def _t(n: int) -> float:
    """The t quantile for n prompts; at least two are needed to say anything."""
    if n < 2:
        raise ValueError("an interval needs at least two prompts")
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
