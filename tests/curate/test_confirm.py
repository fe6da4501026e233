"""Strict labels: what the tagger does not confirm is left out of captions."""

from pathlib import Path

import pytest

from onmodel.character import Character
from onmodel.curate.confirm import confirm_labels
from onmodel.curate.tagging import load_tagger
from onmodel.dataset.captions import split_tags
from onmodel.dataset.manifest import read_items
from onmodel.errors import InputError
from onmodel.evaluate.observers.files import TOON_ASSETS
from onmodel.events import Events
from onmodel.stages import curate
from onmodel.stages.base import Inputs
from onmodel.toon.attributes import VOCABULARY
from onmodel.toon.datasets import STANDIN_SETS, deal
from tests.support.contexts import context

ADDITIONAL = {"additional": [{"toon": "backgwa_additional"}]}
TRUTH = deal(STANDIN_SETS["backgwa_additional"])
ATTRIBUTES = ("expression", "view", "pose", "background", "framing", "style")


def settings(**table: object) -> curate.Settings:
    return curate.Settings.model_validate({"do": "curate", "subsets": ADDITIONAL, **table})


def wrong_labels(folder: Path) -> tuple[int, int]:
    """Wrong and right labels of the set's captions, by what was drawn."""
    wrong = right = 0
    for item in read_items(folder):
        toon = TRUTH[int(item.file[-7:-4])]
        for attribute in ATTRIBUTES:
            tags = VOCABULARY[attribute]
            said = [value for value, tag in tags.items() if tag and tag in split_tags(item.tags)]
            wrong += sum(value != getattr(toon, attribute) for value in said)
            right += sum(value == getattr(toon, attribute) for value in said)
    return wrong, right


def test_most_wrong_labels_go_and_right_ones_stay(tmp_path: Path) -> None:
    counts = []
    for name, more in (("plain", {}), ("strict", {"strict": ["additional"]})):
        place = context(tmp_path / name, lambda: None, "data", 1)
        made = curate.run(Inputs({}), settings(**more), place)
        counts.append(wrong_labels(made.path))
    (wrong, right), (wrong_left, right_left) = counts
    assert wrong >= 5 and wrong_left <= wrong / 2
    assert right_left >= 0.97 * right


def test_other_subsets_and_their_sentences_stay(tmp_path: Path) -> None:
    made = curate.run(Inputs({}), settings(), context(tmp_path / "p", lambda: None, "data", 1))
    items = read_items(made.path)
    tagger = load_tagger(str(TOON_ASSETS / "tagger"))
    assert confirm_labels(items, ["other"], made.path, tagger, Events()) == list(items)
    strict = confirm_labels(items, ["additional"], made.path, tagger, Events())
    changed = [(a, b) for a, b in zip(items, strict, strict=True) if a.tags != b.tags]
    assert changed and all(len(b.tags) < len(a.tags) for a, b in changed)
    assert any(a.sentence and not b.sentence for a, b in changed)


def test_a_data_set_without_strict_labels_has_the_key_that_it_had() -> None:
    assert {"strict", "tagger"}.isdisjoint({*settings().keyed(), *settings().told()})
    strict = settings(strict=["additional"]).keyed()
    assert strict["strict"] == ["additional"] and len(str(strict["tagger"])) == 64


def test_strict_labels_need_a_tagger_and_a_subset(tmp_path: Path) -> None:
    sheet = Character.model_construct()
    with pytest.raises(InputError, match="strict: additional — needs a tagger"):
        settings(strict=["additional"]).check("other", sheet)
    with pytest.raises(ValueError, match="no subset 'extra'"):
        settings(strict=["extra"])
    with pytest.raises(ValueError, match="tagger belongs to strict"):
        settings(tagger=tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        settings(strict=["additional"], tagger=tmp_path / "none").check("toon", sheet)
