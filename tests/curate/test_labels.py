"""Labels: what is wrong with their form is found without a picture, what is wrong in them by what a tagger sees."""

from pathlib import Path

import numpy as np
import pytest

from onmodel.character import load_character
from onmodel.curate.findings import Finding
from onmodel.curate.labels import Labelled, Sight, audit_labels
from onmodel.curate.vocabulary import names_an_artist, vocabulary_for
from onmodel.toon.attributes import VOCABULARY
from onmodel.toon.captions import ALL_TAGS

SHEET = load_character(Path(__file__).parents[2] / "onmodel/toon/characters/backgwa.toml")
WORDS = vocabulary_for(ALL_TAGS, [*SHEET.tags, "1girl"])


def audit(*captions: str, sentence: str = "") -> list[Finding]:
    rows = [Labelled(f"a/{i}", caption.split(", "), sentence) for i, caption in enumerate(captions)]
    return audit_labels(rows, SHEET, WORDS)


def kinds(*captions: str, sentence: str = "") -> dict[str, Finding]:
    return {row.kind: row for row in audit(*captions, sentence=sentence) if row.picture}


def test_a_right_caption_has_no_findings() -> None:
    caption = "1girl, backgwa, smile, upper body, looking at viewer, standing, beach, comic"
    assert kinds(caption, sentence="A girl named backgwa. She has a smile, on a beach in comic style.") == {}


@pytest.mark.parametrize(
    ("caption", "kind", "remove", "add"),
    [
        ("1girl, smile", "no trigger", ("1girl",), ("1girl", "backgwa")),
        ("1girl, bakgwa, smile", "trigger misspelt", ("bakgwa",), ("backgwa",)),
        ("1girl, Backgwa, smile", "trigger misspelt", ("Backgwa",), ("backgwa",)),
        ("1girl, backgwa smile", "fused tag", ("backgwa smile",), ("backgwa", "smile")),
        ("1girl, backgwa, smle", "spelling", ("smle",), ("smile",)),
        ("1girl, backgwa, close_up", "spelling", ("close_up",), ("close-up",)),
        ("1girl, backgwa, @someone", "artist name", ("@someone",), ()),
        ("1girl, backgwa, navy beret, beret", "implied", ("beret",), ()),
        ("smile, 1girl, backgwa", "order", ("smile", "1girl", "backgwa"), ("1girl", "smile", "backgwa")),
        ("1girl, backgwa, smile, smile", "said twice", ("smile",), ("smile",)),
    ],
)
def test_faults_of_form_come_with_their_fix(
    caption: str, kind: str, remove: tuple[str, ...], add: tuple[str, ...]
) -> None:
    found = kinds(caption)
    assert set(found) == {kind}
    fix = found[kind].fix
    assert fix is not None and (fix.remove, fix.add) == (remove, add)


def test_contradictions_are_left_to_a_person() -> None:
    assert kinds("1girl, backgwa, smile, angry")["contradiction"].fix is None
    assert "tags against sentence" in kinds("1girl, backgwa, smile", sentence="She is angry, on a beach.")


@pytest.mark.parametrize("tag", ["@name", "by some_one", "artist:x", "art by x", "in the style of x"])
def test_artists_are_told_by_their_form(tag: str) -> None:
    assert names_an_artist(tag)


@pytest.mark.parametrize("tag", ["sitting by window", "comic", "standing", "email@"])
def test_other_tags_name_no_artist(tag: str) -> None:
    assert not names_an_artist(tag)


def seen(faces: list[str], said: list[str], sure: float = 0.97) -> list[Finding]:
    """An audit of pictures whose faces the tagger sees, and whose captions say another list of faces ("" for none)."""
    columns = list(VOCABULARY["expression"].values())
    p = np.full((len(faces), len(columns)), 0.02)
    for i, face in enumerate(faces):
        p[i, columns.index(face)] = sure
    rows = [Labelled(f"a/{i}", [tag for tag in ("1girl", "backgwa", face) if tag]) for i, face in enumerate(said)]
    return audit_labels(rows, SHEET, WORDS, Sight.of(rows, columns, p, WORDS))


def test_wrong_and_missing_labels_are_found_with_the_taggers_word() -> None:
    faces = ["smile", "sad", "angry"] * 10
    said = faces.copy()
    said[0], said[4] = "angry", ""
    found = {row.kind: row for row in seen(faces, said)}
    assert set(found) == {"wrong label", "missing label"}
    wrong, missing = found["wrong label"].fix, found["missing label"].fix
    assert wrong is not None and (wrong.remove, wrong.add) == (("angry",), ("smile",))
    assert missing is not None and (missing.remove, missing.add, missing.by) == ((), ("sad",), "tagger 0.97")


def test_an_unsure_tagger_accuses_nobody() -> None:
    faces = ["smile", "sad", "angry"] * 10
    said = faces.copy()
    said[0] = "angry"
    assert [row for row in seen(faces, said, sure=0.1) if row.picture] == []


def test_an_attribute_whose_labels_are_not_confirmed_is_not_judged() -> None:
    faces = ["smile", "sad", "angry"] * 10
    found = seen(faces, faces[1:] + faces[:1])
    assert [row.kind for row in found] == ["not judgeable"]


def test_what_nobody_labels_is_no_missing_label() -> None:
    found = seen(["smile", "sad", "angry"] * 10, ["smile", "sad", "angry"] * 3 + [""] * 21)
    assert not any(row.kind == "missing label" for row in found)


def test_what_always_comes_with_the_trigger_is_told() -> None:
    found = seen(["smile"] * 19 + ["sad"], [""] * 20)
    assert [(row.kind, row.subject) for row in found] == [("true and never said", "smile")]
    fused = audit(*["1girl, backgwa, smile"] * 9, "1girl, backgwa, sad")
    assert [(row.kind, row.subject) for row in fused] == [("fused with the trigger", "smile")]
    weighted = [Labelled("a/0", ["1girl", "backgwa", "smile"], weight=9), Labelled("b/0", ["1girl", "backgwa", "sad"])]
    assert [row.subject for row in audit_labels(weighted, SHEET, WORDS)] == ["smile"]
