"""Statistics against simulation and known answers: 95 % must mean 95 %."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from onmodel.evaluate.statistics import (
    benjamini_hochberg,
    front_membership,
    geometric_interval,
    holm,
    max_t,
    mean_interval,
    paired,
    ratio_interval,
    reachable,
    resampled_prompts,
    sign_flip_p,
    swap_p,
)
from onmodel.randomness import generator

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import simulated_evaluations

SIMULATIONS = 600


def draws(
    name: str, prompts: int, seeds: int, between: float = 0.1, within: float = 0.15
) -> np.ndarray:
    """Prompt means [SIMULATIONS, P] of a true mean 0: prompts differ, and so do seeds inside a
    prompt."""
    rng = generator(1, name)
    own = rng.normal(0, between, (SIMULATIONS, prompts))
    return own + rng.normal(0, within, (SIMULATIONS, prompts, seeds)).mean(-1)


@pytest.mark.parametrize(("prompts", "seeds"), [(12, 2), (24, 4)])
def test_the_t_interval_over_prompts_covers(prompts: int, seeds: int) -> None:
    found = [mean_interval(row) for row in draws("t", prompts, seeds)]
    assert 0.92 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.98


def test_an_interval_over_pictures_would_not_cover() -> None:
    """Why the prompt is the unit: pictures of a prompt share its offset."""
    rng = generator(2, "pictures")
    covered = []
    for _ in range(300):
        pictures = (rng.normal(0, 0.15, (12, 1)) + rng.normal(0, 0.1, (12, 4))).ravel()
        covered.append(mean_interval(pictures).low <= 0 <= mean_interval(pictures).high)
    assert np.mean(covered) < 0.9


def test_the_ratio_interval_covers_and_pairing_narrows_it() -> None:
    rng = generator(3, "ratio")
    covered, widths, unpaired = [], [], []
    for _ in range(SIMULATIONS):
        control = np.clip(rng.normal(0.6, 0.2, 16), 0.05, 1)
        values = 0.8 * control + rng.normal(0, 0.05, 16)
        found = ratio_interval(values, control)
        covered.append(found.low <= 0.8 <= found.high)
        widths.append(found.high - found.low)
        unpaired.append(mean_interval(values).high - mean_interval(values).low)
    assert 0.92 <= np.mean(covered) <= 0.98
    assert np.mean(widths) < np.mean(unpaired)


def test_the_geometric_interval_covers() -> None:
    found = [geometric_interval(np.exp(row)) for row in draws("log", 12, 2)]
    assert 0.92 <= np.mean([i.low <= 1 <= i.high for i in found]) <= 0.98


def test_without_ends_the_interval_is_scipys() -> None:
    values = np.array([0.2, 0.9, 0.7, 0.95])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    found = mean_interval(values)
    assert (found.low, found.high, found.n) == pytest.approx((low, high, 4))
    share = mean_interval(values, (0.0, 1.0))
    assert 0 < share.low < share.value < share.high < 1
    far = mean_interval(
        values, (-1000.0, 1000.0)
    )  # far from the ends the score interval is the t-interval
    assert (far.low, far.high) == pytest.approx((low, high), abs=0.01)


def test_a_share_with_one_prompt_off_the_end_is_no_near_certainty() -> None:
    values = np.array([1.0] * 11 + [0.5])
    found, plain = mean_interval(values, (0.0, 1.0)), mean_interval(values)
    assert found.low < 0.8 < plain.low and found.high < 1.0


def test_no_spread_at_the_end_of_the_range_is_no_certainty() -> None:
    every, none = mean_interval(np.ones(12), (0.0, 1.0)), mean_interval(np.zeros(12), (0.0, 1.0))
    assert every.value == every.high == 1 and 0.7 < every.low < 0.75
    assert none.low == 0 and none.high == pytest.approx(1 - every.low)
    other = mean_interval(np.full(12, -0.01), (-0.01, 0.99))
    assert (other.value, other.low) == pytest.approx(
        (-0.01, -0.01)
    ) and other.high == pytest.approx(none.high - 0.01)
    middle = mean_interval(np.full(12, 0.5), (0.0, 1.0))
    assert middle.low == middle.high == 0.5


def test_sign_flips_are_exact_for_few_prompts() -> None:
    assert sign_flip_p(np.ones(5)) == pytest.approx(2 / 2**5)
    assert sign_flip_p(np.array([1.0, -1.0, 2.0, -2.0])) == 1
    assert sign_flip_p(np.zeros(6)) == 1


def test_drawn_flips_agree_with_the_exact_test_and_never_give_zero() -> None:
    values = generator(4, "flips").normal(0.1, 0.2, 16)
    more = np.append(values, 0.0)  # a prompt that changes nothing: 17 prompts, drawn flips
    assert sign_flip_p(more) == pytest.approx(sign_flip_p(values), abs=0.02)
    assert sign_flip_p(more) == sign_flip_p(more)
    assert 0 < sign_flip_p(np.ones(40)) < 0.001


def test_the_test_keeps_its_level() -> None:
    p_values = [sign_flip_p(row) for row in draws("level", 12, 2)[:300]]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.085


def test_paired_leaves_unknown_prompts_out_and_counts_wins() -> None:
    found = paired(np.array([1.0, 2.0, np.nan, 4.0]), np.array([0.0, 2.0, 1.0, 5.0]))
    assert (
        found.mean.n == 3
        and found.mean.value == pytest.approx(0)
        and found.win_share == pytest.approx(0.5)
    )


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03], [0.0] * 3) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9], [0.0] * 2) == [1.0, 1.0]
    assert holm([], []) == []


def test_benjamini_hochberg() -> None:
    found = benjamini_hochberg([0.04, 0.01, 0.02, 0.9])
    assert found == pytest.approx([0.04 * 4 / 3, 0.04, 0.04, 0.9])
    assert benjamini_hochberg([0.6, 0.5]) == [0.6, 0.6] and benjamini_hochberg([]) == []


def test_a_small_p_is_counted_with_more_draws() -> None:
    def total(a_rpk: np.ndarray, b_rpk: np.ndarray) -> np.ndarray:
        return (a_rpk - b_rpk).sum((1, 2))

    a, b = np.ones((30, 1)), np.zeros((30, 1))
    assert swap_p(total, a, b, 199) == (1 / 200, 1 / 200)
    assert swap_p(total, a, b, 199, more=1999) == (1 / 2000, 1 / 2000)
    rng = generator(9, "swaps").normal(size=(2, 30, 1))
    assert swap_p(total, *rng, 199, more=1999)[0] == swap_p(total, *rng, 199)[0]


def test_tests_that_cannot_reach_a_p_do_not_count_against_it() -> None:
    """By hand: two tests of four prompts cannot give less than 0.125."""
    least = [0.001, 0.001, 0.125, 0.125]
    assert holm([0.02, 0.2, 0.125, 0.5], least) == pytest.approx([0.04, 0.4, 0.375, 0.5])
    assert reachable(least) == pytest.approx([0.002, 0.002, 0.5, 0.5])
    assert (
        paired(np.arange(1.0, 8.0), np.zeros(7)).least
        == pytest.approx(1 / 64)
        == paired(np.ones(7), np.zeros(7)).p
    )
    assert (
        paired(np.zeros(24), np.ones(24)).least == paired(np.zeros(24), np.ones(24)).p == 1 / 10_001
    )


def test_max_t_of_one_test_is_that_test_and_of_many_is_more_careful() -> None:
    rows = generator(6, "family").normal(0.1, 0.2, (5, 14))
    alone = [sign_flip_p(row) for row in rows]
    together, careful = max_t(rows), holm(alone, [0.0] * 5)
    assert max_t(rows[:1]) == alone[:1]
    assert all(
        one <= both <= most + 0.02 for one, both, most in zip(alone, together, careful, strict=True)
    )
    assert np.argsort(together).tolist() == np.argsort(careful).tolist()


def test_max_t_counts_what_goes_together_once() -> None:
    row = generator(7, "copies").normal(0.1, 0.2, 12)
    copies = np.stack([row] * 20)
    assert max_t(copies) == pytest.approx([sign_flip_p(row)] * 20)
    assert holm([sign_flip_p(row)] * 20, [0.0] * 20)[0] == pytest.approx(
        min(1, 20 * sign_flip_p(row))
    )


def test_max_t_takes_prompts_that_say_nothing_and_axes_that_never_move() -> None:
    rows = np.array([[1.0] * 8 + [np.nan] * 4, [0.0] * 12, [1.0, -1.0] * 6])
    p = max_t(rows)
    assert p[0] < 0.05 and p[1] == p[2] == 1


def test_the_bootstrap_knows_who_is_on_the_front() -> None:
    weights = resampled_prompts(12, seed=1)
    assert weights.shape == (2000, 12) and (weights.sum(1) == 12).all()
    prompts = generator(8, "front").normal(0, 0.1, (3, 2, 12))
    prompts[0] -= 0.5  # better on both axes than the others, which are alike
    costs = np.einsum("bp,map->bma", weights, prompts) / 12
    members = front_membership(costs)
    assert members[0] == 1 and members[1] == members[2] == 0
    alike = front_membership(costs[:, 1:])
    assert all(0.2 < share <= 1 for share in alike) and alike.sum() >= 1


# --- simulated evaluations: the published table, smaller
# --------------------------------------------------------------


@pytest.mark.parametrize(
    "case", [case for case in simulated_evaluations.CASES if "plain" not in case]
)
@pytest.mark.parametrize(("prompts", "seeds"), simulated_evaluations.DESIGNS)
def test_intervals_cover_in_simulated_evaluations(case: str, prompts: int, seeds: int) -> None:
    """93 to 97 %, and two standard errors of 0.5 % on either side."""
    found = simulated_evaluations.coverage(case, prompts, seeds, 2000)
    assert 0.92 <= found <= 0.985


def test_a_plain_t_interval_of_shares_would_not_cover() -> None:
    assert simulated_evaluations.coverage("share, true 0.95, plain t", 12, 2, 500) < 0.8


def test_twins_raise_no_alarm() -> None:
    adjusted, alone = simulated_evaluations.false_alarms(12, 2, 100)
    assert adjusted <= 0.1 and alone > 0.9


def test_few_prompts_on_some_axes_cost_the_others_nothing_and_twins_stay_alike() -> None:
    alarms, found, plainly = simulated_evaluations.verdicts(24, 4, 100)
    assert alarms <= 0.12 and found >= plainly


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "seeds"), simulated_evaluations.DESIGNS)
def test_twins_raise_an_alarm_in_one_family_of_twenty(prompts: int, seeds: int) -> None:
    assert (
        simulated_evaluations.false_alarms(prompts, seeds, 2000)[0] <= 0.06
    )  # 5 % and two standard errors
