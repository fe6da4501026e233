"""An observer that cannot read the drawings is found out, and one that can is not."""

import numpy as np
import pytest
from PIL import Image

from onmodel.evaluate.observer_check import (
    ObserverCheck,
    agreement_interval,
    auc,
    auc_interval,
    check_attribute,
    check_corruption,
    check_heads,
    check_identity,
    check_tagger,
    damaged_copy,
    said_by_tags,
)
from onmodel.randomness import generator
from tests.support.evaluations import prompt

VALUES = {"smile": "smile", "sad": "sad", "angry": "angry"}
LABELS = [{"smile"}] * 6 + [{"sad"}] * 6 + [{"angry"}] * 6


def scores(seeing: bool) -> np.ndarray:
    """Probabilities [18, 3] of a tagger that sees expressions, or of one that guesses."""
    noise = generator(0, "tagger", int(seeing)).uniform(0, 0.3, (18, 3))
    return noise + (np.repeat(np.eye(3), 6, axis=0) * 0.6 if seeing else 0)


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    assert auc(np.array([0.9, 0.4]), np.array([0.1, 0.5])) == 0.75
    assert auc(np.array([0.5]), np.array([0.5, 0.5])) == 0.5


def test_a_tagger_that_sees_passes_and_one_that_guesses_is_named_with_its_auc() -> None:
    for seeing in (True, False):
        found = check_tagger(
            {"expression": VALUES},
            {"smile": 0, "sad": 1, "angry": 2},
            (LABELS, scores(seeing)),
            ([], np.zeros((0, 1, 3))),
        )["expression"]
        assert found.passed is seeing
        assert (
            seeing
            or "too few pictures show whether expression can be read (AUC 0.47" in found.reason
        )


def test_an_interval_of_an_auc_covers_and_narrows_with_pictures() -> None:
    """Scores of two normal distributions; the truth is AUC 0.76."""
    draw, covered = generator(0, "auc"), []
    for _ in range(400):
        found = auc(draw.normal(1, 1, 12), draw.normal(0, 1, 20))
        low, high = auc_interval(found, 12, 20)
        covered.append(low <= 0.760 <= high)
    assert 0.92 <= np.mean(covered) <= 0.99
    assert auc_interval(1.0, 3, 3)[0] < 0.55 < 0.85 < auc_interval(1.0, 20, 20)[0]
    assert auc_interval(1.0, 3, 3)[1] == 1 and auc_interval(0.0, 3, 3)[0] == 0


def test_an_interval_of_an_agreement_is_the_exact_one() -> None:
    assert agreement_interval(10, 10) == (pytest.approx(0.025 ** (1 / 10)), 1.0)
    assert agreement_interval(0, 3)[0] == 0 and agreement_interval(5, 10)[0] < 0.2


def verdict_of(value: float, low: float, high: float) -> tuple[bool, str, str]:
    one = ObserverCheck("the smile", value, 9, "references", "AUC", low, high)
    return one.passed, one.note, one.why.partition(" (")[0]


def test_only_what_fails_beyond_chance_or_shows_nothing_is_not_judged() -> None:
    assert verdict_of(0.9, 0.8, 0.97)[:2] == (True, "")
    assert verdict_of(0.9, 0.6, 0.97)[:2] == (True, "shown on 9 pictures only")
    assert verdict_of(0.65, 0.55, 0.75)[:2] == (True, "shown on 9 pictures only")
    failed, _, why = verdict_of(0.55, 0.45, 0.65)
    assert not failed and why == "the smile cannot be read on these drawings"
    failed, _, why = verdict_of(0.55, 0.3, 0.8)
    assert not failed and why == "too few pictures show whether the smile can be read"


def test_references_that_are_too_few_ask_the_base() -> None:
    """Four references in a bad order say too little; the base's 40 pictures say that it is read."""
    labels, columns = [{"smile"}] * 3 + [{"sad"}] * 3, {"smile": 0, "sad": 1}
    guesses = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.5, 0.5], [0.3, 0.7], [0.6, 0.4]])
    prompts = [prompt(str(i), expression="smile" if i % 2 else "sad") for i in range(20)]
    seen = np.array([[[0.9, 0.1] if i % 2 else [0.1, 0.9]] * 2 for i in range(20)])
    values = {"smile": "smile", "sad": "sad"}
    found = check_tagger({"expression": values}, columns, (labels, guesses), (prompts, seen))
    assert found["expression"].source == "the base's pictures" and found["expression"].passed


def test_too_few_labels_ask_the_base_and_nothing_known_is_not_judged() -> None:
    columns = {"smile": 0, "sad": 1, "angry": 2}
    nothing = np.zeros((0, 1, 3))
    few = check_tagger({"e": VALUES}, columns, (LABELS[:2], scores(True)[:2]), ([], nothing))["e"]
    assert few.value is None and not few.passed and "no pictures show" in few.reason


def test_a_value_without_a_tag_is_what_unlabelled_pictures_show() -> None:
    body = {"normal": "", "chibi": "chibi"}
    assert said_by_tags([{"chibi"}, set(), {"smile"}], body) == ["chibi", "normal", "normal"]
    assert said_by_tags([{"smile", "sad"}, set()], VALUES) == [None, None]


def test_values_with_too_few_pictures_do_not_count() -> None:
    said = ["smile", "sad", "sad", "sad"]
    assert check_attribute("e", said, {"smile": np.arange(4.0)}, "x").value is None


def test_an_identity_model_must_tell_the_character_from_others() -> None:
    draw = generator(0, "identity")
    own, groups = draw.uniform(0.1, 0.3, (8, 8)), np.arange(8)
    assert check_identity(own, groups, draw.uniform(0.6, 0.9, (6, 8))).passed
    assert not check_identity(own, groups, draw.uniform(0.1, 0.3, (6, 8))).passed
    assert check_identity(own, np.zeros(8), draw.uniform(0.6, 0.9, (6, 8))).value is None


def test_a_classifier_must_find_the_pictures_that_were_cut_up() -> None:
    draw = generator(0, "corruption")
    intact = draw.uniform(0, 0.4, 8)
    assert check_corruption(intact, intact + 0.5).passed
    assert not check_corruption(intact, draw.uniform(0, 0.4, 8)).passed
    assert check_heads(np.array([1, 1, 1, 2])).passed
    assert not check_heads(np.zeros(8)).passed


def test_a_damaged_copy_has_the_same_pixels_in_another_order() -> None:
    image = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    copy = damaged_copy(image, "a")
    assert copy.tobytes() != image.tobytes() and sorted(copy.tobytes()) == sorted(image.tobytes())
    assert damaged_copy(image, "a").tobytes() == copy.tobytes()


def test_where_all_labels_say_the_same_the_agreement_with_them_counts() -> None:
    smiling = {"smile": np.full(6, 0.9), "sad": np.full(6, 0.2)}
    found = check_attribute("e", ["smile"] * 6, smiling, "references")
    assert (found.measure, found.value) == ("agreement", 1.0)
    assert check_attribute("e", ["sad"] * 6, smiling, "references").value == 0.0
    chibi = {"chibi": np.array([0.1, 0.2, 0.9, 0.1])}
    normal = check_attribute("body", ["normal"] * 4, chibi, "references", silent="normal")
    assert (normal.measure, normal.value) == ("agreement", 0.75)
