"""Suites: what they ask, that they share nothing, and what each arm says."""

import itertools

import pytest

from onmodel.character import Character, load_character
from onmodel.errors import InputError
from onmodel.sample.suites import (
    DANBOORU,
    STRANGERS,
    SUITES,
    Vocabulary,
    free_table,
    matrix,
    noise_seed,
    suite,
    vocabulary_of,
)
from onmodel.toon import attributes
from tests.support.drawn_family import SHEET

TOON = attributes.VOCABULARY


@pytest.fixture(scope="module")
def character() -> Character:
    return load_character(SHEET)


@pytest.mark.parametrize("vocabulary", [TOON, DANBOORU], ids=["toon", "danbooru"])
@pytest.mark.parametrize(
    ("name", "count"), [("choose", 12), ("check", 20), ("confirm", 24), ("thorough", 48)]
)
def test_size_and_kinds(
    character: Character, vocabulary: Vocabulary, name: str, count: int
) -> None:
    prompts = suite(name, character, vocabulary)  # type: ignore[arg-type]
    assert (
        len(prompts) == count == len({p.id for p in prompts}) == len({p.text["L"] for p in prompts})
    )
    asked = [p.asked for p in prompts]
    assert {a["expression"] for a in asked if "expression" in a} == set(vocabulary["expression"])
    assert len({a["framing"] for a in asked if "framing" in a}) == 3
    assert 3 <= sum("style" in a for a in asked) <= count / 2
    for attribute in ("view", "pose", "background", "outfit"):
        assert len({a[attribute] for a in asked if attribute in a}) >= 2, attribute
    assert all(a.get("framing") != "full body" for a in asked if "expression" in a)


@pytest.mark.parametrize("vocabulary", [TOON, DANBOORU], ids=["toon", "danbooru"])
def test_suites_share_no_text_and_no_seed(character: Character, vocabulary: Vocabulary) -> None:
    texts, seeds = {}, {}
    for name in SUITES:
        prompts = suite(name, character, vocabulary)  # type: ignore[arg-type]
        texts[name] = {p.text[arm] for p in prompts for arm in "LDN"}
        seeds[name] = {noise_seed(name, p.id, i) for p in prompts for i in range(8)}
        assert len(seeds[name]) == len(prompts) * 8
        assert all(0 <= seed < 2**31 for seed in seeds[name])
    for one, other in itertools.combinations(SUITES, 2):
        assert not texts[one] & texts[other] or {one, other} == {"confirm", "thorough"}
        assert not seeds[one] & seeds[other]


def test_what_each_arm_says(character: Character) -> None:
    prompt = next(p for p in suite("choose", character, TOON) if p.id == "expression-wink")
    assert (
        prompt.text["L"] == "masterpiece, best quality, 1girl, backgwa, one eye closed, upper body"
    )
    assert prompt.text["B"] == prompt.text["L"]
    assert (
        prompt.text["N"]
        == prompt.words("BN")
        == "masterpiece, best quality, 1girl, one eye closed, upper body"
    )
    assert "backgwa" not in prompt.text["D"] and all(
        tag in prompt.text["D"] for tag in character.tags
    )


def test_parentheses_of_a_sheet_are_escaped_in_every_prompt(character: Character) -> None:
    sheet = character.model_copy(update={"trigger": "wolf (toon)"})
    for prompt in suite("choose", sheet, TOON):
        assert r"wolf \(toon\)" in prompt.text["L"]


def test_the_trigger_also_stands_in_a_sentence(character: Character) -> None:
    prompt = next(p for p in suite("choose", character, TOON) if p.kind == "sentence")
    shows = "It shows comic, forest and looking at viewer."
    assert prompt.text["L"] == f"masterpiece, best quality. A girl named backgwa. {shows}"
    assert prompt.text["N"] == f"masterpiece, best quality. A girl. {shows}"
    assert (
        "backgwa" not in prompt.text["D"]
        and "yellow eyes" in prompt.text["D"]
        and shows in prompt.text["D"]
    )


@pytest.mark.parametrize("name", SUITES)
def test_without_the_trigger_other_characters_are_asked_for_too(
    character: Character, name: str
) -> None:
    prompts = suite(name, character, TOON)  # type: ignore[arg-type]
    strangers = [p for p in prompts if any(tags[0] in p.text["N"] for tags in STRANGERS)]
    assert len(prompts) / 3 <= len(strangers) <= len(prompts) / 2
    assert not any(
        tag in p.text["N"] for p in prompts for tag in [*character.tags, character.trigger]
    )
    assert not any(tag in p.text["L"] for p in strangers for tag in STRANGERS[0])


