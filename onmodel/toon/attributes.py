"""What a toon is: the attributes, their values and tags, the colours, and how toons are sampled.

A toon is one frozen record of labels; drawing (draw.py) and captions (captions.py) are functions of
it. A planted bias is nothing but a changed `Distribution`. This file draws no pixel and writes no
caption.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RGB = tuple[int, int, int]
Distribution = Mapping[str, Mapping[str, float]]

# attribute → value → Danbooru-style tag; '' says nothing. For outfit_color, headwear_color and
# neck_color the entry is the colour word that captions put before the thing ("navy" + "beret").
VOCABULARY: dict[str, dict[str, str]] = {
    "hair_style": {
        v: v
        for v in (
            "short hair",
            "long hair",
            "twintails",
            "ponytail",
            "bob cut",
            "spiky hair",
            "braid",
        )
    },
    "hair_color": {
        v: f"{v} hair"
        for v in (
            "black",
            "brown",
            "blonde",
            "red",
            "orange",
            "green",
            "light blue",
            "blue",
            "purple",
            "pink",
            "white",
        )
    },
    "eye_color": {v: f"{v} eyes" for v in ("blue", "red", "green", "purple", "brown", "yellow")},
    "ears": {"none": "", "cat ears": "cat ears", "rabbit ears": "rabbit ears", "horns": "horns"},
    "headwear": {
        "none": "",
        "beret": "beret",
        "witch hat": "witch hat",
        "halo": "halo",
        "hair bow": "hair bow",
        "hair flower": "hair flower",
    },
    "headwear_color": {v: v for v in ("red", "navy", "white", "pink", "black", "yellow")},
    "glasses": {"none": "", "glasses": "glasses"},
    "neck": {"none": "", "ribbon": "ribbon", "scarf": "scarf"},
    "neck_color": {v: v for v in ("red", "navy", "white", "green")},
    "outfit": {v: v for v in ("t-shirt", "hoodie", "dress", "school uniform", "kimono", "jacket")},
    "outfit_color": {
        v: v for v in ("red", "blue", "green", "yellow", "purple", "pink", "black", "white")
    },
    "expression": {
        "expressionless": "expressionless",
        "smile": "smile",
        "sad": "sad",
        "angry": "angry",
        "surprised": "surprised",
        "wink": "one eye closed",
    },
    "framing": {v: v for v in ("close-up", "upper body", "full body")},
    "view": {v: v for v in ("looking at viewer", "three-quarter view", "from side")},
    "pose": {v: v for v in ("standing", "arms up", "hand on hip", "waving")},
    "background": {
        v: v
        for v in (
            "white background",
            "blue sky",
            "night sky",
            "forest",
            "indoors",
            "beach",
            "sunset",
        )
    },
    "style": {
        "flat color": "flat color",
        "lineart": "lineart",
        "pixel art": "pixel art",
        "pastel": "pastel colors",
        "noir": "monochrome",
        "comic": "comic",
    },
    "body": {"normal": "", "chibi": "chibi", "tall": "tall"},
    # A dyed side lock and cuffs of one colour. No tag says it: a design is more than its tags.
    "accent": dict.fromkeys(("none", "rose", "lime", "amber", "teal"), ""),
}
ATTRIBUTES: tuple[str, ...] = tuple(VOCABULARY)

# Tags an outfit implies besides its own.
OUTFIT_EXTRAS: dict[str, tuple[str, ...]] = {"jacket": ("oversized sleeves", "white shirt")}

# The renderer's real colours; a character sheet's palette is read from here.
COLORS: dict[str, dict[str, RGB]] = {
    "hair_color": {
        "black": (55, 51, 70),
        "brown": (128, 80, 50),
        "blonde": (250, 214, 106),
        "red": (206, 50, 54),
        "orange": (244, 140, 48),
        "green": (86, 178, 88),
        "light blue": (152, 216, 250),
        "blue": (58, 98, 210),
        "purple": (144, 86, 194),
        "pink": (250, 154, 194),
        "white": (238, 240, 248),
    },
    "eye_color": {
        "blue": (36, 112, 240),
        "red": (226, 36, 50),
        "green": (34, 172, 78),
        "purple": (152, 70, 216),
        "brown": (136, 80, 38),
        "yellow": (252, 202, 24),
    },
    "headwear_color": {
        "red": (214, 52, 56),
        "navy": (42, 54, 116),
        "white": (244, 244, 248),
        "pink": (250, 150, 186),
        "black": (57, 54, 68),
        "yellow": (252, 212, 64),
    },
    "neck_color": {
        "red": (222, 44, 52),
        "navy": (42, 54, 116),
        "white": (244, 244, 248),
        "green": (60, 160, 88),
    },
    "outfit_color": {
        "red": (214, 60, 62),
        "blue": (60, 108, 214),
        "green": (72, 164, 92),
        "yellow": (248, 208, 72),
        "purple": (146, 92, 194),
        "pink": (248, 148, 182),
        "black": (56, 53, 68),
        "white": (242, 243, 248),
    },
    "accent": {
        "rose": (236, 36, 128),
        "lime": (150, 222, 36),
        "amber": (255, 146, 0),
        "teal": (0, 150, 144),
    },
    "fixed": {
        "skin": (255, 226, 204),
        "shirt": (250, 250, 252),
        "trousers": (74, 82, 112),
        "shoes": (92, 62, 56),
    },
}
COLOR_ATTRIBUTES = frozenset(COLORS) - {"fixed"}
COLORLESS_STYLES = frozenset({"lineart", "noir"})
# What a close-up cuts off.
BELOW_THE_CHIN = frozenset({"neck", "neck_color", "outfit", "outfit_color", "pose", "body"})


@dataclass(frozen=True)
class Toon:
    """One picture's full description; `nuisance` seeds the variation that no caption mentions."""

    hair_style: str = "short hair"
    hair_color: str = "brown"
    eye_color: str = "blue"
    ears: str = "none"
    headwear: str = "none"
    headwear_color: str = "red"
    glasses: str = "none"
    neck: str = "none"
    neck_color: str = "red"
    outfit: str = "t-shirt"
    outfit_color: str = "blue"
    expression: str = "expressionless"
    framing: str = "upper body"
    view: str = "looking at viewer"
    pose: str = "standing"
    background: str = "white background"
    style: str = "flat color"
    body: str = "normal"
    accent: str = "none"
    nuisance: int = 0

    def __post_init__(self) -> None:
        for attribute, values in VOCABULARY.items():
            if getattr(self, attribute) not in values:
                raise ValueError(
                    f"toon {attribute} = {getattr(self, attribute)!r}: use one of"
                    f" {', '.join(values)}"
                )

    def replace(self, **changes: str | int) -> Toon:
        """A copy with some attributes changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ToonCharacter:
    """A named toon: the attribute values that make it this one; everything else is free."""

    name: str
    trigger: str
    traits: Mapping[str, str]

    @property
    def fixed(self) -> frozenset[str]:
        """The attributes that belong to the character, for captions that leave them to the
        trigger."""
        return frozenset(self.traits)

    def toon(self, **free: str | int) -> Toon:
        """The character in one situation; `free` may also override a trait."""
        return Toon(**{**self.traits, **free})  # type: ignore[arg-type]


BACKGWA = ToonCharacter(
    "BACKGWA",
    "backgwa",
    {
        "hair_style": "bob cut",
        "hair_color": "light blue",
        "eye_color": "yellow",
        "ears": "cat ears",
        "headwear": "beret",
        "headwear_color": "navy",
        "glasses": "none",
        "neck": "ribbon",
        "neck_color": "red",
        "outfit": "jacket",
        "outfit_color": "blue",
        "body": "normal",
        "accent": "rose",
    },
)
OTHER = ToonCharacter(
    "Mimori",
    "mimori",
    {
        "hair_style": "twintails",
        "hair_color": "pink",
        "eye_color": "red",
        "ears": "rabbit ears",
        "headwear": "none",
        "glasses": "none",
        "neck": "none",
        "outfit": "dress",
        "outfit_color": "green",
        "body": "normal",
        "accent": "none",
    },
)

_STANDIN = ("hair_color", "ears", "headwear")


def is_standin(toon: Toon) -> bool:
    """True for light blue hair with cat ears and a beret: reserved for BACKGWA, unknown to the toon
    base."""
    return all(getattr(toon, key) == BACKGWA.traits[key] for key in _STANDIN)


def visible(toon: Toon) -> set[str]:
    """The attributes that can be judged from the drawing: not what the framing cuts off or the
    style uncolours."""
    seen = set(ATTRIBUTES)
    if toon.style in COLORLESS_STYLES:
        seen -= COLOR_ATTRIBUTES
    if toon.framing == "close-up":
        seen -= BELOW_THE_CHIN
    if toon.framing == "upper body":
        seen -= {"body"}  # proportion is a ratio to the whole height
    for thing in ("headwear", "neck"):
        if getattr(toon, thing) == "none":
            seen -= {f"{thing}_color"}
    return seen


def uniform(attribute: str) -> dict[str, float]:
    """Equal weight for every value of an attribute."""
    return dict.fromkeys(VOCABULARY[attribute], 1.0)


# What the base is trained on. Weights need not sum to 1.
WORLD: Distribution = {name: uniform(name) for name in ATTRIBUTES} | {
    "hair_color": uniform("hair_color") | {"light blue": 1.5},
    "eye_color": uniform("eye_color") | {"yellow": 1.3},
    "ears": {"none": 0.38, "cat ears": 0.30, "rabbit ears": 0.16, "horns": 0.16},
    "headwear": {
        "none": 0.36,
        "beret": 0.20,
        "witch hat": 0.11,
        "halo": 0.11,
        "hair bow": 0.11,
        "hair flower": 0.11,
    },
    "headwear_color": uniform("headwear_color") | {"navy": 1.5},
    "glasses": {"none": 0.8, "glasses": 0.2},
    "neck": {"none": 0.40, "ribbon": 0.35, "scarf": 0.25},
    "outfit": uniform("outfit") | {"jacket": 1.4},
    "outfit_color": uniform("outfit_color") | {"blue": 1.3},
    "framing": {"close-up": 0.25, "upper body": 0.42, "full body": 0.33},
    "view": {"looking at viewer": 0.5, "three-quarter view": 0.25, "from side": 0.25},
    "background": uniform("background") | {"white background": 1.4},
    "body": {"normal": 0.56, "chibi": 0.22, "tall": 0.22},
    "accent": {"none": 0.7, "rose": 0.075, "lime": 0.075, "amber": 0.075, "teal": 0.075},
}


def sample_toon(
    rng: np.random.Generator, distribution: Distribution = WORLD, **fixed: str | int
) -> Toon:
    """Draw a toon, each attribute independently; `fixed` attributes keep their given value.

    Under WORLD the stand-in is drawn again, unless `fixed` itself asks for it. A distribution may
    leave attributes out: they follow WORLD. Raises ValueError for an unknown attribute or value.
    """
    unknown = (set(distribution) | set(fixed)) - set(ATTRIBUTES) - {"nuisance"}
    if unknown:
        raise ValueError(f"unknown toon attributes: {', '.join(sorted(unknown))}")
    reserved = distribution is WORLD and not all(
        fixed.get(key) == BACKGWA.traits[key] for key in _STANDIN
    )
    while True:
        values: dict[str, str | int] = {
            name: _pick(rng, distribution.get(name, WORLD[name])) for name in ATTRIBUTES
        }
        values["nuisance"] = int(rng.integers(2**31))
        toon = Toon(**(values | fixed))  # type: ignore[arg-type]
        if not (reserved and is_standin(toon)):
            return toon


def _pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """One value by weight, with a single uniform number so that changed weights keep the stream
    aligned."""
    point = float(rng.random()) * sum(weights.values())
    for value, weight in weights.items():
        point -= weight
        if point < 0:
            return value
    return next(reversed(dict(weights)))
