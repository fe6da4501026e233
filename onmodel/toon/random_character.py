"""A character drawn by seed, and its model sheet: for benchmarks on characters that the metrics
were not developed on."""

import json
from collections.abc import Mapping, Sequence

from onmodel.randomness import generator
from onmodel.toon.attributes import BACKGWA, COLORS, RGB, VOCABULARY, ToonCharacter
from onmodel.toon.captions import COUNT_TAG, sentence, tags
from onmodel.toon.datasets import FREE

SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
# Four: the names that the toon base knows have at most three.
TRIGGER_SYLLABLES = 4
# Traits that a random character has other than the stand-in.
DIFFERENT = (
    "hair_style",
    "hair_color",
    "eye_color",
    "ears",
    "headwear",
    "headwear_color",
    "neck_color",
    "outfit",
    "outfit_color",
    "accent",
)
LOOK_ALIKE = {"bob cut", "short hair"}  # neither is forbidden where the other is required


def random_character(seed: int) -> ToonCharacter:
    """The character of a seed: hair, eyes, extras and outfit differ from the stand-in's. It always
    has headwear and something around the neck."""
    rng = generator(seed, "toon character")
    traits = dict(BACKGWA.traits)
    for name in DIFFERENT:
        values = [value for value in VOCABULARY[name] if value != BACKGWA.traits[name]]
        if name == "headwear":
            values.remove("none")
        traits[name] = str(rng.choice(values))
    traits["glasses"] = str(rng.choice(list(VOCABULARY["glasses"])))
    traits["neck"] = str(rng.choice([value for value in VOCABULARY["neck"] if value != "none"]))
    trigger = "".join(rng.choice(SYLLABLES, size=TRIGGER_SYLLABLES))
    return ToonCharacter(trigger.capitalize(), trigger, traits)


def model_sheet(character: ToonCharacter) -> str:
    """The character's model sheet as TOML: what is required and forbidden, and the renderer's
    colours."""
    design = character.toon(framing="upper body")
    free = frozenset(FREE)
    worn = tags(design, absorbed=frozenset(set(VOCABULARY) - {"outfit", "outfit_color"}))[1:]
    described = tags(design, absorbed=free)[1:]
    fields = {
        "name": character.name,
        "trigger": character.trigger,
        "count_tag": COUNT_TAG,
        "tags": described,
        "description": sentence(design, absorbed=free),
        "required": [tag for tag in described if tag not in worn],
        "forbidden": _forbidden(character),
        "free": list(FREE),
        "license": "MIT (toon world)",
        "rating": "safe",
    }
    colours = [f'{name} = "#{r:02x}{g:02x}{b:02x}"' for name, (r, g, b) in _palette(character)]
    outfit = {"id": "default", "label": character.traits["outfit"], "tags": worn}
    return "\n".join(
        [
            "[character]",
            *_lines(fields),
            "\n[character.palette]",
            *colours,
            "\n[[character.outfits]]",
            *_lines(outfit),
            "\n[character.author]",
            *_lines({"name": "onmodel demo"}),
            "",
        ]
    )


def _lines(fields: Mapping[str, str | Sequence[str]]) -> list[str]:
    """`name = value` of strings and lists of strings; JSON writes both as TOML does."""
    return [f"{name} = {json.dumps(value)}" for name, value in fields.items()]


def _forbidden(character: ToonCharacter) -> list[str]:
    """The tags of every other value of the traits that a viewer tells apart at first sight."""
    found = []
    for name in ("ears", "glasses", "headwear", "neck", "hair_style", "body"):
        own = character.traits[name]
        alike = LOOK_ALIKE if own in LOOK_ALIKE else {own}
        found += [tag for value, tag in VOCABULARY[name].items() if tag and value not in alike]
    return found


def _palette(character: ToonCharacter) -> list[tuple[str, RGB]]:
    """Part → the colour that the renderer draws it in."""
    traits, fixed = character.traits, COLORS["fixed"]
    parts = [
        (part.removesuffix("_color"), COLORS[part][traits[part]])
        for part in ("hair_color", "eye_color", "headwear_color", "neck_color", "outfit_color")
    ]
    parts.append(("skin", fixed["skin"]))
    if traits["outfit"] == "jacket":
        parts.append(("shirt", fixed["shirt"]))
    if traits["accent"] != "none":
        parts.append(("accent", COLORS["accent"][traits["accent"]]))
    return parts
