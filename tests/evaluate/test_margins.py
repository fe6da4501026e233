"""What is proven but no larger than what another training changes, and which prompts a comparison
of the design counts."""

from dataclasses import replace

import numpy as np
import pytest

from onmodel.evaluate.axes import AXES
from onmodel.evaluate.compare import (
    FIRST_LOOK,
    Comparison,
    compare_models,
    compare_rows,
    decided,
)
from onmodel.evaluate.evaluation import SCHEMA, as_json, evaluation_of
from onmodel.randomness import generator
from tests.support import evaluations as made_up

KEPT = AXES["outfit_keep"][0]
DESIGN = AXES["design"][0]


def kept(gain: float, half: float, p: float) -> Comparison:
    whole = Comparison(KEPT, "other", "open", gain, gain - half, gain + half, p=p, n=20, prompts=24)
    return decided(whole, p, FIRST_LOOK)


@pytest.mark.parametrize("half", [0.01, 0.1])
def test_a_difference_within_a_training_is_neither_called_nor_the_same(half: float) -> None:
    found = kept(-0.45, half, 0.0001)
    assert found.outcome == "open" and found.more is None
    assert "train again to settle it" in found.settled_by and "more prompt" not in found.settled_by


def test_the_same_is_what_nobody_notices() -> None:
    assert kept(-0.05, 0.01, 0.0001).outcome == "same"  # shown, but a twentieth of a fault
    assert kept(0.1, 0.3, 0.5).outcome == "same"
    assert kept(0.1, 0.6, 0.5).outcome == "open"
    assert kept(0.7, 0.1, 0.0001).outcome == "better"


def rows(violated: np.ndarray, applies: np.ndarray) -> np.ndarray:
    """Rows of the design from the violated share and applicability [P, T], two pictures each."""
    return np.concatenate([2.0 * violated * applies, 2.0 * applies], axis=1)


def compared(ours: np.ndarray, theirs: np.ndarray, applies: np.ndarray) -> Comparison:
    shared = {"own": np.zeros(ours.shape[1]), "severity": np.ones(ours.shape[1])}
    begun = Comparison(DESIGN, "other", "open")
    return compare_rows(begun, rows(ours, applies), rows(theirs, applies), shared)


def test_the_prompts_of_the_compared_trait_count() -> None:
    """Both models lack trait 0 in all 24 prompts; trait 1, which 7 prompts show, differs."""
    applies = np.ones((24, 2))
    applies[7:, 1] = 0
    theirs = np.column_stack([np.ones(24), np.zeros(24)])
    ours = theirs.copy()
    ours[:7, 1] = 0.6 + 0.05 * generator(0, "trait").normal(size=7)
    found = compared(ours, theirs, applies)
    assert found.n == 7 and found.won == 0 and found.gain < -0.5


def test_traits_that_each_model_lacks_in_other_prompts_are_compared() -> None:
    applies = np.zeros((24, 2))
    applies[:8, 0] = applies[8:16, 1] = 1
    ours, theirs = np.zeros((24, 2)), np.zeros((24, 2))
    ours[:8, 0] = theirs[8:16, 1] = 1
    assert compared(ours, theirs, applies).n == 8


def test_equal_pictures_differ_by_nothing_and_traits_that_nothing_shows_are_not_compared() -> None:
    applies = np.ones((24, 2))
    applies[:, 0] = 0
    same = 0.5 * np.ones((24, 2))
    found = compared(same, same, applies)
    assert (found.gain, found.n, found.p) == (0, 24, 1)
    assert compared(same, same, np.zeros((24, 2))).outcome == "unavailable"


def test_an_older_file_gets_the_margins_of_its_axes() -> None:
    values = {f"p{i}": 0.5 for i in range(12)}
    whole = made_up.evaluation(
        [made_up.model(name, {"outfit_keep": values}) for name in ("a", "b")]
    )
    table = as_json(whole)
    table["schema"] = SCHEMA - 1
    table["axes"]["outfit_keep"].pop("retraining")  # type: ignore[index]
    read = evaluation_of(table)
    assert read.axes["outfit_keep"].margin == KEPT.margin
    assert compare_models(read, "a", "b")[0].outcome == "same"
    other = {**table["axes"]["outfit_keep"], "version": 1}  # type: ignore[index]
    old = evaluation_of({**table, "axes": {"outfit_keep": other}})
    assert old.axes["outfit_keep"].margin == replace(KEPT, retraining=0.0).margin
