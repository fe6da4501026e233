"""The search for merge weights: where it begins, what it proposes, and that it comes nearer to the
best than a mean."""

import sys
from pathlib import Path

import numpy as np
import pytest

from onmodel.evaluate.weight_search import (
    BLOCKS,
    Posterior,
    Trial,
    Weights,
    is_single,
    next_step,
    starts,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

FIVE = [("preview", 20), ("release_1", 20), ("release_2", 30), ("release_2", 10), ("release_2", 20)]
GRAM = np.eye(5) + 0.5


def measured(count: int, gram: np.ndarray = GRAM, seed: int = 1) -> list[Trial]:
    """A search for the point 0.2, 0, 0.6, 0, 0.2, without noise."""
    ideal, trials = np.array([0.2, 0, 0.6, 0, 0.2]), []
    for _ in range(count):
        step = next_step(gram, trials, starts(FIVE), seed)
        apart = np.array(step.weights) - ideal
        trials.append(Trial(step.weights, step.block, float(apart @ gram @ apart)))
    return trials


def test_it_begins_with_the_singles_the_mean_and_the_mean_of_late_checkpoints() -> None:
    first = starts(FIVE)
    assert first[:5] == [tuple(row) for row in np.eye(5).tolist()]
    assert first[5:] == [(0.2,) * 5, (0, 0, 0.5, 0, 0.5)]
    assert [trial.weights for trial in measured(7)] == first
    assert starts([("one", None), ("two", None)]) == [(1, 0), (0, 1), (0.5, 0.5)]


def test_weights_are_shares_and_a_third_of_the_trials_are_repeats_in_other_blocks() -> None:
    trials = measured(24)
    for trial in trials:
        assert min(trial.weights) >= 0 and sum(trial.weights) == pytest.approx(1, abs=1e-9)
    repeats = [trial for trial in trials if trial.block]
    assert len(repeats) == 8
    seen = [(trial.weights, trial.block) for trial in trials]
    assert len(set(seen)) == len(seen) and max(trial.block for trial in trials) < BLOCKS
    for trial in repeats:
        assert (trial.weights, trial.block - 1) in seen


def test_the_same_trials_give_the_same_step() -> None:
    trials = measured(15)
    assert measured(15) == trials
    assert next_step(GRAM, trials, starts(FIVE), 1) == next_step(
        GRAM, list(trials), starts(FIVE), 1
    )


def test_two_copies_of_a_model_are_one_model() -> None:
    """Between two checkpoints with the same ΔW nothing is left to learn, however their weights
    differ."""
    gram = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1.0]])
    trials = [Trial((1, 0, 0), 0, 0.3), Trial((0, 0, 1), 0, 0.9), Trial((0.5, 0, 0.5), 0, 0.5)]
    fitted = Posterior(gram, trials)
    mean, deviation = fitted.above([(0, 1, 0), (0, 0, 1)], (1, 0, 0))
    assert abs(mean[0]) < 1e-6 and deviation[0] < 1e-6 < deviation[1]
    assert fitted.mean([(0, 0.5, 0.5)])[0] == pytest.approx(fitted.mean([(0.5, 0, 0.5)])[0])


def test_identical_models_are_no_error() -> None:
    assert len(measured(12, np.ones((5, 5)))) == 12


def test_repeats_tell_the_noise() -> None:
    rng = np.random.default_rng(3)
    merges: list[Weights] = [tuple(row) for row in rng.dirichlet(np.ones(3), 12).tolist()]

    def noise(size: float, shift: float = 0.0) -> float:
        trials = [
            Trial(w, block, 3 * w[0] + shift * block + size * float(rng.normal()))
            for w in merges
            for block in range(2)
        ]
        return Posterior(np.eye(3), trials).noise

    assert noise(0.5) > 3 * noise(0.05)
    assert (
        noise(0.05, shift=0.5) < noise(0.5) / 2
    )  # what all merges of a block share is no noise between them


def test_the_leader_is_the_one_with_the_lowest_expected_value_not_the_luckiest() -> None:
    near = [(0.5 + d, 0.5 - d, 0.0) for d in (-0.02, 0.0, 0.02)]
    trials = [Trial(w, block, 0.5) for w in near for block in (0, 1)]
    lucky = (0.0, 0.0, 1.0)
    trials += [Trial(lucky, 0, 0.45), Trial(lucky, 1, 0.8), Trial(lucky, 2, 0.8)]
    assert Posterior(np.eye(3), trials).best([*near, lucky]) in near
    assert is_single(lucky) and not is_single(near[0])


def test_it_beats_the_uniform_mean_on_worlds_that_it_was_not_made_on() -> None:
    import search_regret

    worlds = [search_regret.World(seed) for seed in range(5000, 5006)]
    for noise, share in ((search_regret.NOISES["low"], 0.25), (search_regret.NOISES["high"], 0.7)):
        ours = [
            world.regret(search_regret.by_gaussian_process(world, world.gram, 24, noise))
            for world in worlds
        ]
        uniform = [world.regret(np.full(5, 0.2)) for world in worlds]
        assert np.mean(ours) < share * np.mean(uniform)
