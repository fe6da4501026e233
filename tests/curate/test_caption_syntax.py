"""Prompt syntax, other separators and invisible letters in tags, each with what was meant."""

import pytest

from onmodel.curate.caption_syntax import audit_syntax, meant
from onmodel.curate.labels import Labelled, audit_labels
from onmodel.curate.vocabulary import Vocabulary, names_an_artist
from onmodel.dataset.captions import split_tags
from tests.support.contexts import CHARACTER

TRIGGER = "mychar"


@pytest.mark.parametrize(
    ("tag", "kind", "tags"),
    [
        ("1girl，mychar，red hair", "separator", ("1girl", "mychar", "red hair")),
        ("1girl、mychar、red hair", "separator", ("1girl", "mychar", "red hair")),
        ("1girl; mychar; red hair", "separator", ("1girl", "mychar", "red hair")),
        ("1girl;mychar", "separator", ("1girl", "mychar")),
        ("1girl. mychar. red hair.", "separator", ("1girl", "mychar", "red hair")),
        ("1girl. mychar. v2. smile", "separator", ("1girl", "mychar", "v2", "smile")),
        ("1girl. MyChar.", "separator", ("1girl", "MyChar")),
        (
            "1girl red_hair looking_at_viewer",
            "separator",
            ("1girl", "red_hair", "looking_at_viewer"),
        ),
        ("She smiles. Red hair. Rain.", "separator", None),
        ("\u200bred hair", "invisible letters", ("red hair",)),
        ("red\u00ad hair\ufeff", "invisible letters", ("red hair",)),
        (r"saber \(fate\)", "prompt syntax", ("saber (fate)",)),
        ("(red hair:1.3)", "prompt syntax", ("red hair",)),
        ("((red hair))", "prompt syntax", ("red hair",)),
        ("[smile]", "prompt syntax", ("smile",)),
        ("{smile}", "prompt syntax", ("smile",)),
        ("(red hair", "prompt syntax", ("red hair",)),
        ("blue eyes:1.2)", "prompt syntax", ("blue eyes",)),
        ("(saber (fate):0.8)", "prompt syntax", ("saber (fate)",)),
        ("<lora:foo:0.8>", "prompt syntax", ()),
        ("smile <lora:foo:0.8>", "prompt syntax", ("smile",)),
        ("BREAK", "prompt syntax", ()),
        ("smile BREAK hat", "prompt syntax", ("smile", "hat")),
        ('"1girl', "prompt syntax", ("1girl",)),
        ("[trigger]", "prompt syntax", (TRIGGER,)),
        ("{red|blue} hair", "prompt syntax", None),
        ("__pose__", "prompt syntax", None),
    ],
)
def test_what_was_meant(tag: str, kind: str, tags: tuple[str, ...] | None) -> None:
    found = meant(tag, TRIGGER)
    assert found is not None and (found.kind, found.tags) == (kind, tags)


FACES = ["@_@", "^_^", ">_<", ":3", "||_||", "(o)_(o)", "+_+", ";)", ";d", ":d", ">:)", "._."]
NAMES = ["saber (fate)", "fate (series)", "re:zero", "1,000 yen", "16:9", "😊 smile", "👩\u200d🎨"]
PLAIN = ["looking at viewer", "long_hair", "mychar", "c.c. (code geass)", "dr. stone", "vol. 2"]
PROSE = [
    "1girl red_hair",
    "a red_hair girl",
    "@_@ ^_^ >_<",
    "a girl with red hair stands. she smiles. it rains.",
    "j. r. r. tolkien",
    "mychar.",
]


@pytest.mark.parametrize("tag", [*FACES, *NAMES, *PLAIN, *PROSE])
def test_tags_that_mean_themselves(tag: str) -> None:
    assert meant(tag, TRIGGER) is None


def test_faces_are_no_artists() -> None:
    assert not any(map(names_an_artist, ["@_@", "@o@", "@ @"]))
    assert all(map(names_an_artist, ["@name", "@a b", "by someone", "artist:x"]))


def test_a_number_with_a_comma_is_one_tag() -> None:
    assert split_tags("1girl,1,000 yen, 2,smile") == ["1girl", "1,000 yen", "2", "smile"]


def found_in(*tags: str) -> dict[str, tuple[str, ...] | None]:
    """Kind → the tags that its fix adds."""
    character = CHARACTER.model_copy(update={"trigger": TRIGGER})
    vocabulary = Vocabulary({}, ("1girl", "smile", "red hair"))
    rows = audit_labels([Labelled("a", tags)], character, vocabulary)
    return {row.kind: row.fix.add if row.fix else None for row in rows if row.picture}


def test_the_trigger_is_seen_within_what_another_finding_mends() -> None:
    assert found_in("1girl，mychar，smile") == {"separator": ("1girl", "mychar", "smile")}
    assert found_in("1girl", "(mychar:1.2)") == {"prompt syntax": ("mychar",)}
    assert found_in("1girl. mychar. smile.") == {"separator": ("1girl", "mychar", "smile")}
    assert found_in("A girl called mychar stands in the heavy rain") == {}
    assert found_in("1girl", "smile") == {"no trigger": ("1girl", "mychar")}


@pytest.mark.parametrize(
    ("tags", "kind", "right"),
    [
        (("1girl", "mychra"), "trigger misspelt", (TRIGGER,)),
        (("1girl", "mychar", "smlie"), "spelling", ("smile",)),
    ],
)
def test_swapped_letters_are_found(
    tags: tuple[str, ...], kind: str, right: tuple[str, ...]
) -> None:
    assert found_in(*tags) == {kind: right}


def test_the_clean_tags_have_every_certain_fix() -> None:
    found, clean = audit_syntax("a", ["1girl", "(hat:1.1)", "__x__", "a；b"], TRIGGER)
    assert clean == ["1girl", "hat", "__x__", "a；b"] and len(found) == 2
