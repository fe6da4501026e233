"""How settings become weights, and what each method does to ΔW, against its definition written out
densely."""

import numpy as np
import pytest

from onmodel.errors import InputError
from onmodel.lora.factors import factor_dense, merge_module
from onmodel.lora.methods import METHODS, choose, dare, slerp, ties
from tests.support.lora_files import SHAPES, SPEC, factors

NAMES = ["preview@20", "release_1@20", "release_2@30"]
LAYER = "blocks.1.mlp.layer1"


def weights(
    method: str | None = None, names: list[str] = NAMES, **settings: object
) -> tuple[float, ...]:
    return choose(names, SPEC, method, **settings).weights  # type: ignore[arg-type]


def dense(seed: int) -> np.ndarray:
    one = factors(LAYER, seed)
    return one.scale * (one.up.astype(float) @ one.down.astype(float))


def test_every_row_names_its_paper_and_says_what_it_gives() -> None:
    assert all(method.paper.startswith("https://") and method.says for method in METHODS.values())


def test_weights_of_the_rows() -> None:
    assert weights() == (1 / 3,) * 3
    assert weights(weights=[1, 0, -0.5]) == (1.0, 0.0, -0.5)
    by_name = {"release_2@30": 2, "preview@20": 1, "release_1@20": 0}
    assert weights(weights=by_name) == (1.0, 0.0, 2.0)
    assert weights("ema", decay=0.5) == pytest.approx((1 / 7, 2 / 7, 4 / 7))
    assert weights("lcsc", weights=[3, -1, 2]) == (0.75, -0.25, 0.5)
    assert weights("slerp", NAMES[:2], weights=[1, 3]) == (0.25, 0.75)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weights": [1.0, 2.0]}, "release_2@30"),
        ({"weights": {"release_2@30": 2, "preview@20": 1, "release_3": 0}}, "release_3"),
        ({"weights": [1.0, float("nan"), 1.0]}, "finite"),
        ({"weights": [1.0, 1e308, 1.0]}, r"at most 1e\+06"),
        ({"method": "tie"}, "known: weighted"),
        ({"method": "uniform", "weights": [1, 1, 1]}, "does not read it"),
        ({"method": "weighted", "density": 0.5}, "ties, dare would"),
        ({"method": "ties", "density": 1.5}, "at most 1"),
        ({"method": "ties", "weights": [1, -1, 1]}, "0 or more"),
        ({"method": "ema", "decay": 0.0}, "above 0"),
        ({"method": "lcsc", "weights": [1, -1, 0]}, "sum above 0"),
        ({"method": "slerp"}, "slerp takes two"),
        ({"method": "block_weighted"}, "say where"),
        ({"blocks": {"7": 0.5}}, r"matches no layer; use block numbers \(0-2\)"),
        ({"blocks": {"who:mlp": 0.5}}, "who is none of"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        weights(**settings)


def test_slerp_keeps_the_length_and_halves_the_angle() -> None:
    one, other = dense(1), dense(2)
    other *= np.linalg.norm(one) / np.linalg.norm(other)
    scale = float(np.linalg.norm(other) / np.linalg.norm(dense(2)))
    second = factors(LAYER, 2)
    parts = [
        (factors(LAYER, 1), 0.5),
        (type(second)(second.down, second.up * np.float32(scale), second.alpha), 0.5),
    ]
    made = merge_module(parts, mix=slerp).factors
    middle = made.scale * (made.up.astype(float) @ made.down.astype(float))
    assert np.linalg.norm(middle) == pytest.approx(np.linalg.norm(one), rel=1e-5)
    for end in (one, other):
        assert np.sum(middle * end) / np.linalg.norm(middle) / np.linalg.norm(end) == pytest.approx(
            np.cos(
                np.arccos(np.sum(one * other) / np.linalg.norm(one) / np.linalg.norm(other)) / 2
            ),
            rel=1e-5,
        )
    assert slerp(np.ones((2, 2)), np.array([0.3, 0.7])).tolist() == [0.3, 0.7]  # the same direction


def test_ties_trims_elects_and_averages() -> None:
    deltas, shares = [dense(seed) for seed in (1, 2, 3)], np.array([0.5, 0.3, 0.2])
    wanted = np.zeros_like(deltas[0])
    trimmed = [
        np.where(np.abs(d) >= np.quantile(np.abs(d), 0.6, method="lower"), d, 0) for d in deltas
    ]
    sign = np.sign(sum(share * d for share, d in zip(shares, trimmed, strict=True)))
    mass = sum(share * d * (np.sign(d) == sign) for share, d in zip(shares, trimmed, strict=True))
    count = sum(
        share * (np.sign(d) == sign) * (d != 0) for share, d in zip(shares, trimmed, strict=True)
    )
    wanted = np.divide(mass, count, out=wanted, where=count > 0)
    made = ties([factors(LAYER, seed) for seed in (1, 2, 3)], shares, 0.4, LAYER)
    assert (
        np.mean(np.abs(made - wanted) > 1e-4) < 0.005
    )  # an entry at the threshold may fall on either side
    same = ties([factors(LAYER, 1)] * 3, shares, 1.0, LAYER)
    assert np.allclose(same, deltas[0], atol=1e-5)


def test_dare_drops_entries_and_keeps_the_sum_on_average() -> None:
    parts, shares = [factors(LAYER, 1), factors(LAYER, 2)], np.array([0.5, -0.5])
    exact = 0.5 * dense(1) - 0.5 * dense(2)
    made = dare(parts, shares, 0.25, LAYER)
    assert np.array_equal(made, dare(parts, shares, 0.25, LAYER))
    assert np.mean(made == 0) == pytest.approx(0.75**2, abs=0.05)
    assert np.sum(made * exact) / np.sum(exact**2) == pytest.approx(1, abs=0.2)
    assert np.allclose(dare(parts, shares, 1.0, LAYER), exact, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 6, 24, 30])
def test_a_dense_change_is_factored_to_the_best_of_a_rank(rank: int) -> None:
    matrix = (normal_matrix(SHAPES[LAYER]) * 0.1).astype(np.float32)
    made, kept = factor_dense(matrix, rank, 0.5, LAYER)
    left, sigma, right = np.linalg.svd(matrix.astype(float), full_matrices=False)
    wanted = (left[:, :rank] * sigma[:rank]) @ right[:rank]
    assert made.rank == rank
    assert kept == pytest.approx(np.sum(sigma[:rank] ** 2), rel=1e-5)
    found = made.scale * (made.up.astype(float) @ made.down.astype(float))
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 1e-2
    assert np.linalg.norm(found - matrix) <= np.linalg.norm(wanted - matrix) * (1 + 1e-4) + 1e-5


def normal_matrix(shape: tuple[int, int]) -> np.ndarray:
    """A matrix whose singular values fade, as the difference of a fine-tune's do."""
    left, _, right = np.linalg.svd(
        np.random.default_rng(0).standard_normal(shape), full_matrices=False
    )
    return (left * 0.8 ** np.arange(min(shape))) @ right
