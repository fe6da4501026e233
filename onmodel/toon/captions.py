"""Captions of toons: Danbooru-style tags in Anima's order, and a short sentence with the same
words.

Both say only what is visible in the drawing. Quality tags ("masterpiece") are the caller's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from onmodel.toon.attributes import ATTRIBUTES, OUTFIT_EXTRAS, VOCABULARY, Toon, visible

T = TypeVar("T")
COUNT_TAG = "1girl"
# A thing and the attribute that colours it; they share one tag ("navy beret").
COLORED: dict[str, str] = {
    "headwear": "headwear_color",
    "neck": "neck_color",
    "outfit": "outfit_color",
}
_COLOR_OF_A_THING = frozenset(COLORED.values())

# Which part of the sentence says an attribute.
_LOOKS = ("hair_color", "hair_style", "eye_color", "ears")
_WORN = ("headwear", "glasses", "neck", "outfit")
_SCENE = ("pose", "framing", "view", "background", "style")
_OPENINGS = ("a {}girl", "a picture of a {}girl", "this is a {}girl", "here we see a {}girl")
_CONNECT = (("with", "wearing"), ("who has", "and wears"), ("with", "dressed in"))
_FEELING = ("she {}", "in the picture she {}", "now she {}")
_NO_FEELING = "she is shown"
# How a sentence says a tag where the bare tag would not read; "{}" is the tag.
_PHRASES: dict[str, str] = {
    "bob cut": "a {}",
    "braid": "a {}",
    "ponytail": "a {}",
    "expressionless": "is {}",
    "smile": "has a {}",
    "sad": "is {}",
    "angry": "is {}",
    "surprised": "is {}",
    "one eye closed": "has {}",
    "arms up": "with {}",
    "hand on hip": "with {}",
    "close-up": "in a {}",
    "upper body": "in an {} picture",
    "full body": "in a {} picture",
    "three-quarter view": "in {}",
    "white background": "on a {}",
    "blue sky": "under a {}",
    "night sky": "under a {}",
    "forest": "in a {}",
    "beach": "on a {}",
    "sunset": "at {}",
    "flat color": "in {} style",
    "lineart": "in {} style",
    "pixel art": "in {} style",
    "pastel colors": "in {}",
    "monochrome": "in {} style",
    "comic": "in {} style",
}
_PLURAL = ("glasses", "sleeves")


def tags(
    toon: Toon,
    *,
    trigger: str | None = None,
    absorbed: frozenset[str] = frozenset(),
    rng: np.random.Generator | None = None,
    keep: float = 1.0,
) -> list[str]:
    """Count tag, trigger, then general tags.

    `absorbed` names attributes left unsaid (a character's fixed traits). With `rng` the general
    tags are shuffled and each is kept with probability `keep`; the count tag and the trigger always
    stay.
    """
    general = _general(toon, absorbed)
    if rng is not None:
        general = [general[i] for i in rng.permutation(len(general)) if rng.random() < keep]
    return [COUNT_TAG, *([trigger] if trigger else []), *general]


def sentence(
    toon: Toon,
    *,
    trigger: str | None = None,
    absorbed: frozenset[str] = frozenset(),
    rng: np.random.Generator | None = None,
) -> str:
    """Two short sentences: the girl, then the picture; `rng` picks the wording and the order inside
    each part."""
    said = _said(toon, absorbed)

    def part(names: Iterable[str]) -> str:
        phrases = [_phrase(tag, name) for name in names for tag in said.get(name, [])]
        if rng is not None:
            phrases = [phrases[i] for i in rng.permutation(len(phrases))]
        return _join(phrases)

    def choose(options: tuple[T, ...]) -> T:
        return options[0 if rng is None else int(rng.integers(len(options)))]

    has, wears = choose(_CONNECT)
    looks, worn, scene = part(_LOOKS), part(_WORN), part(_SCENE)
    first = choose(_OPENINGS).format("".join(f"{tag} " for tag in said.get("body", [])))
    first += (f" named {trigger}" if trigger else "") + (f" {has} {looks}" if looks else "")
    first += f" {wears} {worn}" if worn else ""
    feeling = part(("expression",))
    second = choose(_FEELING).format(feeling) if feeling else _NO_FEELING
    if not (feeling or scene):
        return f"{_capital(first)}."
    return (
        f"{_capital(first)}."
        f" {_capital(second)}{',' if feeling and scene else ''}{' ' if scene else ''}{scene}."
    )


def tags_of(toon: Toon) -> set[str]:
    """Every tag of ALL_TAGS that is true and visible; coloured things count both as "navy beret"
    and as "beret"."""
    seen = visible(toon)
    plain = {tag for thing in COLORED if thing in seen for tag in _thing(toon, thing, False)}
    return {COUNT_TAG, *_general(toon, frozenset())} | plain


def words() -> list[str]:
    """All distinct words of captions in lower case, without punctuation, sorted; for building
    tokenizers."""
    wording = [
        *_OPENINGS,
        *_FEELING,
        _NO_FEELING,
        *_PHRASES.values(),
        *(word for pair in _CONNECT for word in pair),
    ]
    text = " ".join([*ALL_TAGS, *wording, "named", "and"]).lower()
    return sorted(set(re.findall(r"[a-z0-9-]+", text)))


def _phrase(tag: str, attribute: str) -> str:
    if attribute in _WORN and not tag.endswith(_PLURAL):
        return f"{'an' if tag[0] in 'aeiou' else 'a'} {tag}"
    return _PHRASES.get(tag, "{}").format(tag)


def _general(toon: Toon, absorbed: frozenset[str]) -> list[str]:
    return [tag for phrases in _said(toon, absorbed).values() for tag in phrases]


def _said(toon: Toon, absorbed: frozenset[str]) -> dict[str, list[str]]:
    """Attribute → its tags, for what is visible and not absorbed."""
    open_ = visible(toon) - absorbed
    said = {
        name: (
            _thing(toon, name, COLORED[name] in open_)
            if name in COLORED
            else [VOCABULARY[name][getattr(toon, name)]]
        )
        for name in ATTRIBUTES
        if name in open_ and name not in _COLOR_OF_A_THING
    }
    return {
        name: kept
        for name, phrases in said.items()
        if (kept := [phrase for phrase in phrases if phrase])
    }


def _thing(toon: Toon, thing: str, with_color: bool) -> list[str]:
    """Tags of something worn: coloured or plain, then what it implies."""
    value = getattr(toon, thing)
    if value == "none":
        return []
    color = VOCABULARY[COLORED[thing]][getattr(toon, COLORED[thing])] + " " if with_color else ""
    return [
        color + VOCABULARY[thing][value],
        *(OUTFIT_EXTRAS.get(value, ()) if thing == "outfit" else ()),
    ]


def _join(phrases: list[str]) -> str:
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _all_tags() -> tuple[str, ...]:
    found = [COUNT_TAG]
    for name in ATTRIBUTES:
        if name in _COLOR_OF_A_THING:
            continue
        things = [tag for tag in VOCABULARY[name].values() if tag]
        found += things
        if name in COLORED:
            found += [
                f"{color} {thing}"
                for thing in things
                for color in VOCABULARY[COLORED[name]].values()
            ]
    return tuple(
        dict.fromkeys([*found, *(tag for extra in OUTFIT_EXTRAS.values() for tag in extra)])
    )


# Every tag that tags() can produce, in a fixed order: the tagger's vocabulary.
ALL_TAGS: tuple[str, ...] = _all_tags()
