"""The header's words: what is in them, what is not, and that they come back."""

import pytest

from onmodel.errors import InputError, VerifyError
from onmodel.hashing import canonical_json, sha256_bytes
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.models.header import LIMIT, RECIPE_KEY, Facts, build, lineage_of
from onmodel.models.lora import Lora

FACTS = Facts("BACKGWA", "someone", "MIT", "backgwa", "anima-base-v1.0", 96, "2026-11-22")


def history() -> Lineage:
    dataset = add([], "dataset", root="ab" * 32, counts={"base": 3})
    return add([dataset, add([], "base", sha256="cd" * 32)], "run", steps=4)


def test_words() -> None:
    lineage = history()
    words = build(FACTS, lineage, ss_epoch="2")
    assert words["modelspec.sai_model_spec"] == "1.0.1"
    assert words["modelspec.architecture"] == "anima-base-v1.0/lora"
    assert words["modelspec.resolution"] == "96x96"
    assert words["ss_base_model_version"] == "anima"
    assert words["ss_epoch"] == "2"
    assert words["onmodel.dataset_root"] == "ab" * 32
    assert words["onmodel.lineage_sha256"] == sha256_bytes(canonical_json(lineage))
    assert "modelspec.merged_from" not in words
    assert not any("prediction_type" in key for key in words)
    assert all(isinstance(value, str) for value in words.values())


def test_history_comes_back() -> None:
    lineage = history()
    assert lineage_of(Lora({}, build(FACTS, lineage)), "ef" * 32) == lineage


def test_a_foreign_file_has_an_unknown_origin() -> None:
    lineage = lineage_of(Lora({}, {"ss_epoch": "3"}), "ef" * 32)
    assert lineage[root(lineage)] == {"type": "model", "used": [], "origin": "unknown", "sha256": "ef" * 32}


def test_a_damaged_history_is_an_error() -> None:
    recipe = build(FACTS, history())[RECIPE_KEY]
    for damaged in (recipe[:-3], recipe.replace('"steps":4', '"steps":5'), "[1]", "7"):
        with pytest.raises(VerifyError):
            lineage_of(Lora({}, {RECIPE_KEY: damaged}), "ef" * 32)


def test_too_long() -> None:
    with pytest.raises(InputError, match="longer than"):
        build(FACTS, history(), ss_tag_frequency="x" * LIMIT)
