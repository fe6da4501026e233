"""How often does the verdict's test raise a false alarm on each axis? Measured on real pictures.

The exact null: one model draws every prompt under two sets of noise seeds. Prompt by prompt, chance
decides which set belongs to which of two "models". Both are equal, and p ≤ 0.05 should occur in at
most 5 of 100 such pairs. Simulations with independent prompts cannot show what this shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onmodel.character import load_character
from onmodel.evaluate.axes import AXES, AxisResult
from onmodel.evaluate.compare import LEVEL, costs_to_test
from onmodel.evaluate.observers import Observers
from onmodel.evaluate.selftest.check import SEEDS, SHEET, Laboratory
from onmodel.evaluate.selftest.drawn import training_toons
from onmodel.evaluate.statistics import swap_p
from onmodel.events import Events
from onmodel.randomness import generator
from onmodel.sample.suites import SuiteName, suite
from onmodel.toon.attributes import VOCABULARY
from onmodel.toon.datasets import STANDIN_SETS

SUITES: Sequence[SuiteName] = ("confirm", "thorough")
DRAWS = 499  # ways of swapping in each test
ARMS = 6  # of two models with and without the trigger, and two of the base


@dataclass(frozen=True)
class AxisLevel:
    """One axis on the exact null: share of `pairs` with p ≤ 0.05. `prompts` are those on which the
    two sets of pictures differ; where they never do, nothing was tested."""

    axis: str
    suite: SuiteName
    prompts: int
    pairs: int
    alarms: float


def null_levels(
    observers: Observers, suite_name: SuiteName, pairs: int, seed: int, events: Events
) -> list[AxisLevel]:
    """The level of every axis that has its observers, on one suite."""
    character = load_character(SHEET)
    prompts = len(suite(suite_name, character, VOCABULARY))
    drawn = ARMS * SEEDS * prompts + STANDIN_SETS["reference"].count + len(training_toons())
    with events.task(f"draw and look, suite {suite_name}", total=drawn) as task:
        lab = Laboratory(character, observers, seed, task, suite_name)
        models = [
            lab.measured(lab.mixed("L", first), lab.mixed("N", first)) for first in (0, SEEDS)
        ]
    ids, found = [prompt.id for prompt in lab.prompts], []
    for axis in lab.axes:
        one, other = (rows_of(model[axis], ids) for model in models)
        told = ~(np.isnan(one) | np.isnan(other)).any(1)
        p_values = null_p(axis, models[0][axis], one[told], other[told], pairs, seed)
        differing = int((one[told] != other[told]).any(1).sum())
        share = float(np.mean([p <= LEVEL for p in p_values]))
        found.append(AxisLevel(axis, suite_name, differing, pairs, share))
    return found


def null_p(
    axis: str, result: AxisResult, one_pk: np.ndarray, other_pk: np.ndarray, pairs: int, seed: int
) -> list[float]:
    """p of the verdict's test for `pairs` pairs of equal models, dealt from two sets of rows."""
    shared = result.joint.shared if result.joint else None
    tested = costs_to_test(AXES[axis][0], shared)
    found = []
    for number in range(pairs):
        side = generator(seed, "null pair", number).random(len(one_pk)) < 0.5
        a, b = (np.where(way[:, None], one_pk, other_pk) for way in (side, ~side))
        found.append(swap_p(tested, a, b, DRAWS, seed=number + 1)[0])
    return found


def rows_of(result: AxisResult, prompts: Sequence[str]) -> np.ndarray:
    """The rows [P, K] from which the axis is computed, NaN where a prompt says nothing."""
    if result.joint:
        return result.joint.rows
    return np.array([[result.per_prompt.get(prompt, np.nan)] for prompt in prompts])


def level_table(found: Mapping[SuiteName, Sequence[AxisLevel]]) -> str:
    """Axes × suites in per cent."""
    suites = list(found)
    lines = [
        f"| p ≤ {LEVEL} in per cent | {' | '.join(suites)} |",
        "|---" * (len(suites) + 1) + "|",
    ]
    for rows in zip(*found.values(), strict=True):
        cells = [f"{100 * row.alarms:.1f}" if row.prompts else "no difference" for row in rows]
        lines.append(f"| `{rows[0].axis}` | {' | '.join(cells)} |")
    pairs = next(iter(found.values()))[0].pairs
    return "\n".join([*lines, "", f"{pairs} pairs of equal models for each cell."])
