"""Captions: read from files, and varied by counter alone."""

from collections import Counter

import pytest

from onmodel.dataset.captions import (
    MAX_BYTES,
    VARIANTS,
    CaptionRules,
    caption_of,
    captions_of,
    flips_of,
    parse_caption,
    plain_caption,
    split_kept,
    split_tags,
)
from tests.support.items import item

TAGS = "1girl, backgwa, smile, upper body, forest, standing, flat color"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"1girl, smile\nA girl smiles.\n", ("1girl, smile", "A girl smiles.")),
        (
            b"\xef\xbb\xbf1girl ,  smile,,\r\n\r\nA girl.\r\nShe smiles.\r\n",
            ("1girl, smile", "A girl. She smiles."),
        ),
        ("1girl, ねこみみ".encode(), ("1girl, ねこみみ", "")),
        (b"one line", ("one line", "")),
        ("1girl, smile".encode("utf-16"), ("1girl, smile", "")),
        (b"\n\n1girl\nA girl smiles.", ("1girl", "A girl smiles.")),
        (b"1girl\nred hair\nsmile\n", ("1girl, red hair, smile", "")),
        (b"1girl,\r\nred hair, hat,\r\nsmile\r\n", ("1girl, red hair, hat, smile", "")),
        (b"1girl, smile,\nA girl smiles.\n", ("1girl, smile", "A girl smiles.")),
        (b"1girl, smile,\nhat\nA girl in a hat.", ("1girl, smile, hat", "A girl in a hat.")),
    ],
)
def test_read(data: bytes, expected: tuple[str, str]) -> None:
    assert parse_caption(data) == expected


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("fille à lunettes".encode("latin-1"), "not UTF-8"),
        (b"a\x00b", "control characters"),
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b",,\nA sentence.", "empty"),
        ("1girl".encode("utf-16-le"), "control characters"),
        (b"x" * (MAX_BYTES + 1), "10001 bytes"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_caption(data)


def test_shuffling_keeps_the_first_tags_and_loses_none() -> None:
    rules = CaptionRules(shuffle=True, keep_tokens=2)
    said = [caption_of(item(tags=TAGS), exposure, 1, rules, seed=1) for exposure in range(40)]
    assert all(split_tags(caption)[:2] == ["1girl", "backgwa"] for caption in said)
    assert all(Counter(split_tags(caption)) == Counter(split_tags(TAGS)) for caption in said)
    assert 2 < len(set(said)) <= VARIANTS
    assert said == [
        caption_of(item(tags=TAGS), exposure, 1, rules, seed=1) for exposure in range(40)
    ]
    assert said != [
        caption_of(item(tags=TAGS), exposure, 1, rules, seed=2) for exposure in range(40)
    ]


def test_dropout_has_its_rate() -> None:
    items = [item(tags=TAGS, sha256=f"{i:064x}") for i in range(100)]
    thinned = [
        caption_of(one, e, 1, CaptionRules(tag_dropout=0.3), 1)
        for one in items
        for e in range(VARIANTS)
    ]
    share = sum(len(split_tags(caption)) - 2 for caption in thinned) / (5 * len(thinned))
    assert share == pytest.approx(0.7, abs=0.03)
    emptied = [
        caption_of(one, e, 1, CaptionRules(caption_dropout=0.2), 1)
        for one in items
        for e in range(20)
    ]
    assert emptied.count("") / len(emptied) == pytest.approx(0.2, abs=0.03)


def test_both_forms_alternate_and_are_mixed_over_pictures() -> None:
    rules = CaptionRules(form="both", shuffle=False)
    items = [item(tags=TAGS, sentence="A girl.", sha256=f"{i:064x}") for i in range(50)]
    for one in items:
        said = [caption_of(one, exposure, 1, rules, 1) for exposure in range(6)]
        assert said.count(TAGS) == said.count("A girl.") == 3
    first = [caption_of(one, 0, 1, rules, 1) for one in items]
    assert 10 < first.count("A girl.") < 40
    assert {caption_of(item(tags=TAGS, sentence=""), e, 1, rules, 1) for e in range(4)} == {TAGS}


def test_plain() -> None:
    one = item(tags=TAGS, sentence="A girl.")
    assert plain_caption(one, CaptionRules(tag_dropout=0.5)) == TAGS
    assert plain_caption(one, CaptionRules(form="both")) == TAGS
    assert plain_caption(one, CaptionRules(form="sentence")) == "A girl."


def test_whole_epochs_without_captions() -> None:
    rules = CaptionRules(caption_dropout_every=3)
    said = captions_of(item(tags=TAGS), 2, 7, rules, 1)
    assert [caption == "" for caption in said] == [
        epoch % 3 == 0 for epoch in range(1, 8) for _ in range(2)
    ]


def test_separators_say_what_stays() -> None:
    assert split_kept("a, b ||| c, d ||| e, f", "|||") == ("a, b, c, d, e, f", 2, 2)
    assert split_kept("a ||| c, d", "|||") == ("a, c, d", 1, 0)
    assert split_kept("||| c, d ||| e ||| f", "|||") == ("c, d, e, f", 0, 2)
    assert split_kept("a, b", "|||") == ("a, b", None, 0)
    one = item(tags="a, b, c, d, e, f", kept_first=2, kept_last=1)
    for exposure in range(VARIANTS):
        tags = split_tags(
            caption_of(one, exposure, 1, CaptionRules(keep_tokens=0, tag_dropout=0.5), 1)
        )
        assert tags[:2] == ["a", "b"] and tags[-1] == "f" and set(tags[2:-1]) <= {"c", "d", "e"}
    short = item(tags="a, b", kept_first=2, kept_last=1)
    assert caption_of(short, 0, 1, CaptionRules(), 1) == "a, b"


def test_flips_are_one_in_two_and_drawn_by_counter() -> None:
    flips = flips_of(item(), 400, seed=1)
    assert 160 < sum(flips) < 240
    assert flips[:100] == flips_of(item(), 100, seed=1) != flips_of(item(), 100, seed=2)
