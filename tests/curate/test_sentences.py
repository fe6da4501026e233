"""Sentences by template: every tag is said, nothing else is; Danbooru's words as well as the toon
world's."""

import re
from pathlib import Path

import numpy as np
import pytest

from onmodel.character import Character, load_character
from onmodel.curate.sentences import sentence_of
from onmodel.errors import InputError
from onmodel.toon.captions import ALL_TAGS

SHEET = Path(__file__).parents[2] / "onmodel/toon/characters/backgwa.toml"
# The commonest general tags of Danbooru that a safe picture has, as a WD v3 tagger lists them.
DANBOORU_WORDS = """
long_hair looking_at_viewer blush smile short_hair open_mouth bangs blue_eyes skirt blonde_hair simple_background
shirt hair_ornament thighhighs gloves long_sleeves hat white_background dress bow ribbon holding animal_ears
hair_between_eyes twintails jewelry sitting closed_mouth school_uniform standing jacket tail monochrome full_body
closed_eyes hair_ribbon white_shirt upper_body ponytail weapon braid flower comic ahoge :d hair_bow greyscale heart
sidelocks sweat pleated_skirt hairband earrings boots outdoors lying frills parted_lips detached_sleeves
one_eye_closed japanese_clothes wings necktie horns sky shoes glasses shorts barefoot teeth serafuku choker day tongue
pointy_ears black_gloves socks hairclip fang striped puffy_sleeves shiny collared_shirt belt looking_back pants sword
cloud indoors cat_ears tears hand_up hair_flower dark_skin hood tongue_out wide_sleeves on_back fingerless_gloves
sailor_collar kimono grey_background water necklace bag hair_bun from_behind star_(symbol) scarf cape nail_polish
black_footwear holding_weapon sweatdrop armor rabbit_ears mole hair_over_one_eye grin blurry looking_at_another :o
apron vest arm_up red_bow high_heels twin_braids arms_up collar from_side two-tone_hair sweater speech_bubble
english_text leotard open_jacket red_ribbon tree cup blue_sky sketch streaked_hair coat v-shaped_eyebrows head_tilt
gradient hand_on_hip gun looking_to_the_side pillow book plaid maid sash hands_up bare_arms petals dutch_angle
eyelashes mole_under_eye window kneeling sleeveless_shirt black_headwear bell hug bed hoodie tattoo profile makeup
leaning_forward mask witch_hat :3 night floating_hair depth_of_field blurry_background headband ^_^ shadow glowing
rose turtleneck holding_hands facial_hair chain bird pov headphones ocean heterochromia frown leaf beret umbrella
embarrassed fangs from_above wavy_hair halo scar chair wariza looking_away traditional_media beach expressionless
crossed_arms moon half-closed_eyes from_below sunlight cat standing_on_one_leg sleeping crying watercolor_(medium)
arms_behind_back own_hands_together leather_jacket evening_gown clothing_cutout
"""


@pytest.fixture(scope="module")
def character() -> Character:
    return load_character(SHEET)


def test_a_toons_tags(character: Character) -> None:
    tags = [
        "1girl",
        "backgwa",
        "smile",
        "upper body",
        "from side",
        "waving",
        "blue sky",
        "comic",
        "blue jacket",
    ]
    assert (
        sentence_of(tags, character)
        == "A girl named backgwa wearing a blue jacket. She has a smile and is waving. The picture"
        " shows her in an upper body picture, from the side, under a blue sky, in comic style."
    )


def test_danboorus_tags(character: Character) -> None:
    tags = (
        "masterpiece, 1girl, solo, backgwa, @somebody, long_hair, red eyes, white shirt, pleated"
        " skirt, "
    )
    tags += (
        "thighhighs, :d, one eye closed, sitting on chair, looking at viewer, arms up, from above,"
        " cowboy shot, "
    )
    tags += "classroom, sunset, "
    tags += "watercolor (medium), sword, rating:safe, score_7, signature, leather jacket"
    assert (
        sentence_of(tags.split(", "), character)
        == "A girl named backgwa with long hair and red eyes, wearing a white shirt, a pleated"
        " skirt, thighhighs and a leather jacket. She has an open mouth smile and one eye"
        " closed, is sitting on chair and looking at the viewer and has arms up. The picture"
        " shows her from above, in a cowboy shot, in a classroom, at sunset, in watercolor"
        " style. The picture also shows sword."
    )


def test_who_it_is(character: Character) -> None:
    boy = character.model_copy(update={"count_tag": "1boy"})
    assert (
        sentence_of(["1boy", "backgwa", "angry", "on back"], boy)
        == "A boy named backgwa. He is angry. The picture shows him on his back."
    )
    assert (
        sentence_of(["2girls", "backgwa", "standing"], character)
        == "Several characters, one of them named backgwa. They are standing."
    )
    assert (
        sentence_of(["1other", "backgwa", "chibi", "crying"], character)
        == "A chibi character named backgwa. They are crying."
    )
    assert sentence_of(["backgwa"], character) == "A girl named backgwa."


@pytest.mark.parametrize(
    "vocabulary", [DANBOORU_WORDS.split(), list(ALL_TAGS)], ids=["danbooru", "toon"]
)
def test_every_tag_is_said_and_nothing_else(vocabulary: list[str], character: Character) -> None:
    rng = np.random.default_rng(0)
    frame = {
        "a",
        "an",
        "and",
        "girl",
        "named",
        "with",
        "wearing",
        "she",
        "has",
        "is",
        "the",
        "picture",
        "shows",
        "her",
        "in",
        "on",
        "at",
        "under",
        "style",
        "also",
        "backgwa",
        "close-up",
        "from",
    }
    emoticons = {
        ":d": "open mouth smile",
        ":o": "open mouth",
        ":3": "cat-like mouth",
        "^_^": "closed eyes",
    }
    for _ in range(60):
        tags = [
            vocabulary[i]
            for i in rng.choice(len(vocabulary), int(rng.integers(1, 14)), replace=False)
        ]
        tags = [tag for tag in tags if tag != "1girl"]
        text = sentence_of(["1girl", "backgwa", *tags], character).lower()
        words = set(re.findall(r"[\w'-]+", text))
        wanted = {
            word
            for tag in tags
            for word in re.sub(r"\(.*\)", "", emoticons.get(tag, tag).replace("_", " ")).split()
        }
        assert wanted <= words, (tags, text)
        assert words <= wanted | frame, (tags, text)


def test_no_sentence_is_against_the_policy(character: Character) -> None:
    with pytest.raises(InputError, match="sentence"):
        sentence_of(["backgwa", "nude", "child"], character)
