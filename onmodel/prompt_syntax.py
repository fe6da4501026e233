r"""The prompt syntax of ComfyUI: `(words)` and `(words:1.3)` weigh words, `\(` and `\)` are the
characters themselves. Square brackets are ordinary characters.

Captions have no syntax: a tag such as `saber (fate)` stands in a caption as it is, and in a prompt
as `saber \(fate\)`.
"""

import math
import re
from dataclasses import dataclass

# What other programs and nodes act on. Here it is words.
_COMMANDS = re.compile(
    r"<(?i:lora|lyco|hypernet)\s*:[^<>]*>|\bembedding:[^\s,()]+|__[\w/-]+__|\{[^{}]*\|[^{}]*\}"
    r"|\bBREAK\b"
)
_EMPHASIS = 1.1  # what a pair of parentheses without a number multiplies a weight by


@dataclass(frozen=True, slots=True)
class Segment:
    """Words of a prompt and their weight."""

    text: str
    weight: float = 1.0


def escaped(text: str) -> str:
    """The prompt that means this text, literally."""
    return text.replace("(", r"\(").replace(")", r"\)")


def plain(prompt: str) -> str:
    """The words of a prompt, without weights and escapes. Raises what `segments` raises."""
    return "".join(segment.text for segment in segments(prompt))


def commands(prompt: str) -> list[str]:
    """What a prompt holds that other programs do not read as words: networks, embeddings,
    wildcards, alternatives and BREAK."""
    return _COMMANDS.findall(prompt)


def segments(prompt: str) -> list[Segment]:
    """The words of a prompt with their weights. An inner number replaces the outer weight; an inner
    pair without a number multiplies it. A parenthesis without a partner opens a group to the end,
    without weight, and stays in the text. An empty prompt is one empty segment.

    Raises ValueError for a weight that is not finite.
    """
    return [one for one in _weighted(_units(prompt), 1.0) if one.text] or [Segment("")]


def _units(prompt: str) -> list[str]:
    """Characters; an escaped parenthesis is one unit of two characters."""
    units: list[str] = []
    for character in prompt:
        if character in "()" and units and units[-1] == "\\":
            units[-1] += character
        else:
            units.append(character)
    return units


def _weighted(units: list[str], weight: float) -> list[Segment]:
    found: list[Segment] = []
    for group in _groups(units):
        if len(group) >= 2 and group[0] == "(" and group[-1] == ")":
            found += _weighted(*_inside(group[1:-1], weight))
        else:
            found.append(Segment("".join(unit[-1] for unit in group), weight))
    return found


def _groups(units: list[str]) -> list[list[str]]:
    """The units, cut at the parentheses of the outermost level."""
    groups: list[list[str]] = [[]]
    depth = 0
    for unit in units:
        if unit == "(":
            if depth == 0:
                groups.append([])
            depth += 1
        groups[-1].append(unit)
        if unit == ")":
            depth -= 1
            if depth == 0:
                groups.append([])
    return [group for group in groups if group]


def _inside(units: list[str], weight: float) -> tuple[list[str], float]:
    """The units of a pair of parentheses without their number, and their weight."""
    colon = max((i for i, unit in enumerate(units) if unit == ":"), default=0)
    if colon > 0:
        try:
            number = float("".join(units[colon + 1 :]))
        except ValueError:
            return units, weight * _EMPHASIS
        if not math.isfinite(number):
            raise ValueError(f"weight {number} is not finite; write a number such as 1.3")
        return units[:colon], number
    return units, weight * _EMPHASIS
