"""Finding merge weights: which merge to measure next, and which one is best, when every measurement
is dear and noisy.

A Gaussian process over the weights w of K models (w ≥ 0, Σ w = 1) in which two merges are as near
to each other as their changes of the base: ‖ΔW(w) − ΔW(w')‖² = (w − w')ᵀ·G·(w − w'), with G [K, K]
the inner products of the models' ΔW. So two checkpoints of one run are nearly one model to it, and
no file is opened to learn that. Nothing is measured here; lower values are better. Regression as in
Rasmussen & Williams 2006 (algorithm 2.1, section 5.4.1); the next merge by expected improvement
(Jones 1998), of the difference to the best one, which is itself known only through noise.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from onmodel.randomness import generator

Weights = tuple[float, ...]

BLOCKS = 3  # a merge is measured at most so many times, each time with other noise seeds
DECIMALS = 2  # of a weight; finer ones are not told apart by any measurement of this kind
POOL = 1000  # merges drawn at random, among which the next one is chosen
# Hyperparameters are taken from these by likelihood, with weak lognormal priors for as long as
# trials are few: the length in typical distances between the models (around 1), the noise's
# variance in variances of the function, and what a block's seeds shift together in variances of the
# noise: alike models draw alike pictures, so it may be nearly all.
LENGTHS, NOISES, SHARED = np.geomspace(0.35, 4, 6), np.geomspace(0.01, 3, 7), (1.0, 30.0)
USUAL_NOISE = 0.2


@dataclass(frozen=True)
class Trial:
    """One measurement. Trials of one block share prompts and noise seeds; the same merge again is
    in another block."""

    weights: Weights
    block: int
    value: float


@dataclass(frozen=True)
class SearchStep:
    """What to measure next, and why: "start", "explore" or "repeat"."""

    weights: Weights
    block: int
    why: str


def starts(origins: Sequence[tuple[str, int | None]]) -> list[Weights]:
    """Where a search begins, from each model's (stage, epoch): every model alone, the uniform mean,
    and the mean of the later half of the checkpoints of the stage that has most.
    """
    count = len(origins)
    single = [tuple(row) for row in np.eye(count).tolist()]
    stages: dict[str, list[tuple[int, int]]] = {}
    for k, (stage, epoch) in enumerate(origins):
        stages.setdefault(stage, []).append((epoch or 0, k))
    most = max(stages.values(), key=len)
    late = [k for _, k in sorted(most)[len(most) // 2 :]]
    uniform = (1 / count,) * count
    late_mean = tuple(float(k in late) / len(late) for k in range(count))
    return list(dict.fromkeys([*single, uniform, late_mean]))


def is_single(weights: Weights) -> bool:
    """Whether it is one model alone, and no merge."""
    return max(weights) == 1


def next_step(
    gram: np.ndarray, trials: Sequence[Trial], first: Sequence[Weights], seed: int
) -> SearchStep:
    """What to measure after `trials`: the starts, then a third repeats, the rest where most is
    expected to be gained.

    The same arguments give the same step, so a search that was killed goes the same way again.
    """
    times = Counter(trial.weights for trial in trials)
    for weights in first:
        if weights not in times:
            return SearchStep(weights, 0, "start")
    fitted = Posterior(gram, trials)
    best = fitted.best(list(times))
    again = [weights for weights, count in times.items() if count < BLOCKS]
    if again and 3 * (len(trials) - len(times)) < len(trials):
        mean, deviation = fitted.above(again, best)
        weights = again[int(np.argmin(mean - deviation))]  # the one that may yet be the best
        return SearchStep(weights, times[weights], "repeat")
    fresh = [weights for weights in _pool(best, seed, len(trials)) if weights not in times]
    mean, deviation = fitted.above(fresh, best)
    return SearchStep(fresh[int(np.argmax(expected_improvement(mean, deviation)))], 0, "explore")


def expected_improvement(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """E[max(0, −d)] of normal differences d to the best value so far."""
    from scipy import stats

    z = -mean / np.maximum(deviation, 1e-12)
    return np.asarray(deviation * (z * stats.norm.cdf(z) + stats.norm.pdf(z)))


class Posterior:
    """What the trials say of all merges. `noise` is the standard deviation of one measurement,
    `length` in ‖ΔW‖."""

    def __init__(self, gram: np.ndarray, trials: Sequence[Trial]) -> None:
        """Choose the hyperparameters by likelihood; the level and the variance follow from them in
        closed form."""
        from scipy.linalg import cho_factor, cho_solve
        from scipy.spatial.distance import cdist, pdist

        energies, axes = np.linalg.eigh(gram)
        self._root = axes * np.sqrt(
            np.clip(energies, 0, None)
        )  # root·rootᵀ = G: weights become points of ΔW's space
        self._points = self._place([trial.weights for trial in trials])
        values = np.array([trial.value for trial in trials])
        blocks = np.array([trial.block for trial in trials])
        count, distances = len(trials), cdist(self._points, self._points)
        typical = float(np.sqrt(np.mean(pdist(self._root, "sqeuclidean")))) or 1.0
        own, together = np.eye(count), blocks[:, None] == blocks[None]
        likelihood = -np.inf
        for length, noise, shared in product(LENGTHS, NOISES, SHARED):
            covariance = _matern(distances / (length * typical)) + noise * (own + shared * together)
            factor = cho_factor(covariance, lower=True)
            ones = cho_solve(factor, np.ones(count))
            level = float(ones @ values / ones.sum())
            solved = cho_solve(factor, values - level)
            variance = max(float((values - level) @ solved) / count, 1e-12)
            fits = -count / 2 * np.log(variance) - np.log(np.diag(factor[0])).sum()
            fits -= np.log(length) ** 2 + np.log(noise / USUAL_NOISE) ** 2 / 4.5
            if fits > likelihood:
                likelihood, self._factor, self._solved, self._variance = (
                    fits,
                    factor,
                    solved,
                    variance,
                )
                self.length, self.level, self.noise = (
                    length * typical,
                    level,
                    float(np.sqrt(variance * noise)),
                )

    def mean(self, weights: Sequence[Weights]) -> np.ndarray:
        """The expected value of merges."""
        return np.asarray(
            self.level + self._covariance(self._place(weights), self._points) @ self._solved
        )

    def best(self, among: Sequence[Weights]) -> Weights:
        """The merge with the lowest expected value."""
        return among[int(np.argmin(self.mean(among)))]

    def above(self, weights: Sequence[Weights], best: Weights) -> tuple[np.ndarray, np.ndarray]:
        """How much higher than `best` merges lie: mean and standard deviation of the difference."""
        from scipy.linalg import cho_solve

        rows = self._place([best, *weights])
        cross = self._covariance(rows, self._points)  # [1 + M, trials]
        explained = cho_solve(self._factor, cross.T)
        own = 1 - np.einsum("mn,nm->m", cross, explained)
        with_best = self._covariance(rows, rows[:1])[:, 0] - cross @ explained[:, 0]
        variance = self._variance * np.clip(own + own[0] - 2 * with_best, 0, None)
        mean = cross @ self._solved
        return mean[1:] - mean[0], np.sqrt(variance[1:])

    def _place(self, weights: Sequence[Weights]) -> np.ndarray:
        """Points [M, K] that are as far from each other as the ΔW of the merges."""
        return np.asarray(np.array(weights) @ self._root)

    def _covariance(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        from scipy.spatial.distance import cdist

        return _matern(cdist(left, right) / self.length)


def _matern(distance: np.ndarray) -> np.ndarray:
    """Matérn covariance with ν = 5/2."""
    scaled = np.sqrt(5) * distance
    return np.asarray((1 + scaled + scaled**2 / 3) * np.exp(-scaled))


def _pool(best: Weights, seed: int, step: int) -> list[Weights]:
    """Merges to choose from: anywhere, near the edges (few models), and between the best one and
    anything."""
    rng, count = generator(seed, "merge weights", step), len(best)
    anywhere = rng.dirichlet(np.ones(count), POOL // 3)
    edges = rng.dirichlet(np.full(count, 0.3), POOL // 3)
    share = rng.uniform(0, 0.5, (POOL // 3, 1))
    near = (1 - share) * np.array(best) + share * rng.dirichlet(np.full(count, 0.5), POOL // 3)
    return list(dict.fromkeys(_rounded(row) for row in np.concatenate([anywhere, edges, near])))


def _rounded(weights: np.ndarray) -> Weights:
    """To few decimals with the sum exactly 1; what is left goes to the largest."""
    units = np.floor(weights / weights.sum() * 10**DECIMALS + 1e-9).astype(int)
    units[int(np.argmax(weights))] += 10**DECIMALS - units.sum()
    return tuple((units / 10**DECIMALS).tolist())
