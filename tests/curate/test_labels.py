"""Labels: what is wrong with their form is found without a picture, what is wrong in them by what a
tagger sees."""

from pathlib import Path

import numpy as np
import pytest

from onmodel.character import load_character
from onmodel.curate.findings import AuditFinding
from onmodel.curate.labels import Labelled, Sight, audit_labels
from onmodel.curate.vocabulary import Vocabulary, names_an_artist, read_aliases, vocabulary_for
from onmodel.errors import InputError
from onmodel.toon.attributes import VOCABULARY
from onmodel.toon.captions import ALL_TAGS

SHEET = load_character(Path(__file__).parents[2] / "onmodel/toon/characters/backgwa.toml")
WORDS = vocabulary_for(ALL_TAGS, [*SHEET.tags, "1girl"])


def audit(*captions: str, sentence: str = "") -> list[AuditFinding]:
    rows = [Labelled(f"a/{i}", caption.split(", "), sentence) for i, caption in enumerate(captions)]
    return audit_labels(rows, SHEET, WORDS)


def kinds(*captions: str, sentence: str = "") -> dict[str, AuditFinding]:
    return {row.kind: row for row in audit(*captions, sentence=sentence) if row.picture}


def test_a_right_caption_has_no_findings() -> None:
    caption = "1girl, backgwa, smile, upper body, looking at viewer, standing, beach, comic"
    assert (
        kinds(caption, sentence="A girl named backgwa. She has a smile, on a beach in comic style.")
        == {}
    )


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
        (
            "smile, 1girl, backgwa",
            "order",
            ("smile", "1girl", "backgwa"),
            ("1girl", "smile", "backgwa"),
        ),
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
    assert "tags against sentence" in kinds(
        "1girl, backgwa, smile", sentence="She is angry, on a beach."
    )


@pytest.mark.parametrize(
    "tag", ["@name", "by some_one", "artist:x", "art by x", "in the style of x"]
)
def test_artists_are_told_by_their_form(tag: str) -> None:
    assert names_an_artist(tag)


@pytest.mark.parametrize("tag", ["sitting by window", "comic", "standing", "email@"])
def test_other_tags_name_no_artist(tag: str) -> None:
    assert not names_an_artist(tag)


def seen(
    faces: list[str], said: list[str], sure: float = 0.97, strict: tuple[str, ...] = ()
) -> list[AuditFinding]:
    """An audit of pictures whose faces the tagger sees ("" for none), and whose captions say
    another list of faces."""
    columns = list(VOCABULARY["expression"].values())
    p = np.full((len(faces), len(columns)), 0.02)
    for i, face in enumerate(faces):
        p[i, [columns.index(face)] if face else []] = sure
    rows = [
        Labelled(f"a/{i}", [tag for tag in ("1girl", "backgwa", face) if tag], strict=strict)
        for i, face in enumerate(said)
    ]
    return audit_labels(rows, SHEET, WORDS, Sight.of(rows, columns, p, WORDS))


def test_wrong_and_missing_labels_are_found_with_the_taggers_word() -> None:
    faces = ["smile", "sad", "angry"] * 10
    said = faces.copy()
    said[0], said[4] = "angry", ""
    found = {row.kind: row for row in seen(faces, said)}
    assert set(found) == {"wrong label", "missing label"}
    wrong, missing = found["wrong label"].fix, found["missing label"].fix
    assert wrong is not None and (wrong.remove, wrong.add) == (("angry",), ("smile",))
    assert missing is not None and (missing.remove, missing.add, missing.by) == (
        (),
        ("sad",),
        "tagger 0.97",
    )


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
    weighted = [
        Labelled("a/0", ["1girl", "backgwa", "smile"], weight=9),
        Labelled("b/0", ["1girl", "backgwa", "sad"]),
    ]
    assert [row.subject for row in audit_labels(weighted, SHEET, WORDS)] == ["smile"]


def test_what_a_subset_must_say_is_asked_of_each_picture() -> None:
    faces = ["smile", "sad", "angry"] * 5 + ["", ""]
    said = [*faces[:6], *[""] * 10, "sad"]
    assert not [
        row for row in seen(faces, said) if row.picture
    ]  # few say it: elsewhere nothing is missing
    missing = [
        row
        for row in seen(faces, said, strict=("expression", "background"))
        if row.kind == "missing label"
    ]
    unsaid = [row for row in missing if row.subject == "expression"]
    assert len(unsaid) == 10 and [row.picture for row in unsaid if row.fix is None] == ["a/15"]
    assert len(missing) == 10 + len(faces) and not any(
        row.fix for row in missing if row.subject == "background"
    )
    whole = seen(faces, ["smile", "sad", "angry"] * 5 + ["", "sad"], strict=("expression",))
    assert {(row.kind, row.picture) for row in whole if row.picture} == {
        ("missing label", "a/15"),
        ("doubtful label", "a/16"),
    }


def test_what_a_close_up_hides_or_the_design_says_need_not_be_said() -> None:
    rows = [
        Labelled(
            "a/0",
            ["1girl", "backgwa", "close-up"],
            strict=("pose", "hair_color", "ears", "framing"),
        )
    ]
    assert not [row for row in audit_labels(rows, SHEET, WORDS) if row.picture]


def test_aliases_of_a_list_become_their_tags(tmp_path: Path) -> None:
    path = tmp_path / "aliases.csv"
    path.write_text("alias,tag\nsneer,smile\nHand_On_Own_Hip,hand_on_hip\n", encoding="utf-8")
    words = Vocabulary(WORDS.attributes, WORDS.known, read_aliases(path))
    rows = [Labelled("a/0", ["1girl", "backgwa", "Sneer", "hand on own hip"])]
    found = {row.subject: row for row in audit_labels(rows, SHEET, words) if row.picture}
    assert {row.kind for row in found.values()} == {"alias"}
    fix = found["hand on own hip"].fix
    assert fix is not None and (fix.remove, fix.add, fix.by) == (
        ("hand on own hip",),
        ("hand on hip",),
        "rule: alias",
    )


def test_a_tag_list_says_aliases_too(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text('smile,0,5000,"sneer,smiling_face"\n1girl,0,9000,\n', encoding="utf-8")
    assert read_aliases(path) == {"sneer": "smile", "smiling face": "smile"}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a,b\nc\n", "line 2"),
        ("alias,tag\n", "no pair"),
        ("x\n", "line 1"),
        ("a,b\nc,d,e\n", "line 2"),
        (None, "no such file"),
    ],
)
def test_a_list_that_is_none_is_named(tmp_path: Path, text: str | None, what: str) -> None:
    if text is not None:
        (tmp_path / "aliases.csv").write_text(text)
    with pytest.raises(InputError, match=what):
        read_aliases(tmp_path / "aliases.csv")
