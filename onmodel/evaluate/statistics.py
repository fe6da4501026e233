"""Intervals and tests where the unit is the prompt, because pictures of one prompt resemble each
other.

Every function takes one number per prompt (already averaged over seeds). Intervals are 95 %
t-intervals, for shares score intervals; ratios of means use the linearised (delta) form, geometric
means the logarithm. Tests are paired: prompts change sides (`swap_p`), or their differences change
sign where prompts are independent. What is resampled is prompts. docs/explanation/statistics.md
says how often each is right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from onmodel.randomness import generator

CONFIDENCE = 0.95
EXACT = 16  # up to this many prompts all sign flips are counted
FLIPS = 10_000
DRAWS = 2_000  # of prompts, when they are resampled
ENOUGH = 10  # drawn ways that reach the observed difference: p is known well enough
CHUNK = 60  # swapped sets that are computed at once: so few stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval over `n` prompts."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same prompts: mean difference with its interval, p of the test, share of
    prompts that rose.

    `least` is the smallest p that so many prompts can give, had all differences one sign.
    """

    mean: Interval
    p: float
    win_share: float
    least: float


def mean_interval(
    values_p: np.ndarray, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """t-interval of the mean; between two finite `bounds` the score interval of a share.

    Near the ends of a range a few prompts show no spread and a t-interval covers far less than 95
    %. The score interval (Wilson 1927) stays right with the effective number of observations, mean
    · (1 − mean) over the squared standard error, and with t for the normal quantile (Dean & Pagano
    2015). At an end itself prompts count as one observation each.
    """
    n = len(values_p)
    half = _t(n) * float(np.std(values_p, ddof=1)) / n**0.5
    return interval_of(float(np.mean(values_p)), half, n, bounds)


def interval_of(
    value: float, half: float, n: int, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """The interval of a mean over `n` prompts whose t-interval has this half width: between two
    finite `bounds` the score interval, see `mean_interval`."""
    mean, t = float(np.clip(value, *bounds)), _t(n)
    error = half / t
    at_an_end = bool(np.isclose(mean, bounds, rtol=0, atol=1e-9).any())
    if not np.isfinite(bounds).all() or (half == 0 and not at_an_end):
        return Interval(mean, mean - half, mean + half, n)
    start, width = bounds[0], bounds[1] - bounds[0]
    share = (mean - start) / width
    spread = 0.0 if at_an_end else share * (1 - share)
    # Values between the ends spread by share · (1 − share) at most.
    inverse = min((error / width) ** 2 / spread, 1 / (n - 1)) if spread else 1 / n
    centre = (share + t**2 * inverse / 2) / (1 + t**2 * inverse)
    half = t * (spread * inverse + (t * inverse / 2) ** 2) ** 0.5 / (1 + t**2 * inverse)
    low, high = (start + width * min(1.0, max(0.0, end)) for end in (centre - half, centre + half))
    return Interval(mean, min(low, mean), max(high, mean), n)


def ratio_interval(values_p: np.ndarray, control_p: np.ndarray) -> Interval:
    """mean(values) / mean(control) over the same prompts, with the interval of the linearised
    ratio.

    The spread is that of values − ratio · control, so what both share by prompt cancels. The
    control's mean must be well above 0.
    """
    n, scale = len(values_p), float(np.mean(control_p))
    ratio = float(np.mean(values_p)) / scale
    half = _t(n) * float(np.std(values_p - ratio * control_p, ddof=1)) / n**0.5 / scale
    return Interval(ratio, ratio - half, ratio + half, n)


def geometric_interval(ratios_p: np.ndarray) -> Interval:
    """Geometric mean of positive ratios with the t-interval of their logarithms."""
    log = mean_interval(np.log(ratios_p))
    return Interval(
        float(np.exp(log.value)), float(np.exp(log.low)), float(np.exp(log.high)), log.n
    )


def paired(a_p: np.ndarray, b_p: np.ndarray, seed: int = 0) -> Paired:
    """What changes from b to a on the same prompts; prompts where either says nothing (NaN) are
    left out."""
    difference = (a_p - b_p)[~np.isnan(a_p - b_p)]
    won = float(np.mean(difference > 0) + np.mean(difference == 0) / 2)
    n = len(difference)
    least = 2.0 ** (1 - n) if n <= EXACT else 1 / (FLIPS + 1)
    return Paired(mean_interval(difference), sign_flip_p(difference, seed), won, least)


def sign_flip_p(differences_p: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of the sign-flip permutation test that the mean paired difference is 0.

    Exact up to 16 prompts, else 10,000 drawn flips (with the observed one counted, so p is never
    0).
    """
    return max_t(differences_p[None], seed)[0]


def max_t(differences_cp: np.ndarray, seed: int = 0) -> list[float]:
    """p of many sign-flip tests on the same prompts, adjusted so that 95 % of families raise no
    false alarm.

    Step-down max-T (Westfall & Young 1993, algorithm 4.1): all comparisons [C, P] share each flip,
    so what goes together counts once. The statistic Σd / √Σd² orders flips as t does. NaN is a
    prompt that says nothing.
    """
    known = np.nan_to_num(differences_cp)
    size = np.linalg.norm(known, axis=1, keepdims=True)
    unit = np.divide(known, size, out=np.zeros_like(known, dtype=float), where=size > 0)
    observed = np.abs(unit.sum(1))
    order = np.argsort(-observed, kind="stable")
    unit, observed = unit[order], observed[order]
    signs, drawn = _flips(known.shape[1], seed)
    reached = np.zeros(len(unit), dtype=int)
    for start in range(0, len(signs), 4096):
        flipped = np.abs(signs[start : start + 4096] @ unit.T)
        highest = np.maximum.accumulate(flipped[:, ::-1], axis=1)[
            :, ::-1
        ]  # of this comparison and all weaker ones
        reached += (highest >= observed - 1e-9).sum(0)
    p = np.maximum.accumulate((reached + drawn) / (len(signs) + drawn))
    adjusted = np.empty(len(p))
    adjusted[order] = p
    return [float(value) for value in adjusted]


def swaps(n: int, seed: int, draws: int) -> tuple[np.ndarray, int]:
    """Which of `n` prompts are swapped between two models [R, n], and 1 when they are drawn, 0 when
    they are all ways. Swapping all of them mirrors the result, so the first one stays where all
    ways are counted."""
    if 2 ** max(n - 1, 0) <= draws + 1:
        ways = np.arange(2 ** max(n - 1, 0))[:, None] >> np.arange(max(n - 1, 0)) & 1
        return np.hstack([np.zeros((len(ways), min(n, 1)), dtype=bool), ways.astype(bool)]), 0
    return generator(seed, "swapped prompts", n).random((draws, n)) < 0.5, 1


def swap_differences(
    worse_by: Callable[[np.ndarray, np.ndarray], np.ndarray],
    a_pk: np.ndarray,
    b_pk: np.ndarray,
    swapped_rp: np.ndarray,
) -> np.ndarray:
    """How much worse a is than b [R] after the prompts that a row of `swapped_rp` names changed
    sides.

    `worse_by` maps the rows of all prompts of both [R, P, K] to one number [R], so an axis whose
    prompts share an estimate is computed anew each time.
    """
    found = []
    for start in range(0, len(swapped_rp), CHUNK):
        side = swapped_rp[start : start + CHUNK, :, None]
        found.append(worse_by(np.where(side, b_pk, a_pk), np.where(side, a_pk, b_pk)))
    return np.concatenate(found)


def swap_p(
    worse_by: Callable[[np.ndarray, np.ndarray], np.ndarray],
    a_pk: np.ndarray,
    b_pk: np.ndarray,
    draws: int,
    seed: int = 0,
    more: int = 0,
) -> tuple[float, float]:
    """Two-sided p of the permutation test that a and b differ by chance alone, and the smallest p
    that so many prompts can give. Where fewer than ten of the `draws` reach the observed
    difference, `more` are drawn, so that a small p is exact enough to be adjusted for many tests.

    All pictures of a prompt change sides together. The test is exact whatever `worse_by` is: under
    the null hypothesis every way of swapping is as likely as the observed one (Lehmann & Romano
    2005, section 15.2). Prompts on which both are equal cannot tell and are not swapped.
    """
    telling = np.flatnonzero((a_pk != b_pk).any(1))
    observed = abs(float(worse_by(a_pk[None], b_pk[None])[0]))
    for count in (draws, *([more] if more > draws else [])):
        ways, drawn = swaps(len(telling), seed, count)
        swapped = np.zeros((len(ways), len(a_pk)), dtype=bool)
        swapped[:, telling] = ways
        reached = np.abs(swap_differences(worse_by, a_pk, b_pk, swapped)) >= observed - 1e-9
        if not drawn or reached.sum() >= ENOUGH:
            break
    least = 1 / (max(draws, more) + 1) if drawn else 1 / len(ways)
    return float((reached.sum() + drawn) / (len(ways) + drawn)), least


def holm(p_values: Sequence[float], least: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) for a family of discrete tests, in the order given.

    A test whose `least` p lies above another's p cannot raise a false alarm there and does not
    count against it (Tarone 1990; step-down in Westfall & Wolfinger 1997): few prompts on one axis
    cost the others nothing.
    """
    order = np.argsort(p_values, kind="stable")
    p, floor = np.array(p_values, dtype=float)[order], np.array(least, dtype=float)[order]
    rivals = [1 + np.count_nonzero(floor[rank + 1 :] <= p[rank]) for rank in range(len(p))]
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p * rivals))
    return [float(one) for one in adjusted]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p adjusted for the share of false discoveries (Benjamini & Hochberg 1995), in the order
    given."""
    order = np.argsort(p_values, kind="stable")[::-1]
    p, count = np.array(p_values, dtype=float)[order], len(p_values)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(p * count / np.arange(count, 0, -1)))
    return [float(one) for one in adjusted]


def reachable(least: Sequence[float]) -> list[float]:
    """What `holm` would make of each test's least p, were it the smallest of the family."""
    return [float(one * np.count_nonzero(np.asarray(least) <= one)) for one in least]


def resampled_prompts(prompts: int, seed: int, count: int = DRAWS) -> np.ndarray:
    """How often each prompt counts in each of `count` bootstrap draws, [B, P]."""
    draws = generator(seed, "resampled prompts").integers(0, prompts, (count, prompts))
    return np.stack([(draws == p).sum(1) for p in range(prompts)], axis=1).astype(float)


def bootstrap_half_width(resampled_b: np.ndarray, prompts: int) -> np.ndarray:
    """Half of the 95 % interval of what was resampled along the first axis: t for so few prompts,
    and the bootstrap's spread, which is that of n prompts about their own mean, as that about the
    unknown one."""
    spread = resampled_b.std(0, ddof=1) * (prompts / (prompts - 1)) ** 0.5
    return np.asarray(spread * _t(prompts))


def pareto_front(costs_ma: np.ndarray) -> np.ndarray:
    """True [M] for models that no other beats or equals on every axis and beats on one; [..., M, A]
    at once."""
    ours, others = costs_ma[..., :, None, :], costs_ma[..., None, :, :]
    beats = (ours <= others).all(-1) & (ours < others).any(-1)
    return np.asarray(~np.any(beats, axis=-2))


def front_membership(costs_bma: np.ndarray) -> np.ndarray:
    """Share of the draws [B, M, A] in which each model [M] is on the Pareto front."""
    return np.asarray(np.mean([pareto_front(costs) for costs in costs_bma], axis=0))


@lru_cache(8)
def _flips(n: int, seed: int) -> tuple[np.ndarray, int]:
    """Signs [K, n] and 1 when they are drawn, 0 when they are all. A flip and its mirror image give
    the same |sum|, so the first sign stays."""
    if n <= EXACT:
        signs = ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n - 1)) & 1) * 2.0 - 1.0
        return np.hstack([np.ones((len(signs), 1)), signs]), 0
    return generator(seed, "sign flips", n).integers(0, 2, (FLIPS, n)) * 2.0 - 1.0, 1


def _t(n: int) -> float:
    """The t quantile for n prompts; at least two are needed to say anything."""
    if n < 2:
        raise ValueError("an interval needs at least two prompts")
    from scipy.special import stdtrit  # a plan computes no interval and does without scipy

    return float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
