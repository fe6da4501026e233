"""Statistics against simulation and known answers: 95 % must mean 95 %."""

import numpy as np
import pytest
from scipy import stats

from onmodel.evaluate.statistics import geometric_interval, holm, mean_interval, paired, ratio_interval, sign_flip_p
from onmodel.randomness import generator

SIMULATIONS = 600


def draws(name: str, prompts: int, seeds: int, between: float = 0.1, within: float = 0.15) -> np.ndarray:
    """Prompt means [SIMULATIONS, P] of a true mean 0: prompts differ, and so do seeds inside a prompt."""
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


def test_the_interval_is_scipys_and_cut_to_its_range() -> None:
    values = np.array([0.2, 0.9, 0.7, 0.95])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    found = mean_interval(values)
    assert (found.low, found.high, found.n) == pytest.approx((low, high, 4))
    assert mean_interval(values, (0.0, 1.0)).high == 1.0


def test_no_spread_at_the_end_of_the_range_is_no_certainty() -> None:
    every = mean_interval(np.ones(12), (0.0, 1.0))
    assert every.value == every.high == 1 and every.low == pytest.approx(1 - (1 - 0.05 ** (1 / 12)))
    none = mean_interval(np.zeros(3), (0.0, 1.0))
    assert none.low == 0 and 0.6 < none.high < 0.65
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
    assert found.mean.n == 3 and found.mean.value == pytest.approx(0) and found.win_share == pytest.approx(0.5)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
