"""The content policy: what is refused, and the false friends that are not."""

import pytest

from onmodel.errors import InputError
from onmodel.policy import check_text

REFUSED = [
    "1girl, loli, nude",
    "1girl, aged_down, nipples",
    "NSFW, 1boy, shota",
    "child, small breasts",
    "kid, cleavage, beach",
    "A 12-year-old girl, naked on a bed.",
    "a girl, twelve years old, in lingerie",
    "1girl, 16yo, rating:explicit",
    "17 to 19 years old, topless",
    "aged 15, sexual pose",
    "six months old, nude",
    "schoolgirl, panties",
    "school girl in a sensual pose",
    "high-school student, no_panties",
    "an elementary school, sex",
    "ＬＯＬＩ, ｎｕｄｅ",
    "lo\u200bli, nude",
    "teenager\nnude",
    "ロリ, 裸",
    "12歳, エロ",
    "a naked woman beside a toddler",
    "young girl, erotic",
    "little_girl, nude",
    "high school girl, sexy",
]
ALLOWED = [
    "1girl, small breasts, nude",
    "1girl, petite, flat chest, lingerie",
    "1girl, school uniform, cleavage",
    "young woman, topless",
    "child, swimsuit, beach",
    "a child and a kid with a balloon, 8 years old",
    "loli, smile, safe",
    "1girl, nude, kidney, kidnapping, minority, adolescence of mankind",
    "baby blue hair, cleavage",
    "gothic lolita, breasts",
    "sweet lolita dress, cleavage",
    "minor damage, nude statue",
    "18 years old, nude",
    "1girl, nude, 120 years old",
    "age: 25, lingerie",
    "nude, 1.5 years older painting, 2017 years",
    "assassin, classroom, child",
    "Essex, analysis, orally told, children",
    "explicit outline, child",
    "cat ears, 1girl, backgwa, smile",
    "",
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"caption of a\.png: .*refused everywhere"):
        check_text(text, "caption of a.png")


@pytest.mark.parametrize("text", ALLOWED)
def test_allowed(text: str) -> None:
    check_text(text, "caption")


def test_a_long_text_takes_no_time() -> None:
    check_text("child " + "1 " * 200_000, "caption")
