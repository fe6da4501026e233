"""How near do searches for merge weights come to the best merge? On made-up worlds whose best merge
is known.

python run.py bench-search [--worlds 24] [--first 1000] [--evaluations 30]

A world has five LoRAs as vectors: two from runs of their own and three checkpoints of a third run,
each with its run's bias, none at the ideal. A merge's badness is quadratic near the ideal and
levels off far from it; it weighs directions differently than ΔW's norm does. Regret is 0 for the
best merge and 1 for the mean of the single models. A measurement adds noise of its own and an
equally large shift that all measurements under the same noise seeds share. Every search has the
same number of measurements; the uniform mean needs none. Prints a table, and as its last line JSON.
"""

import argparse
import json

import numpy as np

from onmodel.evaluate.weight_search import Posterior, Trial, Weights, next_step, starts
from onmodel.randomness import generator

DIMENSIONS = 40
NOISES = {"low": 0.03, "high": 0.15}  # standard deviations, in units of regret
RUNS = (1, 1, 3)  # checkpoints of each run


class World:
    """Five LoRAs, their Gram matrix, and the badness of their merges."""

    def __init__(self, seed: int) -> None:
        rng = generator(seed, "made-up world")

        def direction(length: float) -> np.ndarray:
            return np.asarray(length * rng.normal(size=DIMENSIONS) / DIMENSIONS**0.5)

        self.seed, self.ideal = seed, direction(1.0)
        rows, self.origins = [], []
        for run, checkpoints in enumerate(RUNS):
            bias, walk = direction(0.95), np.zeros(DIMENSIONS)
            for c in range(checkpoints):
                walk = walk + direction(0.35)
                rows.append((0.7 + 0.2 * c) * self.ideal + (0.7 + 0.25 * c) * bias + walk)
                self.origins.append((f"run_{run}", 10 * (c + 1)))
        self.deltas = np.array(rows)  # [K, D]
        self.gram = self.deltas @ self.deltas.T
        rotation = np.linalg.qr(rng.normal(size=(DIMENSIONS, DIMENSIONS))).Q
        self.matters = rotation * np.concatenate(
            [np.geomspace(2, 0.4, 8), np.full(DIMENSIONS - 8, 0.2)]
        )
        self.lowest, self.single = self._lowest(), float(self.badness(np.eye(len(rows))).mean())

    def badness(self, weights_mk: np.ndarray) -> np.ndarray:
        square = np.sum(((weights_mk @ self.deltas - self.ideal) @ self.matters) ** 2, axis=-1)
        return np.asarray(square / (1 + 0.3 * square))

    def regret(self, weights: Weights | np.ndarray) -> float:
        return float(
            (self.badness(np.asarray(weights)) - self.lowest) / (self.single - self.lowest)
        )

    def measure(self, weights: Weights, block: int, noise: float) -> float:
        own = generator(self.seed, "own noise", str(weights), block).normal()
        return self.regret(weights) + noise * (
            own + generator(self.seed, "noise of a block", block).normal()
        )

    def _lowest(self) -> float:
        """By random draws that close in on the best one."""
        rng, best = generator(self.seed, "lowest"), np.full(len(self.deltas), 1 / len(self.deltas))
        for reach in (1.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01):
            drawn = (1 - reach) * best + reach * rng.dirichlet(np.full(len(best), 0.5), 2000)
            drawn = np.vstack([best, drawn])
            best = drawn[np.argmin(self.badness(drawn))]
        return float(self.badness(best))


def by_gaussian_process(world: World, gram: np.ndarray, evaluations: int, noise: float) -> Weights:
    """The search of the search stage under a Gram matrix."""
    trials: list[Trial] = []
    for _ in range(evaluations):
        step = next_step(gram, trials, starts(world.origins), world.seed)
        trials.append(
            Trial(step.weights, step.block, world.measure(step.weights, step.block, noise))
        )
    return Posterior(gram, trials).best([trial.weights for trial in trials])


def by_chance(world: World, evaluations: int, noise: float) -> Weights:
    """The lowest measurement of the same starts and random merges."""
    first, rng = starts(world.origins), generator(world.seed, "random search")
    drawn = [
        tuple(row)
        for row in rng.dirichlet(np.ones(len(world.deltas)), evaluations - len(first)).tolist()
    ]
    return min([*first, *drawn], key=lambda weights: world.measure(weights, 0, noise))


def by_single(world: World, noise: float) -> Weights:
    """The single model with the lowest measurement."""
    return min(
        starts(world.origins)[: len(world.deltas)],
        key=lambda weights: world.measure(weights, 0, noise),
    )


def regrets(worlds: list[World], evaluations: int, noise: float) -> dict[str, list[float]]:
    """Method → regret in each world."""
    count = len(worlds[0].deltas)
    return {
        "best single": [w.regret(by_single(w, noise)) for w in worlds],
        "uniform mean": [w.regret(np.full(count, 1 / count)) for w in worlds],
        "random search": [w.regret(by_chance(w, evaluations, noise)) for w in worlds],
        "GP, raw weights": [
            w.regret(by_gaussian_process(w, np.eye(count), evaluations, noise)) for w in worlds
        ],
        "GP, distances of ΔW": [
            w.regret(by_gaussian_process(w, w.gram, evaluations, noise)) for w in worlds
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=24)
    parser.add_argument("--first", type=int, default=1000, help="seed of the first world")
    parser.add_argument("--evaluations", type=int, default=30)
    arguments = parser.parse_args()
    worlds = [World(seed) for seed in range(arguments.first, arguments.first + arguments.worlds)]
    found = {name: regrets(worlds, arguments.evaluations, noise) for name, noise in NOISES.items()}
    print(
        f"regret, mean ± standard error over {len(worlds)} worlds, {arguments.evaluations}"
        " measurements"
    )
    for method in found["low"]:
        cells = [
            f"{np.mean(row[method]):.3f} ± {np.std(row[method], ddof=1) / len(worlds) ** 0.5:.3f}"
            for row in found.values()
        ]
        print(f"{method:22} low noise {cells[0]}   high noise {cells[1]}")
    print(
        json.dumps(
            {
                level: {method: round(float(np.mean(values)), 4) for method, values in row.items()}
                for level, row in found.items()
            }
        )
    )


if __name__ == "__main__":
    main()
