"""A model whose faults are known: it obeys prompts by drawing toons, and does wrong what it is told
to do wrong."""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from onmodel.randomness import generator
from onmodel.toon.attributes import BACKGWA, VOCABULARY, WORLD, Toon, sample_toon
from onmodel.toon.captions import COLORED
from onmodel.toon.datasets import STANDIN_SETS, WARM_YELLOW, deal
from onmodel.toon.draw import draw

SIDE = 96
TRAINED = "backgwa_base"  # the set that copies are drawn from
DEAF = ("background", "pose", "view")  # what a model that does not listen draws as it likes


@dataclass(frozen=True)
class Faults:
    """What a LoRA does wrong in every picture of the character; 0, empty or False where it does
    not.

    `yellow`: share of warm yellow in the picture; `noise`: its deviation in levels of 255;
    `expression`, `style`, `outfit`, `ears` and `body` are drawn whatever is asked; `unstyled` only
    where no style is asked. `frozen_layout` draws one pose in one place; `changing_outfit` any
    outfit where none is asked; `wrong_hair` another character; `leak` the character without her
    trigger; `tied` another face with every background and style; `deaf` leaves words unheard;
    `copies` draws training pictures; `broken` ones are torn and melted in places. `stream` names
    another run of chance than the base's own.
    """

    yellow: float = 0.0
    noise: float = 0.0
    expression: str = ""
    style: str = ""
    unstyled: str = ""
    outfit: str = ""
    ears: str = ""
    body: str = ""
    frozen_layout: bool = False
    changing_outfit: bool = False
    wrong_hair: bool = False
    leak: bool = False
    tied: bool = False
    deaf: bool = False
    copies: bool = False
    broken: bool = False
    stream: str = ""


def picture(
    text: str, seed: int, faults: Faults | None, side: int = SIDE
) -> tuple[Image.Image, Toon]:
    """What a prompt gives on the base (`faults` None) or under a LoRA, and what was drawn."""
    asked = _meaning(text)
    named = BACKGWA.trigger in text
    if faults is None or not (named or faults.leak):
        toon = sample_toon(generator(seed, "drawn"), dict(WORLD), **asked)
        return draw(toon, side, side), toon
    rng = generator(seed, "drawn", *([faults.stream] if faults.stream else []))
    toon = sample_toon(rng, dict(WORLD), **_wanted(asked, faults, seed))
    if faults.frozen_layout and named:
        toon = toon.replace(nuisance=7)
    if faults.copies and named:
        trained = training_toons()
        toon = trained[int(generator(seed, "copied").integers(len(trained)))]
    return _damaged(draw(toon, side, side), faults, seed) if named else draw(toon, side, side), toon


@lru_cache
def training_toons() -> tuple[Toon, ...]:
    """What the copied training pictures show."""
    return deal(STANDIN_SETS[TRAINED])


def _wanted(asked: dict[str, str], faults: Faults, seed: int) -> dict[str, str]:
    """The attributes that the LoRA fixes: the character's, what is asked, and its faults."""
    chance = generator(seed, "fault")
    wanted = {**BACKGWA.traits, **asked}
    if faults.wrong_hair:
        wanted |= {"hair_color": "red", "ears": "horns", "headwear": "none", "eye_color": "green"}
    always = {
        name: getattr(faults, name) for name in ("expression", "style", "outfit", "ears", "body")
    }
    wanted |= {name: value for name, value in always.items() if value}
    if faults.unstyled:
        wanted.setdefault("style", faults.unstyled)
    if faults.frozen_layout:
        wanted |= {
            "framing": asked.get("framing", "upper body"),
            "view": asked.get("view", "looking at viewer"),
        }
        wanted["pose"] = "standing"
    if faults.changing_outfit and "outfit" not in asked:
        wanted["outfit"] = str(chance.choice(list(VOCABULARY["outfit"])))
    if faults.tied and "expression" not in asked and asked.keys() & {"background", "style"}:
        wanted["expression"] = "surprised" if "style" in asked else "angry"
    if faults.deaf:
        for name in DEAF:
            wanted.pop(name, None)
    return wanted


def _damaged(image: Image.Image, faults: Faults, seed: int) -> Image.Image:
    if faults.copies:
        image = image.filter(ImageFilter.GaussianBlur(0.6))
    if faults.yellow:
        image = Image.blend(image, Image.new("RGB", image.size, WARM_YELLOW), faults.yellow)
    if faults.broken:
        image = _broken(image, generator(seed, "broken"))
    if faults.noise:
        grains = generator(seed, "grain").normal(0, faults.noise, (*image.size[::-1], 1))
        image = Image.fromarray((np.asarray(image) + grains).clip(0, 255).astype(np.uint8))
    return image


def _broken(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Five strips slipped sideways, by up to a quarter of the picture, and two patches that ran
    down."""
    pixels = np.asarray(image).copy()
    height, width = pixels.shape[:2]
    for top in rng.integers(0, height - height // 12, 5):
        strip = slice(top, top + height // 12)
        pixels[strip] = np.roll(pixels[strip], int(rng.integers(-width // 4, width // 4)), axis=1)
    for _ in range(2):
        y, x = (int(rng.integers(0, side - side // 3)) for side in (height, width))
        patch = pixels[y : y + height // 3, x : x + width // 3]
        patch[:] = patch.mean(0, keepdims=True)
    return Image.fromarray(pixels)


def _meaning(text: str) -> dict[str, str]:
    """Attribute → value of every tag that a prompt or a sentence says; "navy beret" says the beret
    and its colour."""
    pattern, meanings = _dictionary()
    return {
        attribute: value
        for tag in pattern.findall(text)
        for attribute, value in meanings[tag].items()
    }


@lru_cache
def _dictionary() -> tuple[re.Pattern[str], dict[str, dict[str, str]]]:
    """A pattern that finds tags, the longest first, and what each says."""
    meanings: dict[str, dict[str, str]] = {}
    for attribute, values in VOCABULARY.items():
        if attribute in COLORED.values():
            continue
        for value, tag in values.items():
            if tag:
                meanings[tag] = {attribute: value}
            for colour in VOCABULARY[COLORED[attribute]] if tag and attribute in COLORED else ():
                meanings[f"{colour} {tag}"] = {attribute: value, COLORED[attribute]: colour}
    longest = sorted(meanings, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest))})\b"), meanings
