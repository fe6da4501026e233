"""Prompts for a data set: for values of free attributes that are under-represented, or from
scenes.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle
from types import MappingProxyType

from onmodel.character import Character
from onmodel.curate.coverage import Coverage
from onmodel.curate.vocabulary import Vocabulary
from onmodel.errors import InputError
from onmodel.prompt_syntax import escaped
from onmodel.randomness import generator
from onmodel.sample.suites import CUT_OFF, Prompt, texts

Shares = Mapping[str, float]


def fill(counts: Mapping[str, float], count: int, target: Shares) -> dict[str, int]:
    """Value → how many of `count` new pictures should show it.

    With the weighted `counts` that exist, the shares become as near to the target as possible: each
    picture goes to the value with the largest relative deficit.
    """
    have, new = dict(counts), dict.fromkeys(target, 0)
    for _ in range(count):
        value = min(
            target,
            key=lambda name: have.get(name, 0.0) / target[name] if target[name] else float("inf"),
        )
        have[value] = have.get(value, 0.0) + 1
        new[value] += 1
    return {value: number for value, number in new.items() if number}


def even(vocabulary: Vocabulary, free: Sequence[str]) -> dict[str, dict[str, float]]:
    """Equal shares of all values of the free attributes, including those that no picture shows."""
    shares = {}
    for name in free:
        values = [value for value, tag in vocabulary.attributes.get(name, {}).items() if tag]
        if values:
            shares[name] = dict.fromkeys(values, 1 / len(values))
    return shares


def prompts_for(
    coverage: Mapping[str, Coverage],
    vocabulary: Vocabulary,
    targets: Mapping[str, Shares],
    character: Character,
    count: int,
    seed: int,
) -> tuple[list[Prompt], dict[str, dict[str, int]]]:
    """`count` prompts, and attribute → value → number of prompts that ask for it.

    Attributes are combined at random, to add no confound. A prompt does not ask for what its
    framing crops. Raises InputError for a target that is not in the vocabulary.
    """
    for name, shares in targets.items():
        known = [value for value, tag in vocabulary.attributes.get(name, {}).items() if tag]
        if unknown := [value for value in shares if value not in known]:
            listed = ", ".join(known or vocabulary.attributes)
            raise InputError(
                "target", unknown[0] if known else name, f"unknown here; there are {listed}"
            )
    asked: list[dict[str, str]] = [{} for _ in range(count)]
    wanted: dict[str, dict[str, int]] = {}
    for name in sorted(
        targets, key=lambda name: name != "framing"
    ):  # it decides what else can be seen
        open_ = [row for row in asked if name not in CUT_OFF.get(row.get("framing", ""), ())]
        counts = coverage[name].counts if name in coverage else {}
        wanted[name] = fill(counts, len(open_), targets[name])
        values = [value for value, number in wanted[name].items() for _ in range(number)]
        order = generator(seed, "fill holes", name).permutation(len(values))
        for row, i in zip(open_, order, strict=True):
            row[name] = values[int(i)]
    prompts = []
    for i, row in enumerate(asked):
        tags = [vocabulary.attributes[name][value] for name, value in row.items()]
        prompts.append(
            Prompt(f"{i:04d}", "hole", row, tuple(tags), texts(character, tags, "outfit" in row))
        )
    return prompts, wanted


def prompts_of_scenes(
    scenes: Mapping[str, str], vocabulary: Vocabulary, character: Character, count: int
) -> list[Prompt]:
    """`count` prompts that ask for what scenes say (name → text), in turn, each after the words for
    the character.

    Asked is what a text says of what is free, where it says one value of it.
    """
    design = vocabulary.said(character.tags)
    prompts = []
    for i, (name, text) in zip(range(count), cycle(scenes.items()), strict=False):
        told = {key: values[0] for key, values in vocabulary.told(text).items() if len(values) == 1}
        asked = {
            key: value
            for key, value in told.items()
            if key in (*character.free, "outfit") and value not in design.get(key, ())
        }
        prompts.append(scene_prompt(f"{name} {i:04d}", text, character, asked))
    return prompts


def scene_prompt(
    id: str,
    text: str,
    character: Character,
    asked: Mapping[str, str] = MappingProxyType({}),
    bare: str = "",
) -> Prompt:
    """The prompt for the text of a scene, behind the words for the character. `asked`: what it says
    of what is free; `bare`: what stands alone in N."""
    lines = texts(character, [], "outfit" in asked)
    spoken = {arm: f"{line}. {escaped(text)}" for arm, line in lines.items()}
    if bare:
        spoken["N"] = escaped(bare)
    return Prompt(id, "scene", asked, (), spoken)
