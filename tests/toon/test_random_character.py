"""Characters drawn by seed: unlike the stand-in, with a model sheet that says what is drawn."""

import tomllib
from pathlib import Path

import pytest

import onmodel.toon
from onmodel.character import Character, load_character, parse_character
from onmodel.toon.attributes import BACKGWA, ToonCharacter
from onmodel.toon.captions import ALL_TAGS, tags_of
from onmodel.toon.datasets import FREE, SetSpec, deal, draw_item
from onmodel.toon.random_character import DIFFERENT, model_sheet, random_character

SHEET = Path(onmodel.toon.__file__).parent / "characters" / "backgwa.toml"
SEEDS = range(20)


def sheet_of(character: ToonCharacter) -> Character:
    return parse_character(tomllib.loads(model_sheet(character)), "sheet")


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sheet_requires_what_is_drawn_and_forbids_what_is_not(seed: int) -> None:
    character = random_character(seed)
    sheet, drawn = sheet_of(character), tags_of(character.toon(framing="full body"))
    assert set(sheet.required) <= drawn and set(sheet.outfits[0].tags) <= drawn
    assert not set(sheet.forbidden) & drawn
    assert set(sheet.required) | set(sheet.forbidden) <= set(ALL_TAGS)
    assert sheet.trigger == character.trigger and tuple(sheet.free) == FREE


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_character_differs_from_the_standin_in_every_named_trait(seed: int) -> None:
    traits = random_character(seed).traits
    assert traits.keys() == BACKGWA.traits.keys()
    assert all(traits[name] != BACKGWA.traits[name] for name in DIFFERENT)
    assert "none" not in (traits["headwear"], traits["neck"])


def test_a_seed_gives_one_character_and_another_seed_another() -> None:
    assert random_character(3) == random_character(3)
    assert len({random_character(seed).trigger for seed in SEEDS}) == len(SEEDS)


def test_the_sheet_of_the_standin_is_the_one_that_ships() -> None:
    made, shipped = sheet_of(BACKGWA), load_character(SHEET)
    for field in ("tags", "required", "forbidden", "free"):
        assert set(getattr(made, field)) == set(getattr(shipped, field)), field
    assert set(made.palette.values()) == set(shipped.palette.values())
    assert made.outfits[0].tags == shipped.outfits[0].tags


def test_a_set_of_a_random_character_shows_it_under_its_own_trigger() -> None:
    character = random_character(5)
    spec = SetSpec("any", 6, "a test", 1, character=character)
    for i, toon in enumerate(deal(spec)):
        assert all(getattr(toon, name) == value for name, value in character.traits.items())
        caption, words = draw_item(spec, i, (64, 64))[2:]
        assert caption.startswith(f"1girl, {character.trigger}, ") and character.trigger in words
        assert "hair" not in caption and BACKGWA.trigger not in caption + words