def test_the_thorough_suite_is_confirm_and_more(character: Character) -> None:
    prompts = suite("thorough", character, TOON)
    assert prompts[:24] == suite("confirm", character, TOON)
    asked = [p.asked for p in prompts]
    assert sum("style" in a for a in asked) >= 12 and sum("framing" not in a for a in asked) >= 12


@pytest.mark.parametrize(
    ("name", "outfits", "bodies"), [("choose", 4, 3), ("confirm", 12, 6), ("thorough", 24, 12)]
)
def test_every_axis_has_several_prompts(
    character: Character, name: str, outfits: int, bodies: int
) -> None:
    asked = [p.asked for p in suite(name, character, TOON)]  # type: ignore[arg-type]
    assert sum("outfit" in a for a in asked) == outfits
    assert sum(a.get("framing") == "full body" for a in asked) >= bodies


@pytest.mark.parametrize(("name", "half"), [("confirm", 12), ("thorough", 24)])
def test_published_suites_ask_each_attribute_in_half_of_the_prompts(
    character: Character, name: str, half: int
) -> None:
    """And any two of them in a quarter, so that no attribute stands for another."""
    asked = [p.asked for p in suite(name, character, TOON)]  # type: ignore[arg-type]
    attributes = [*character.free, "outfit"]
    for attribute in attributes:
        extra = name == "thorough" and attribute == "background"
        assert sum(attribute in a for a in asked) == half + extra
    for one, other in itertools.combinations(attributes, 2):
        assert sum(one in a and other in a for a in asked) == half // 2
    for a in asked:
        assert not (a.get("framing") == "close-up" and {"pose", "outfit"} & a.keys())
        if {"expression", "framing"} <= a.keys():
            assert a["framing"] != "full body"


def test_another_outfit_takes_the_default_one_out_of_the_description(character: Character) -> None:
    for name in SUITES:
        for prompt in suite(name, character, TOON):  # type: ignore[arg-type]
            worn = [tag for tag in character.outfits[0].tags if tag in prompt.text["D"]]
            assert bool(worn) == ("outfit" not in prompt.asked)
            assert prompt.asked.get("outfit") != "jacket"


def test_what_is_not_free_is_not_asked(character: Character) -> None:
    still = character.model_copy(
        update={"free": [name for name in character.free if name != "view"]}
    )
    assert all("view" not in p.asked for p in suite("choose", still, TOON))
    bare = character.model_copy(update={"free": ["framing"]})
    with pytest.raises(InputError, match="asks for expression"):
        suite("choose", bare, TOON)


def test_suites_never_change(character: Character) -> None:
    first, second = (suite("confirm", character, TOON) for _ in range(2))
    assert first == second
    assert (
        noise_seed("choose", "identity", 0) == 1099590953
    )  # golden: a new value makes every published number stale


def test_matrix_is_balanced_and_repeatable(character: Character) -> None:
    table = {"expression": ["smile", "sad", "angry"], "style": ["comic", ""]}
    prompts = matrix(table, character, 12, seed=3)
    told = [p.asked.get("expression") for p in prompts]
    assert {told.count(value) for value in table["expression"]} == {4}
    assert sum("style" in p.asked for p in prompts) == 6
    assert prompts == matrix(table, character, 12, seed=3) != matrix(table, character, 12, seed=4)
    assert prompts[0].text["L"].startswith("masterpiece, best quality, 1girl, backgwa, ")


def test_matrix_asks_for_nothing_that_the_framing_cuts_off(character: Character) -> None:
    for prompt in matrix(free_table(character, TOON), character, 60, seed=1):
        assert not (prompt.asked.get("framing") == "close-up" and "pose" in prompt.asked)


def test_the_free_table_is_what_the_sheet_leaves_free(character: Character) -> None:
    assert set(free_table(character, DANBOORU)) == set(character.free)
    assert "" in free_table(character, TOON)["style"]


def test_each_base_has_its_words() -> None:
    assert vocabulary_of("toon") is TOON and vocabulary_of("anima") is DANBOORU
