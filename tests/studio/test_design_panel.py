"""The character's design: traits proposed from the pictures' tags, written into the sheet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from onmodel.character import load_character
from onmodel.curate.gather import gather
from onmodel.events import Events
from onmodel.starter import StarterSettings, write_starter
from onmodel.studio.workspace import CharacterFolder, open_workspace
from tests.support.studio import Browser, serving
from tests.support.toon_pictures import toon_picture


@pytest.fixture
def character(tmp_path: Path) -> CharacterFolder:
    """Ten pictures: "cat ears" on all, "blue hair" on eight, "smile" on nine, "hat" on three."""
    made = open_workspace(tmp_path).new("momo")
    made.pictures.mkdir()
    for i in range(10):
        tags = ["1girl", "momochar", "cat ears"]
        tags += ["blue hair"] * (i < 8) + ["smile"] * (i < 9) + ["hat"] * (i < 3)
        (made.pictures / f"{i}.png").write_bytes(toon_picture(i)[0])
        (made.pictures / f"{i}.txt").write_text(", ".join(tags))
    write_starter(made.folder, StarterSettings(pictures=made.pictures, trigger="momochar"), None)
    gather([made.pictures], made.data, "unknown", "unknown", Events())
    return made


@pytest.fixture
def browser(character: CharacterFolder) -> Iterator[Browser]:
    with serving(character.folder.parent) as browser:
        yield browser


def test_what_most_pictures_have_is_proposed_and_what_is_free_is_not(
    character: CharacterFolder, browser: Browser
) -> None:
    sheet = character.sheet.read_text()
    character.sheet.write_text(
        sheet.replace('tags = ["cat ears", "blue hair", "smile"]', "tags = []")
    )
    assert load_character(character.sheet).tags == []
    page = browser.get(f"/c/{character.id}/data/design").text
    assert 'value="cat ears" checked' in page and "100 %" in page
    assert 'value="blue hair" checked' in page and "80 %" in page
    assert 'value="smile"' not in page and 'value="hat"' not in page


def test_a_design_is_written_beside_the_comments(
    character: CharacterFolder, browser: Browser
) -> None:
    address = f"/c/{character.id}/data/design"
    fields = (("tag", "cat ears"), ("more", "red eyes,, cat ears"), ("description", "A red cat."))
    assert "Written." in browser.form(address, *fields).text
    sheet = load_character(character.sheet)
    assert sheet.tags == ["cat ears", "red eyes"] == sheet.required
    assert sheet.description == "A red cat."
    text = character.sheet.read_text()
    assert text.startswith("# The model sheet")
    character.sheet.write_text(text.replace('required = ["cat ears", "red eyes"]', "required = []"))
    assert browser.form(address, *fields, ("more", "")).status == 200
    assert load_character(character.sheet).required == []


@pytest.mark.parametrize("tag", ["x" * 201, "red\neyes", "\u202e"])
def test_a_wrong_trait_is_one_line_and_writes_nothing(
    character: CharacterFolder, browser: Browser, tag: str
) -> None:
    before = character.sheet.read_bytes()
    fields = (("tag", tag), ("description", "A cat."))
    answer = browser.form(f"/c/{character.id}/data/design", *fields)
    assert answer.status == 422 and "character.tags" in answer.text
    assert "/character.toml" not in answer.text
    assert character.sheet.read_bytes() == before


def test_a_hostile_trait_stays_a_word(character: CharacterFolder, browser: Browser) -> None:
    tag = '"><script>alert(1)</script>'
    page = browser.form(
        f"/c/{character.id}/data/design", ("tag", tag), ("description", "<b>A cat.</b>")
    ).text
    assert "<script>" not in page and "<b>" not in page
    assert load_character(character.sheet).tags == [tag]


def test_a_character_of_the_toon_world_has_no_sheet_here(
    character: CharacterFolder, browser: Browser
) -> None:
    character.sheet.unlink()
    assert "no character.toml" in browser.get(f"/c/{character.id}/data/design").text
    answer = browser.form(f"/c/{character.id}/data/design", ("tag", "cat ears"))
    assert answer.status == 422 and "character: " in answer.text
    assert not character.sheet.exists()
