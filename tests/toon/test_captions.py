"""Captions: order, what is said and what is not."""

import numpy as np
import pytest

from onmodel.toon.attributes import BACKGWA, VOCABULARY, Toon, sample_toon
from onmodel.toon.captions import ALL_TAGS, sentence, tags, tags_of, words

FULL = BACKGWA.toon(
    framing="full body", expression="smile", pose="waving", background="beach", style="comic"
)


def test_order_is_count_trigger_general() -> None:
    said = tags(FULL, trigger="backgwa")
    assert said[:2] == ["1girl", "backgwa"]
    assert said[2:] == [
        "bob cut",
        "light blue hair",
        "yellow eyes",
        "cat ears",
        "navy beret",
        "red ribbon",
        "blue jacket",
        "oversized sleeves",
        "white shirt",
        "smile",
        "full body",
        "looking at viewer",
        "waving",
        "beach",
        "comic",
    ]


def test_absorbed_traits_are_left_to_the_trigger() -> None:
    said = tags(FULL, trigger="backgwa", absorbed=BACKGWA.fixed)
    assert said == [
        "1girl",
        "backgwa",
        "smile",
        "full body",
        "looking at viewer",
        "waving",
        "beach",
        "comic",
    ]
    assert "comic" not in tags(FULL, absorbed=frozenset({"style"}))


def test_absorbed_colour_leaves_the_plain_thing() -> None:
    said = tags(FULL, absorbed=frozenset({"outfit_color", "headwear_color"}))
    assert "jacket" in said and "beret" in said and "blue jacket" not in said


def test_colourless_styles_say_no_colour() -> None:
    said = set(tags(FULL.replace(style="noir")))
    assert {"beret", "ribbon", "jacket", "monochrome"} <= said
    assert not {"light blue hair", "yellow eyes", "navy beret"} & said


def test_close_up_says_nothing_below_the_chin() -> None:
    said = set(tags(FULL.replace(framing="close-up")))
    assert "close-up" in said and not {"blue jacket", "white shirt", "red ribbon", "waving"} & said


def test_shuffle_and_drop_keep_the_head() -> None:
    said = tags(FULL, trigger="backgwa", rng=np.random.default_rng(0))
    assert said[:2] == ["1girl", "backgwa"] and set(said) == set(tags(FULL, trigger="backgwa"))
    assert said != tags(FULL, trigger="backgwa")
    assert tags(FULL, trigger="backgwa", rng=np.random.default_rng(0), keep=0.0) == [
        "1girl",
        "backgwa",
    ]
    lengths = [
        len(tags(FULL, rng=np.random.default_rng(seed), keep=0.5)) - 1 for seed in range(200)
    ]
    assert 6.5 < np.mean(lengths) < 8.5


def test_vocabulary_is_closed_and_reached() -> None:
    rng = np.random.default_rng(2)
    assert len(set(ALL_TAGS)) == len(ALL_TAGS)
    reached: set[str] = set()
    for _ in range(3000):
        toon = sample_toon(rng)
        assert set(tags(toon)) <= tags_of(toon) <= set(ALL_TAGS)
        reached |= tags_of(toon)
    assert reached == set(ALL_TAGS)


def test_tags_of_counts_plain_and_coloured() -> None:
    assert {"navy beret", "beret", "blue jacket", "jacket", "oversized sleeves"} <= tags_of(FULL)


@pytest.mark.parametrize("seed", range(20))
def test_sentence_says_the_tags(seed: int) -> None:
    toon = sample_toon(np.random.default_rng(seed))
    text = sentence(toon, rng=np.random.default_rng(seed))
    assert text.count(".") == 2 and text[0].isupper()
    for tag in tags(toon)[1:]:
        assert tag in text
    assert set(text.lower().replace(",", "").replace(".", "").split()) <= set(words())


def test_sentence_with_trigger_and_everything_absorbed() -> None:
    assert (
        sentence(FULL, trigger="backgwa", absorbed=frozenset(VOCABULARY)) == "A girl named backgwa."
    )
    assert "named backgwa" in sentence(FULL, trigger="backgwa", absorbed=BACKGWA.fixed)


def test_plain_wording() -> None:
    text = sentence(Toon())
    assert text == (
        "A girl with brown hair, short hair and blue eyes wearing a blue t-shirt. "
        "She is expressionless, standing, in an upper body picture, looking at viewer, "
        "on a white background and in flat color style."
    )


@pytest.mark.parametrize("accent", VOCABULARY["accent"])
def test_no_caption_says_the_accent(accent: str) -> None:
    plain = FULL.replace(accent="none")
    assert tags(plain.replace(accent=accent)) == tags(plain)
    assert sentence(plain.replace(accent=accent)) == sentence(plain)
