"""Successive halving over checkpoints × weights on made-up evaluations whose truth is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from onmodel.evaluate.axes import AXES
from onmodel.evaluate.evaluation import AnyScore, EvaluatedModel, NotMeasured, Score
from onmodel.evaluate.halving import RUNGS, Rung, WeightedModel, candidates, halve, most_looks
from onmodel.evaluate.selection import Constraints
from onmodel.evaluate.statistics import mean_interval
from onmodel.randomness import generator
from onmodel.records import Model

WEIGHTS = (0.4, 0.6, 0.8, 1.0, 1.2)
MODELS = [
    Model(f"run@{epoch}", Path(f"{epoch}.safetensors"), f"{epoch:064x}", f"{epoch:064x}", epoch)
    for epoch in range(5, 45, 5)
]
IDEAL = {"up": 1.0, "down": 0.0, "zero": 0.0, "one": 1.0}


class World:
    """Underfitting costs every second axis, overfitting the others; both follow epoch × weight,
    best near `best`."""

    def __init__(self, seed: int, best: float) -> None:
        self.seed, self.best, self.made = seed, best, set()  # type: ignore[var-annotated]

    def truth(self, one: WeightedModel) -> tuple[float, float]:
        """What is missing and what is too much, in faults."""
        assert one.model.epoch is not None
        dose = one.model.epoch * one.weight - self.best
        return 0.03 * max(0, -dose), 0.02 * max(0, dose) + 0.002 * one.model.epoch

    def bias(self, one: WeightedModel) -> float:
        return float(np.mean([self.truth(one)[number % 2] for number in range(len(AXES))]))

    def measure(self, chosen: Sequence[WeightedModel], rung: Rung) -> list[EvaluatedModel]:
        rows = []
        for one in chosen:
            self.made |= {(one.name, p, s) for p in range(rung.prompts) for s in range(rung.seeds)}
            axes: dict[str, AnyScore] = {}
            per_prompt = {}
            for number, (id, (axis, _)) in enumerate(AXES.items()):
                if axis.seeds > rung.seeds:
                    axes[id] = NotMeasured(id, None, "needs seeds", "")
                    continue
                away = self.truth(one)[number % 2]
                hard = generator(self.seed, "prompts", id).normal(0, 0.1, 48)[: rung.prompts]
                seeds = generator(self.seed, "seeds", one.name, id).normal(0, 0.15, (48, 2))
                faults = away + hard + seeds[: rung.prompts, : rung.seeds].mean(1)
                worse = -1 if axis.direction in ("up", "one") else 1
                values = IDEAL[axis.direction] + worse * axis.fault * (0.3 + faults)
                values = np.exp(values - 1) if axis.across == "geometric" else values
                found = mean_interval(values)
                axes[id] = Score(id, found.value, found.low, found.high, found.n, "L", "")
                per_prompt[id] = {f"p{p}": float(v) for p, v in enumerate(values)}
            rows.append(EvaluatedModel(one.name, axes, per_prompt, one.model.epoch))
        return rows


def test_weights_near_one_come_first() -> None:
    assert [one.weight for one in candidates(MODELS[:1], WEIGHTS)] == [1.0, 0.8, 1.2, 0.6, 0.4]


def test_every_round_looks_longer_at_fewer_and_says_why_others_went() -> None:
    world = World(1, best=20)
    found, rounds = halve(MODELS, WEIGHTS, world.measure, Constraints(), seed=1)
    assert [len(one.looked) for one in rounds] == [8, 15, 5, 2] and [
        one.rung for one in rounds
    ] == list(RUNGS)
    assert found.chosen[0] in rounds[-1].looked and rounds[-1].kept == found.chosen
    for one in rounds[:-1]:
        assert set(one.kept) | set(one.dropped) == set(one.looked)
        assert all("bias" in reason for reason in one.dropped.values())
    assert len(world.made) == most_looks(8, 5)


@pytest.mark.parametrize("best", [12, 24])
def test_the_choice_is_nearly_as_good_as_the_grids_best_for_a_quarter_of_its_pictures(
    best: float,
) -> None:
    grid = candidates(MODELS, WEIGHTS)
    for seed in range(3):
        world = World(seed, best)
        found, _ = halve(MODELS, WEIGHTS, world.measure, Constraints(), seed=1)
        truth = {one.name: world.bias(one) for one in grid}
        assert truth[found.chosen[0]] <= min(truth.values()) + 0.03, (seed, found.chosen)
        assert len(world.made) <= 0.25 * len(grid) * 48 * 2


def test_a_constraint_decides_before_the_bias() -> None:
    world = World(1, best=20)
    found, rounds = halve(
        MODELS, WEIGHTS, world.measure, Constraints(at_least={"reproduction": 0.99}), seed=1
    )
    assert not found.constraints_met and any(
        "asked: 0.99" in reason for reason in rounds[0].dropped.values()
    )


def test_a_bound_that_one_picture_a_prompt_cannot_tell_waits_for_two() -> None:
    found, rounds = halve(
        MODELS, WEIGHTS, World(1, best=20).measure, Constraints(at_most={"drift": 0.01}), seed=1
    )
    dropped = [" ".join(one.dropped.values()) for one in rounds[:-1]]
    assert (
        "asked: 0.01" not in dropped[0] + dropped[1]
        and "asked: 0.01" in dropped[2]
        and not found.constraints_met
    )


def test_one_checkpoint_at_one_weight_is_a_grid_too() -> None:
    found, rounds = halve(MODELS[:1], [0.8], World(1, 20).measure, Constraints(), seed=1)
    assert found.chosen == ["run@5 × 0.8"] and len(rounds) == 4 and most_looks(1, 1) == 96
