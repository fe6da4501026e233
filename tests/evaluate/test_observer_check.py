"""An observer that cannot read the drawings is found out, and one that can is not."""

import numpy as np
from PIL import Image

from onmodel.evaluate.observer_check import (
    auc,
    check_attribute,
    check_corruption,
    check_heads,
    check_identity,
    check_tagger,
    damaged_copy,
    said_by_tags,
)
from onmodel.randomness import generator

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
        assert seeing or "cannot be read on these drawings (AUC" in found.reason


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
