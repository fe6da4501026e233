"""The verdict's test on the exact null, for every axis of the registry: two equal models are called
different as seldom as the level says.

One model draws each prompt under two sets of noise seeds; chance deals them to two "models". An
axis whose prompts share an estimate breaks a test that takes prompts for independent, which no
simulation of independent prompts shows.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy import stats

from onmodel.evaluate.axes import AXES, JOININGS, AxisResult, Evidence, evaluate_axis
from onmodel.evaluate.axes.base import prompt_costs
from onmodel.evaluate.compare import LEVEL, costs_to_test, difference_function
from onmodel.evaluate.features import Features
from onmodel.evaluate.selftest.drawn import picture
from onmodel.evaluate.selftest.faults import PLANTED
from onmodel.evaluate.selftest.null import null_p, rows_of
from onmodel.evaluate.statistics import paired, swap_p
from onmodel.randomness import generator
from onmodel.sample.suites import noise_seed, suite
from onmodel.toon.attributes import VOCABULARY
from tests.support.drawn_family import Faults, evidence, oracle, sheet

SEEDS, PAIRS = 2, 200
PROMPTS = suite("confirm", sheet(), VOCABULARY)
IDS = [prompt.id for prompt in PROMPTS]
KINDS = [Faults(), *(planted.faults for planted in PLANTED.values())]


def looked(letter: str) -> Features:
    """Twice SEEDS pictures of each prompt by a model that errs by chance, one fault a picture."""
    made = []
    for prompt in PROMPTS:
        for index in range(2 * SEEDS):
            seed = noise_seed("exact null", prompt.id, index)
            kind = KINDS[int(generator(seed, "kind").integers(len(KINDS)))]
            made.append(picture(prompt.words(letter), seed, replace(kind, stream="other")))
    found = oracle(made)
    classified = generator(1, "classified", letter).random((2, len(made)))
    found = replace(found, corruption=classified[0], aesthetic=classified[1])
    return found.take(np.arange(len(made)).reshape(len(PROMPTS), 2 * SEEDS))


@lru_cache
def models() -> tuple[Evidence, Evidence]:
    """What is known of the model under one set of seeds and under the other."""
    base = evidence(None, PROMPTS, seeds=SEEDS, suite_name="exact null")
    on, without = looked("L"), looked("N")

    def known(places: slice) -> Evidence:
        numbers = np.arange(len(PROMPTS))[:, None], np.arange(2 * SEEDS)[None, places]
        arms = {"L": on.take(numbers), "N": without.take(numbers)}
        return replace(base, arms=base.arms | arms)

    return known(slice(0, SEEDS)), known(slice(SEEDS, None))


def swapped(one: Evidence, other: Evidence, side: np.ndarray) -> Evidence:
    """The first model with the other's pictures of some prompts."""
    numbers = np.arange(len(PROMPTS)) + len(PROMPTS) * side
    arms = {letter: one.arm(letter).join(other.arm(letter)).take(numbers) for letter in ("L", "N")}
    return replace(one, arms=one.arms | arms)


@lru_cache
def measured(axis: str) -> tuple[AxisResult, AxisResult]:
    one, other = models()
    return evaluate_axis(axis, one), evaluate_axis(axis, other)


def rows(axis: str) -> Sequence[np.ndarray]:
    """The rows of both, of the prompts on which both say something."""
    found = [rows_of(result, IDS) for result in measured(axis)]
    told = ~np.isnan(found).any((0, 2))
    return [one[told] for one in found]


@pytest.mark.parametrize("axis", AXES)
def test_a_prompt_s_row_follows_from_its_own_pictures(axis: str) -> None:
    side = generator(2, "side").random(len(PROMPTS)) < 0.5
    both = evaluate_axis(axis, swapped(*models(), side))
    one, other = (rows_of(result, IDS) for result in measured(axis))
    assert rows_of(both, IDS) == pytest.approx(
        np.where(side[:, None], other, one), abs=1e-5, nan_ok=True
    )
    if axis in JOININGS:
        joint, known = both.joint, measured(axis)[0].joint
        assert joint is not None and known is not None
        assert joint.shared.keys() == known.shared.keys()
        assert all((joint.shared[name] == known.shared[name]).all() for name in joint.shared)


