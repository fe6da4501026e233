"""The merge algebra against dense SVD, and shared/MERGE.md's traps that live in it."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest

from onmodel.errors import InputError
from onmodel.lora.factors import Factors, Merged, cosines, merge_module
from onmodel.randomness import normal

OUT, IN, RANK = 48, 32, 4


def factors(seed: int, rank: int = RANK, alpha: float = 2.0, size: float = 0.1) -> Factors:
    down = normal((rank, IN), seed, "down")
    up = normal((OUT, rank), seed, "up") * size
    return Factors(down, up, alpha)


def dense(one: Factors) -> np.ndarray:
    return one.up.astype(float) @ one.down.astype(float) * one.alpha / one.rank


def sum_of(parts: Sequence[tuple[Factors, float]]) -> np.ndarray:
    return np.sum([weight * dense(one) for one, weight in parts], axis=0)


def best(matrix: np.ndarray, rank: int) -> np.ndarray:
    left, sigma, right = np.linalg.svd(matrix, full_matrices=False)
    return (left[:, :rank] * sigma[:rank]) @ right[:rank]


def distance(merged: Merged, wanted: np.ndarray) -> float:
    return float(np.linalg.norm(dense(merged.factors) - wanted) / np.linalg.norm(wanted))


FIVE = [
    (factors(0), 0.5),
    (factors(1), 0.2),
    (factors(2), -0.3),
    (factors(3, rank=6), 0.4),
    (factors(4, alpha=1.0), 0.2),
]


def test_the_stack_is_the_exact_sum() -> None:
    merged = merge_module(FIVE)
    assert merged.factors.rank == 22
    assert distance(merged, sum_of(FIVE)) < 1e-7
    assert merged.kept == merged.total == pytest.approx(np.linalg.norm(sum_of(FIVE)) ** 2)


@pytest.mark.parametrize("rank", [1, 4, 10, 22])
@pytest.mark.parametrize("scale", [1.0, 1 / 8])
def test_a_smaller_rank_is_the_truncated_svd(rank: int, scale: float) -> None:
    merged = merge_module(FIVE, rank, scale)
    wanted = sum_of(FIVE)
    sigma = np.linalg.svd(wanted, compute_uv=False)
    assert merged.factors.rank == rank
    assert merged.factors.alpha == scale * rank
    assert distance(merged, best(wanted, rank)) < 1e-6
    assert merged.kept / merged.total == pytest.approx(np.sum(sigma[:rank] ** 2) / np.sum(sigma**2))
    assert np.allclose(
        np.linalg.norm(merged.factors.up, axis=0),
        np.linalg.norm(merged.factors.down, axis=1),
        rtol=1e-5,
    )  # balanced


def test_near_identical_inputs_may_be_subtracted() -> None:
    """Unguarded Gram matrices lose the difference of two checkpoints 1e-6 apart entirely."""
    one, other = factors(0), factors(9)
    for step in (1e-2, 1e-4, 1e-6):
        near = Factors(one.down + step * other.down, one.up + step * other.up, one.alpha)
        parts = [(one, 1.0), (near, -1.0)]
        assert distance(merge_module(parts, 2 * RANK), sum_of(parts)) < 1e-5
        assert distance(merge_module(parts, RANK), best(sum_of(parts), RANK)) < 1e-5


def test_the_same_inputs_give_the_same_bytes() -> None:
    def digest() -> str:
        merged = merge_module(FIVE, 4).factors
        return hashlib.sha256(merged.down.tobytes() + merged.up.tobytes()).hexdigest()

    assert digest() == digest()


def test_cosines_come_from_the_same_gram_matrices() -> None:
    inner = merge_module(FIVE).inner
    flat = np.stack([dense(one).ravel() for one, _ in FIVE])
    lengths = np.linalg.norm(flat, axis=1)
    assert np.allclose(cosines(inner), flat @ flat.T / np.outer(lengths, lengths))
    assert cosines(np.zeros((2, 2))).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("rank", [None, RANK])
def test_trap_1_strength_acts_once(rank: int | None) -> None:
    one = factors(0)
    assert distance(merge_module([(one, 0.5)], rank), 0.5 * dense(one)) < 1e-6
    assert distance(merge_module([(one, 0.2)] * 5, rank), dense(one)) < 1e-6


@pytest.mark.parametrize("rank", [None, 2 * RANK])
def test_trap_2_factors_are_not_averaged_apart_and_a_sign_goes_on_one_side(
    rank: int | None,
) -> None:
    one, other = factors(0), factors(1)
    apart = (
        (one.up + other.up).astype(float)
        / 2
        @ (one.down + other.down).astype(float)
        / 2
        * one.scale
    )
    wanted = sum_of([(one, 0.5), (other, 0.5)])
    assert distance(merge_module([(one, 0.5), (other, 0.5)], rank), wanted) < 1e-6
    assert np.linalg.norm(apart - wanted) / np.linalg.norm(wanted) > 0.5
    assert distance(merge_module([(one, -1.0)], rank), -dense(one)) < 1e-6


def test_trap_3_the_scale_keeps_the_size_of_a_training_step() -> None:
    """Adam moves every entry by the learning rate, so ΔW moves with the sizes of the factors times
    alpha / rank."""

    def step(one: Factors) -> float:
        rate, signs = 1e-3, factors(7, one.rank)
        after = Factors(
            one.down + rate * np.sign(signs.down), one.up + rate * np.sign(signs.up), one.alpha
        )
        return float(np.linalg.norm(dense(after) - dense(one)))

    parent = factors(0, alpha=0.125, size=1.0)  # about balanced, as the merge's own factors are
    parts = [(parent, 0.5), (parent, 0.5)]
    kept = merge_module(parts, RANK, scale=parent.scale).factors
    folded = merge_module(parts, RANK, scale=1.0).factors
    assert step(kept) / step(parent) == pytest.approx(1, abs=0.25)
    assert step(folded) / step(parent) > 3


def test_trap_5_padding_adds_nothing_and_can_learn() -> None:
    one = factors(0)
    padded = merge_module([(one, 0.5), (one, 0.5)], 3 * RANK)
    assert padded.factors.rank == 3 * RANK
    assert distance(padded, dense(one)) < 1e-6
    assert np.all(padded.factors.up[:, RANK:] == 0)
    assert np.all(np.linalg.norm(padded.factors.down[RANK:], axis=1) > 0)
    nothing = merge_module([(one, 1.0), (one, -1.0)], RANK).factors
    assert np.all(nothing.up == 0)
    assert np.all(np.linalg.norm(nothing.down, axis=1) > 0)


def test_trap_6_nothing_is_clamped_or_truncated_before_the_sum() -> None:
    """One huge direction survives whole, and truncating the inputs first would lose what they
    share."""
    huge = Factors(factors(0).down * 1e4, factors(0).up, 2.0)
    assert (
        distance(
            merge_module([(huge, 1.0), (factors(1), 1.0)], 8),
            sum_of([(huge, 1.0), (factors(1), 1.0)]),
        )
        < 1e-6
    )
    once = distance(merge_module(FIVE, 4), sum_of(FIVE))
    early = sum_of([(merge_module([part], 2).factors, 1.0) for part in FIVE])
    twice = np.linalg.norm(best(early, 4) - sum_of(FIVE)) / np.linalg.norm(sum_of(FIVE))
    assert once < twice


def test_trap_7_fp32_out_and_never_a_number_that_is_not_finite() -> None:
    half = Factors(factors(0).down.astype(np.float16), factors(0).up.astype(np.float16), 2.0)
    assert merge_module([(half, 1.0)], 2).factors.up.dtype == np.float32
    broken = Factors(factors(0).down * np.inf, factors(0).up, 2.0)
    with pytest.raises(InputError, match="not finite"):
        merge_module([(broken, 1.0)])
    for rank in (None, 4):
        with pytest.raises(InputError, match="beyond the range"):
            merge_module([(factors(0, alpha=1e30), 1e30)], rank, scale=1e-25)
