"""Holes and what is asked for to fill them."""

from collections import Counter
from pathlib import Path

import pytest

from onmodel.character import load_character
from onmodel.curate.coverage import count_picture, coverage
from onmodel.curate.holes import even, fill, prompts_for
from onmodel.curate.vocabulary import Vocabulary, vocabulary_for
from onmodel.errors import InputError
from onmodel.sample.suites import DANBOORU
from onmodel.toon.captions import ALL_TAGS

CHARACTER = load_character(Path(__file__).parents[2] / "onmodel/toon/characters/backgwa.toml")


def test_new_pictures_go_where_most_is_missing() -> None:
    half = {"a": 0.5, "b": 0.5}
    assert fill({"a": 10, "b": 4}, 4, half) == {"b": 4}
    assert fill({"a": 10, "b": 4}, 8, half) == {"a": 1, "b": 7}
    assert fill({}, 4, {"a": 0.75, "b": 0.25}) == {"a": 3, "b": 1}
    assert fill({"a": 5}, 3, {"a": 0.0, "b": 1.0}) == {"b": 3}


def test_the_prompts_ask_for_what_is_missing_and_make_no_confound() -> None:
    vocabulary = vocabulary_for(ALL_TAGS, [])
    design = vocabulary.said(CHARACTER.tags)
    tags = [
        "1girl",
        "backgwa",
        "smile",
        "upper body",
        "looking at viewer",
        "standing",
        "white background",
        "comic",
    ]
    shown = [count_picture("base", 1.0, tags, vocabulary, design) for _ in range(30)]
    targets = even(vocabulary, CHARACTER.free)
    prompts, wanted = prompts_for(
        coverage(shown, vocabulary), vocabulary, targets, CHARACTER, 60, 0
    )
    assert (
        len(prompts) == 60
        and "smile" not in wanted["expression"]
        and "comic" not in wanted["style"]
    )
    assert sum(wanted["expression"].values()) == 60
    for name, values in wanted.items():
        assert Counter(prompt.asked[name] for prompt in prompts if name in prompt.asked) == values
    closeups = [prompt for prompt in prompts if prompt.asked["framing"] == "close-up"]
    assert closeups and not any({"pose", "outfit"} & prompt.asked.keys() for prompt in closeups)
    assert sum(wanted["pose"].values()) == 60 - len(closeups)
    pairs = Counter((prompt.asked["expression"], prompt.asked["style"]) for prompt in prompts)
    assert max(pairs.values()) <= 8  # of 60 over 5 × 5 pairs
    assert "backgwa" in prompts[0].text["L"] and "light blue hair" in prompts[0].text["D"]
    assert (
        prompts
        == prompts_for(coverage(shown, vocabulary), vocabulary, targets, CHARACTER, 60, 0)[0]
    )


def test_the_real_vocabulary_has_outfits() -> None:
    vocabulary = Vocabulary(DANBOORU)
    prompts, wanted = prompts_for(
        {}, vocabulary, even(vocabulary, ["outfit", "style"]), CHARACTER, 12, 1
    )
    assert set(wanted) == {"outfit", "style"} and all(prompt.asked["outfit"] for prompt in prompts)


def test_an_unknown_target_is_one_line() -> None:
    for targets in ({"mood": {"gay": 1.0}}, {"expression": {"gay": 1.0}}):
        with pytest.raises(InputError, match=r"target: .*unknown here"):
            prompts_for({}, Vocabulary(DANBOORU), targets, CHARACTER, 2, 0)
