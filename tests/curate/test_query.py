"""Pictures are found by words."""

from pathlib import Path

import pytest

from onmodel.curate.query import PictureFacts, TagOption, complete, complete_tag, search
from onmodel.curate.workshop import Piece, Said
from onmodel.errors import InputError


def piece(name: str, tags: str = "", sentence: str = "", **more: str) -> Piece:
    subset = name.partition("/")[0]
    said = tuple(Said(tag, "tagger 0.90") for tag in tags.split(", ") if tag)
    facts = {"origin": "drawn", "rights": "MIT"} | more
    return Piece(name, Path(name), name, 8, 8, subset, said, sentence, **facts)


PIECES = [
    piece("base/a", "smile, blue hat", "She waves."),
    piece("base/b", "Smile", aside="blurred"),
    piece("more/c", origin="bought"),
    piece("more/d", "hat", "A hat.", decided="person"),
]
FINDINGS = {"base/a": {"wrong label"}, "more/c": {"blurred", "wrong label"}}
FACTS = PictureFacts(
    FINDINGS,
    masked={"base/b"},
    shows={"base/a": {"pose=sitting"}, "more/d": {"pose=sitting", "view=from behind"}},
    split={"base/a": "training", "more/c": "heldout"},
)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", "abcd"),
        ("subset:BASE", "ab"),
        ("tag:smile", "ab"),
        ("-tag:smile", "cd"),
        ('tag:"blue hat"', "a"),
        ("tag:hat", "d"),
        ("hat", "ad"),
        ('"a hat."', "d"),
        ("by:tagger", "abd"),
        ("by:person", ""),
        ("name:more/c", "c"),
        ("text:waves", "a"),
        ('finding:"wrong label"', "ac"),
        ('finding:"wrong label" -finding:blurred', "a"),
        ("origin:bought", "c"),
        ("rights:mit", "abcd"),
        ("is:kept", "acd"),
        ("is:excluded", "b"),
        ("is:uncaptioned", "c"),
        ("is:captioned is:kept", "ad"),
        ("is:edited", "d"),
        ("is:masked", "b"),
        ("is:cropped", ""),
        ("shows:pose=sitting", "ad"),
        ('shows:"view=from behind"', "d"),
        ("split:heldout", "c"),
        ("-split:training", "bcd"),
        ("  tag:smile   is:kept ", "a"),
        ("TAG:smile Is:kept", "a"),
    ],
)
def test_every_term_must_hold(query: str, names: str) -> None:
    assert "".join(found.name[-1] for found in search(PIECES, query, FACTS)) == names


@pytest.mark.parametrize(
    "query",
    ['tag:"the \\"best\\""', '"re:zero"', "tag:re:zero", 'finding:"no trigger"', '-"re: zero"'],
)
def test_quotes_colons_and_capitals_are_found(query: str) -> None:
    odd = piece("odd/e", 'the "best", re:zero')
    assert search([odd], query, {odd.name: ["No trigger"]}) == [odd]
    assert complete([odd], [], 'tag:"the') == ['tag:"the \\"best\\""']


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("foo:x", "keys are subset, tag"),
        ('-re:"zero"', 'quote text with a colon: "re:zero"'),
        ("is:odd", "use kept, excluded"),
        ('tag:"x', "close the quotes"),
        ('tag:"a"b', "close the quotes"),
        ("split:odd", "use heldout, training"),
        ("split:heldout", "is known in the studio only"),
    ],
)
def test_a_wrong_query_is_one_line(query: str, line: str) -> None:
    with pytest.raises(InputError, match=line):
        search(PIECES, query, PictureFacts())


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("su", ["subset:"]),
        ("-ta", ["-tag:"]),
        ("tag:h", ["tag:hat", 'tag:"blue hat"']),  # what begins with it first
        ("-subset:", ["-subset:base", "-subset:more"]),
        ("is:un", ["is:uncaptioned"]),
        ('finding:"wr', ['finding:"wrong label"']),
        ("shows:p", ["shows:pose=sitting"]),
        ("split:", ["split:heldout", "split:training"]),
        ("tag:zzz", []),
    ],
)
def test_words_are_completed(word: str, expected: list[str]) -> None:
    assert complete(PIECES, FACTS, word) == expected


def test_tags_are_completed_with_their_numbers_and_from_aliases() -> None:
    aliases = {"grin": "smile", "cap": "baseball cap"}
    assert complete_tag(PIECES, aliases, "HA") == [TagOption("hat", 1), TagOption("blue hat", 1)]
    assert complete_tag(PIECES, aliases, "gr") == [TagOption("smile", 1, "grin")]
    assert complete_tag(PIECES, aliases, "cap") == [TagOption("baseball cap", 0, "cap")]
    assert complete_tag(PIECES, aliases, "blue_h") == [TagOption("blue hat", 1)]
    assert complete_tag(PIECES, aliases, " ") == []
