"""The header's words: what is in them, what is not, and that they come back."""

import json

import pytest

from onmodel.errors import InputError, VerifyError
from onmodel.hashing import canonical_json, hash_json, sha256_bytes
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.lora.header import LIMIT, RECIPE_KEY, Facts, build, imported, lineage_of

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
    assert lineage_of(build(FACTS, lineage), "ef" * 32) == lineage


def test_a_foreign_file_has_an_unknown_origin() -> None:
    lineage = lineage_of({}, "ef" * 32)
    assert lineage[root(lineage)] == {
        "type": "model",
        "used": [],
        "origin": "unknown",
        "sha256": "ef" * 32,
    }


KOHYA = {
    "ss_sd_model_name": "C:\\Users\\someone\\models\\anima.safetensors",
    "ss_output_name": "her",
    "ss_learning_rate": "0.0001",
    "ss_training_comment": "None",
    "ss_tag_frequency": json.dumps({"10_her": {"1girl": 40}}),
    "ss_dataset_dirs": json.dumps(
        {f"{n}_folder": {"n_repeats": n, "img_count": 40} for n in range(20)}
    ),
    "modelspec.author": "another",
}


def test_what_a_strangers_header_says_stays_as_claims_and_makes_nothing_known() -> None:
    lineage = lineage_of(KOHYA, "ef" * 32)
    assert len(lineage) == 1, "nothing is invented"
    node = lineage[root(lineage)]
    assert (
        set(node) == {"type", "used", "origin", "sha256", "claims", "claims_sha256"}
        and node["origin"] == "unknown"
    )
    claims = node["claims"]
    assert claims["ss_learning_rate"] == "0.0001" and claims["modelspec.author"] == "another"
    assert claims["ss_sd_model_name"] == "anima.safetensors", "no path of anyone's machine"
    assert "ss_tag_frequency" not in claims and "ss_training_comment" not in claims
    assert len(claims["ss_dataset_dirs"]) == 400 and claims["ss_dataset_dirs"].endswith("…")
    assert node["claims_sha256"] == hash_json(KOHYA), (
        "the whole header can be held against it later"
    )
    other = lineage_of({**KOHYA, "ss_tag_frequency": "{}"}, "ef" * 32)
    assert root(other) != root(lineage)


def test_another_makers_history_stands_below_a_node_that_says_so() -> None:
    words = build(FACTS, history())
    lineage = imported(words, "ef" * 32, "theirs")
    node = lineage[root(lineage)]
    assert (node["type"], node["origin"], node["name"], node["sha256"]) == (
        "model",
        "onmodel",
        "theirs",
        "ef" * 32,
    )
    assert node["used"] == [root(history())] and set(history()) < set(lineage)
    assert node["claims"]["modelspec.title"] == "BACKGWA"
    stranger = imported({}, "ef" * 32, "x")
    assert stranger[root(stranger)]["origin"] == "unknown"


def test_a_damaged_history_is_an_error() -> None:
    recipe = build(FACTS, history())[RECIPE_KEY]
    for damaged in (recipe[:-3], recipe.replace('"steps":4', '"steps":5'), "[1]", "7"):
        with pytest.raises(VerifyError):
            lineage_of({RECIPE_KEY: damaged}, "ef" * 32)


def test_too_long() -> None:
    with pytest.raises(InputError, match="longer than"):
        build(FACTS, history(), ss_tag_frequency="x" * LIMIT)