@pytest.mark.parametrize("axis", AXES)
def test_equal_models_are_called_different_as_seldom_as_the_level_says(axis: str) -> None:
    one, other = rows(axis)
    p_values = null_p(axis, measured(axis)[0], one, other, PAIRS, seed=3)
    alarms = sum(p <= LEVEL for p in p_values)
    least, most = stats.binom.interval(0.9995, PAIRS, LEVEL)
    telling = (one != other).any(1).sum()
    assert telling >= 3, "the pictures must differ for this axis"
    assert alarms <= most
    # Where 0 or 1 is the ideal, many ways of swapping tie: two models on both sides are as far.
    assert alarms >= least or telling < 8 or AXES[axis][0].direction in ("zero", "one")


def test_a_test_that_takes_style_s_prompts_for_independent_would_not_hold_its_level() -> None:
    """Why the axis is computed anew: its prompts share the mean of the unstyled pictures, which
    differs much here."""
    axis, joint = AXES["style"][0], measured("style")[0].joint
    assert joint is not None
    noise = generator(4, "unstyled").normal(0, 0.5, (2, len(PROMPTS), 1))
    one, other = rows("style") + np.where(joint.shared["plain"][:, None], noise, 0)
    alarms = 0
    for number in range(PAIRS):
        side = generator(3, "null pair", number).random(len(one)) < 0.5
        values = [
            JOININGS["style"].spread(
                np.where(way[:, None], one, other)[None], np.ones((1, len(PROMPTS))), joint.shared
            )[0]
            for way in (side, ~side)
        ]
        a, b = (prompt_costs(axis, found[~np.isnan(found)]) for found in values)
        alarms += paired(a, b).p <= LEVEL
    exact = sum(p <= LEVEL for p in null_p("style", measured("style")[0], one, other, PAIRS, 3))
    assert alarms > 2 * LEVEL * PAIRS and exact <= stats.binom.ppf(0.999, PAIRS, LEVEL)


def test_the_exact_test_counts_all_ways_where_there_are_few() -> None:
    costs = difference_function(AXES["grain"][0])
    a, b = np.zeros((6, 1)), np.array([[0.1]] * 5 + [[0.0]])
    assert swap_p(costs, a, b, 999) == (2 / 2**5, 1 / 2**4)  # the sixth prompt cannot tell
    assert swap_p(costs, a, a, 999) == (1.0, 1.0)
    many = np.full((40, 1), 0.1)
    assert swap_p(costs, np.zeros((40, 1)), many, 999) == (1 / 1000, 1 / 1000)


def test_a_new_fault_is_not_hidden_by_one_that_both_models_have() -> None:
    """Trait 0 is wrong in both; trait 1 is wrong in one of them alone, and less often."""
    shared = {"own": np.zeros(2), "severity": np.ones(2)}
    checks = np.full((24, 2), 2.0)
    both = np.array([[2.0, 0.0]] * 24)
    new = np.array([[2.0, 1.0 if prompt % 2 else 0.0] for prompt in range(24)])
    clean, faulty = (np.concatenate([wrong, checks], axis=1) for wrong in (both, new))
    worse_by = difference_function(AXES["design"][0], shared)
    assert worse_by(faulty[None], clean[None])[0] == pytest.approx(0.25)
    assert worse_by(clean[None], faulty[None])[0] == pytest.approx(-0.25)
    assert swap_p(costs_to_test(AXES["design"][0], shared), faulty, clean, 999)[0] <= 2 / 1000
    joining = JOININGS["design"]
    ones = np.ones((1, 24))
    assert joining.value(faulty[None], ones, shared) == joining.value(clean[None], ones, shared)


def test_a_difference_that_nobody_sees_hides_no_fault() -> None:
    """Trait 0 differs by a hundredth in every prompt; trait 1 is wrong in half of them."""
    shared = {"own": np.zeros(2), "severity": np.ones(2)}
    checks = np.ones((24, 2))
    clean = np.concatenate([np.zeros((24, 2)), checks], axis=1)
    wrong = np.array([[0.01, prompt % 2] for prompt in range(24)])
    faulty = np.concatenate([wrong, checks], axis=1)
    axis = AXES["design"][0]
    assert difference_function(axis, shared)(faulty[None], clean[None])[0] == pytest.approx(0.5)
    assert swap_p(costs_to_test(axis, shared), faulty, clean, 999)[0] <= 0.01
