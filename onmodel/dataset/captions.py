"""Captions: read beside a picture, and varied for training — shuffled, thinned or dropped, always
by counter.

Encoded captions are kept in memory, so each picture has at most `VARIANTS` orders of its tags;
without that limit shuffling and caching text exclude each other.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from onmodel.errors import InputError
from onmodel.randomness import generator
from onmodel.reading import decode_text
from onmodel.records import Item
from onmodel.text import shown

VARIANTS = 8
MAX_BYTES = 10_000
LONGEST_TAG = 4  # words of a line that is read as one tag
Lines = str | None  # what joins the lines of a caption; None: tags in the first, then the sentence
_COMMA = re.compile(r",(?!(?<=\d,)\d{3}(?!\d))")
Form = Literal["tags", "sentence", "both"]


@dataclass(frozen=True, slots=True)
class CaptionRules:
    """How training says a picture. `both` alternates; the first `keep_tokens` tags stay in front
    and stay in.

    In every `caption_dropout_every`-th epoch all captions are dropped (0: in none).
    """

    form: Form = "tags"
    shuffle: bool = True
    keep_tokens: int = 2
    tag_dropout: float = 0.0
    caption_dropout: float = 0.0
    caption_dropout_every: int = 0


def parse_caption(data: bytes, lines: Lines = None) -> tuple[str, str]:
    """Tags and sentence (may be empty) of a caption file in UTF-8, or UTF-16 with its mark, as
    `parse_lines` reads them.

    Raises ValueError with the reason when it is something else, empty or longer than 10 kB.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"the caption has {len(data)} bytes; {MAX_BYTES} are allowed")
    try:
        text = decode_text(data)
    except UnicodeDecodeError as error:
        raise ValueError("the caption is not UTF-8; save it as UTF-8") from error
    tags, sentence = parse_lines(text, lines)
    if not tags:
        raise ValueError("the caption is empty")
    return tags, sentence


def parse_lines(text: str, lines: Lines = None) -> tuple[str, str]:
    """Tags (first line) and sentence (the lines after it) of a caption's text. With `lines`, the
    whole text is one caption, its lines joined by that text.

    Three or more short lines without a comma are tags, one in each line. Tags go on in the next
    line where the first ends in a comma and the next has short ones. Raises ValueError for control
    characters.
    """
    if _holds_controls(text):
        raise ValueError("the caption holds control characters; save it as plain UTF-8 text")
    rows = [row for line in text.splitlines() if (row := line.strip())]
    if lines is not None:
        return join_lines(rows, lines), ""
    if len(rows) > 2 and all(map(_is_one_tag, rows)):
        rows = [", ".join(rows)]
    while len(rows) > 1 and rows[0].endswith(",") and all(map(_is_one_tag, split_tags(rows[1]))):
        rows = [f"{rows[0]} {rows[1]}", *rows[2:]]
    first, rest = (rows[0], rows[1:]) if rows else ("", [])
    if "," not in first:
        first = first.replace("\t", ",")
    tags = split_tags(first)
    if rows and not tags:
        raise ValueError("the first line of the caption, the tags, is empty")
    return ", ".join(tags), " ".join(rest)


def check_words(words: Sequence[str]) -> None:
    """Raise InputError for tags or a sentence that `parse_caption` would refuse in a file."""
    for word in words:
        if _holds_controls(word):
            raise InputError("caption", shown(word), "holds control characters; type it again")
    size = sum(len(f"{word}, ".encode()) for word in words)
    if size > MAX_BYTES:
        raise InputError("caption", f"{size} bytes", f"{MAX_BYTES} are allowed; shorten it")


def _holds_controls(text: str) -> bool:
    return any(ord(letter) < 32 and letter not in "\t\r\n\v\f" for letter in text)


def join_lines(rows: Sequence[str], between: str) -> str:
    """One caption of several lines. A line that ends in a comma brings its own."""
    text = ""
    for row in filter(None, rows):
        text += (" " if text.endswith(",") else between if text else "") + row
    return ", ".join(split_tags(text))


def _is_one_tag(line: str) -> bool:
    return len(line.split()) <= LONGEST_TAG and not re.search(r"[,.!?;]", line)


def split_tags(text: str) -> list[str]:
    """The tags of a comma-separated caption, without blanks and empty ones. "1,000" is one."""
    return [tag for part in _COMMA.split(text) if (tag := " ".join(part.split()))]


def says_word(text: str, word: str) -> bool:
    """Whether `word` stands in a text as a whole word: "mika" is not in "mikasa"."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


def split_kept(text: str, separator: str) -> tuple[str, int | None, int]:
    """A caption without its separators, and how many tags stay in front and at the end: kohya's `a
    ||| b, c ||| d`.

    What lies before the first separator and after the second stays; without one, the number in
    front is None.
    """
    if not separator or separator not in text:
        return text, None, 0
    first, middle, last = (split_tags(part) for part in (*text.split(separator, 2), "")[:3])
    last = split_tags(", ".join(last).replace(separator, ","))
    return ", ".join(first + middle + last), len(first), len(last)


def captions_of(item: Item, repeats: int, epochs: int, rules: CaptionRules, seed: int) -> list[str]:
    """What each showing of a picture over a whole run says: `repeats` in each epoch."""
    return [
        caption_of(item, exposure, exposure // repeats + 1, rules, seed)
        for exposure in range(repeats * epochs)
    ]


def caption_of(item: Item, exposure: int, epoch: int, rules: CaptionRules, seed: int) -> str:
    """What training says the `exposure`-th time (from 0) that it shows a picture, in this epoch
    (from 1).

    Which of the two forms comes first is drawn per picture, so that a batch holds both.
    """
    key = (item.subset, item.content)
    if rules.caption_dropout_every and epoch % rules.caption_dropout_every == 0:
        return ""
    if (
        rules.caption_dropout
        and generator(seed, "caption dropout", *key, exposure).random() < rules.caption_dropout
    ):
        return ""
    if rules.form != "tags" and item.sentence:
        turn = exposure + int(generator(seed, "caption form", *key).integers(2))
        if rules.form == "sentence" or turn % 2:
            return item.sentence
        exposure = turn // 2
    if not (rules.shuffle or rules.tag_dropout):
        return item.tags
    rng = generator(seed, "caption variant", *key, exposure % VARIANTS)
    tags = split_tags(item.tags)
    first = rules.keep_tokens if item.kept_first is None else item.kept_first
    end = max(first, len(tags) - item.kept_last)
    free = [tag for tag in tags[first:end] if rng.random() >= rules.tag_dropout]
    if rules.shuffle:
        free = [free[i] for i in rng.permutation(len(free))]
    return ", ".join(tags[:first] + free + tags[end:])


def flips_of(item: Item, exposures: int, seed: int) -> list[bool]:
    """Is a picture mirrored, for each showing over a whole run? One in two, at random."""
    return [
        generator(seed, "flip", item.subset, item.content, i).random() < 0.5
        for i in range(exposures)
    ]


def plain_caption(item: Item, rules: CaptionRules) -> str:
    """The caption that held-out loss is measured with: nothing shuffled, nothing dropped."""
    return item.sentence if rules.form == "sentence" else item.tags
