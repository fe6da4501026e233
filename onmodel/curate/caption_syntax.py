"""What stands in tags and is trained letter by letter without being meant: prompt syntax, other
separators than the comma, and letters that are not shown.

Each has a fix where it is certain what was meant. Kaomoji (`@_@`, `>_<`, `:3`) are tags.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from onmodel.curate.findings import AuditFinding, Fix
from onmodel.dataset.captions import LONGEST_TAG

_JOINERS = "\u200c\u200d"  # Persian words and composed emoji need them
_NETWORK = re.compile(r"<(?:lora|lyco|hypernet|lora-block)\s*:[^<>]*>", re.I)
_ESCAPE = re.compile(r"\\([()\[\]{}<>\\:])")
_WILDCARD = re.compile(r"__[\w/-]+__|\{[^{}]*\|[^{}]*\}|\[[^\[\]]*:[^\[\]]*:[\d.]+\]")
_BREAK = re.compile(r"(?<!\S)BREAK(?!\S)")
_WEIGHT = re.compile(r":\s*-?\d*\.?\d+\s*(?=[)\]}]*$)")
_SEPARATOR = re.compile(r"[\uff0c\u3001\uff1b\u060c]|;(?=\s)|(?<=\w);(?=\w)")
_UNDERSCORE = re.compile(r"[^\W\d_]_[^\W\d_]")
_STOP = re.compile(r"(?<=\w)\.(?:\s+|$)")
_WORD = re.compile(r"[^\W\d_]{2}|[^\W\d_]\d|\d[^\W\d_]")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
PLACEHOLDERS = ("[trigger]", "[name]")


@dataclass(frozen=True)
class Meant:
    """What a tag means: the `tags` instead of it, or None where that is not certain. `kind` is the
    kind of the first fault, `evidence` says all of them."""

    kind: str
    evidence: str
    tags: tuple[str, ...] | None


def meant(tag: str, trigger: str) -> Meant | None:
    """What a tag with prompt syntax, another separator or invisible letters means; None for a tag
    without any."""
    if tag.lower() in PLACEHOLDERS:
        return Meant("prompt syntax", "a placeholder of ai-toolkit for the trigger", (trigger,))
    faults: list[tuple[str, str]] = []
    text = "".join(letter for letter in tag if not _is_invisible(letter))
    if text != tag:
        codes = sorted({f"U+{ord(letter):04X}" for letter in tag if _is_invisible(letter)})
        faults.append(("invisible letters", f"holds {', '.join(codes)}, which is not shown"))
    stops = _between_stops(text)
    if any(part[0].isupper() and part.lower() != trigger.lower() for part in stops):
        return Meant("separator", "full stops between short sentences or tags; write commas", None)
    if _WILDCARD.search(text):
        return Meant("prompt syntax", "a wildcard; write what the picture shows", None)
    shorter = _NETWORK.sub(" ", text)
    if shorter != text:
        faults.append(("prompt syntax", "names a network"))
    plain = _ESCAPE.sub(r"\1", shorter)
    if plain != shorter:
        faults.append(("prompt syntax", "escapes brackets with backslashes"))
    parts = _BREAK.split(plain)
    if len(parts) > 1:
        faults.append(("prompt syntax", "BREAK parts prompts, not captions"))
    pieces = [
        piece
        for part in parts
        for piece in _between_stops(part) or _words(part) or _separated(part)
    ]
    if len(pieces) > len(parts):
        sign = "full stops" if stops else "blanks" if _words(plain) else "another sign"
        faults.append(("separator", f"{sign} between tags; commas separate them"))
    pieces = [piece.strip() for piece in pieces]
    bare = [_without_weight(piece) for piece in pieces] if plain == shorter else pieces
    if bare != pieces:
        faults.append(("prompt syntax", "brackets, weights or quotes of a prompt"))
    if not faults:
        return None
    words = tuple(dict.fromkeys(word for piece in bare if (word := " ".join(piece.split()))))
    return Meant(faults[0][0], "; ".join(evidence for _, evidence in faults), words)


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cf", "Zl", "Zp") and letter not in _JOINERS


def _between_stops(text: str) -> list[str]:
    """The short parts of a list such as `1girl. red hair. smile.`; empty for what is no such list.
    One full stop alone may belong to a name (`dr. stone`)."""
    parts = [part.strip() for part in _STOP.split(text) if part.strip()]
    short = all(len(part.split()) <= LONGEST_TAG and _WORD.search(part) for part in parts)
    return parts if len(_STOP.findall(text)) > 1 and len(parts) > 1 and short else []


def _words(text: str) -> list[str]:
    """The words of a list such as `1girl red_hair looking_at_viewer`, as image boards write tags;
    empty for what is no such list."""
    words = text.split()
    joined = sum(_UNDERSCORE.search(word) is not None for word in words)
    return words if joined > 1 and len(words) > 2 and all(map(_WORD.search, words)) else []


def _separated(text: str) -> list[str]:
    """The parts between other separators than the comma; the text itself where one of them holds no
    word, as in kaomoji, or where it is prose."""
    parts = _SEPARATOR.split(text)
    filled = [part for part in parts if part.strip()]
    if len(parts) < 2 or "\u3002" in text or not all(map(_WORD.search, filled)):
        return [text]
    return filled


def _without_weight(text: str) -> str:
    """`(red hair:1.3)`, `((red hair))`, `[red hair]` and halves such as `(red hair` without
    brackets and number; a tag with a name in brackets, `saber (fate)`, as it is."""
    text = text.strip()
    inner, changed = text, True
    while changed:
        changed = False
        first, last = inner[:1], inner[-1:]
        wrapped = first in _PAIRS and last == _PAIRS[first] and _closes_last(inner)
        half = first in _PAIRS and _PAIRS[first] not in inner
        tail = last in _PAIRS.values() and not any(sign in inner for sign in _PAIRS)
        weighted = _WEIGHT.sub("", inner)
        if wrapped:
            inner, changed = inner[1:-1].strip(), True
        elif half:
            inner, changed = inner[1:].strip(), True
        elif tail:
            inner, changed = inner[:-1].strip(), True
        elif weighted != inner and inner != text:  # only within what had brackets
            inner, changed = weighted.strip(), True
    if inner == text and text.count('"') == 1 and text.strip('"') != text:
        inner = text.strip('"').strip()  # half of quotes around the whole caption
    return inner if _WORD.search(inner) else text


def _closes_last(text: str) -> bool:
    """Whether the first bracket is closed by the last character."""
    depth = 0
    for i, sign in enumerate(text):
        depth += (sign == text[0]) - (sign == _PAIRS[text[0]])
        if not depth:
            return i == len(text) - 1
    return False


def audit_syntax(
    picture: str, tags: Sequence[str], trigger: str
) -> tuple[list[AuditFinding], list[str]]:
    """Findings about a picture's tags, and its tags as they would be once all are fixed. A tag that
    only a person can fix stays as it is."""
    found: list[AuditFinding] = []
    clean: list[str] = []
    for tag in tags:
        what = meant(tag, trigger)
        if what is None:
            clean.append(tag)
            continue
        fix = None
        if what.tags is None:
            clean.append(tag)
        else:
            new = tuple(word for word in what.tags if word not in tags)
            fix = Fix((tag,), new, by=f"rule: {what.kind}")
            clean += what.tags
        found.append(AuditFinding(what.kind, "error", picture, tag, what.evidence, fix))
    return found, clean
