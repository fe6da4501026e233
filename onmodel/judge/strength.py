"""Bradley–Terry strengths of models from votes, with intervals over prompts.

A tie is half a win for each. Intervals come from the Bayesian bootstrap (Rubin 1981): every prompt
weighs in with an exponential weight, and so do half a win and half a loss of every model, spread
over its opponents. For two models and one vote a prompt that is Jeffreys' interval, which stays
right where a model wins every vote; resampled prompts would show no spread there.
benchmarks/simulated_judges.py counts how often the intervals are right.
"""

from dataclasses import dataclass

import choix
import numpy as np
from scipy import stats

from onmodel.evaluate.statistics import CONFIDENCE, Interval
from onmodel.randomness import generator

DRAWS = 2_000
PRECISION = 1e-4  # of a drawn strength; intervals are a thousand times as wide
SMALLEST = 1e-6  # a weight; less would leave the fit without a path from one model to another


@dataclass(frozen=True)
class Strengths:
    """Log-odds [M] with mean 0, and draws of them [B, M] from votes on `prompts` prompts."""

    values: np.ndarray
    draws: np.ndarray
    prompts: int

    def strength(self, model: int) -> Interval:
        """A model's log-odds."""
        return self._interval(float(self.values[model]), self.draws[:, model])

    def preferred(self, model: int) -> Interval:
        """The share of pairs that a model would win against the others, each as often."""
        return self._interval(float(_won(self.values, model)), _won(self.draws, model))

    def told_apart(self, better: int, worse: int) -> bool:
        """Is one model above the other, at 95 % for all pairs of models together (Bonferroni)?"""
        models = len(self.values)
        difference = self.draws[:, better] - self.draws[:, worse]
        low, _ = self._ends(difference, (1 - CONFIDENCE) / (models * (models - 1) / 2))
        return low > 0

    def _interval(self, value: float, draws_b: np.ndarray) -> Interval:
        low, high = self._ends(draws_b, 1 - CONFIDENCE)
        return Interval(value, min(low, value), max(high, value), self.prompts)

    def _ends(self, draws_b: np.ndarray, outside: float) -> tuple[float, float]:
        """Quantiles that leave `outside` out, further out for few prompts: t instead of the normal,
        and the weights' spread of n prompts about their own mean, which is n / (n + 1) of that
        about the unknown one."""
        n = self.prompts
        reach = stats.t.ppf(1 - outside / 2, n - 1) * ((n + 1) / n) ** 0.5
        level = stats.norm.sf(reach)
        low, high = np.quantile(draws_b, [level, 1 - level])
        return float(low), float(high)


def strengths(wins_pmm: np.ndarray, seed: int, draws: int = DRAWS) -> Strengths:
    """From wins [P, M, M] of the first model over the second on each prompt, ties half to both. P
    and M at least 2."""
    prompts, models, _ = wins_pmm.shape
    spread = 0.5 / (models - 1)
    others = 1 - np.eye(models)
    weights = generator(seed, "weights of prompts").exponential(size=(draws, prompts))
    halves = generator(seed, "weights of half votes").gamma(spread, size=(draws, models, models))
    drawn = np.einsum("bp,pmk->bmk", weights, wins_pmm) + np.maximum(halves, SMALLEST) * others
    values = choix.ilsr_pairwise_dense(wins_pmm.sum(0) + spread * others)
    fits = [choix.ilsr_pairwise_dense(one, tol=PRECISION) for one in drawn]
    return Strengths(values, np.stack(fits), prompts)


def _won(strengths_m: np.ndarray, model: int) -> np.ndarray:
    """Mean chance [...] to win against the other models, from log-odds [..., M]."""
    chances = 1 / (1 + np.exp(strengths_m - strengths_m[..., model : model + 1]))
    return np.asarray((chances.sum(-1) - 0.5) / (strengths_m.shape[-1] - 1))  # 0.5 against itself
