"""Captions: read beside a picture, and varied for training — shuffled, thinned or dropped, always
by counter.

Encoded captions are kept in memory, so each picture has at most `VARIANTS` orders of its tags;
without that limit shuffling and caching text exclude each other.
"""

from dataclasses import dataclass
from typing import Literal

from onmodel.randomness import generator
from onmodel.records import Item

VARIANTS = 8
MAX_BYTES = 10_000
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


def parse_caption(data: bytes) -> tuple[str, str]:
    """Tags (first line) and sentence (the lines after it, may be missing) of a caption file in
    UTF-8.

    Raises ValueError with the reason when it is something else, empty or longer than 10 kB.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"the caption has {len(data)} bytes; {MAX_BYTES} are allowed")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("the caption is not UTF-8; save it as UTF-8") from error
    if any(ord(letter) < 32 and letter not in "\t\r\n" for letter in text):
        raise ValueError("the caption holds control characters; save it as plain UTF-8 text")
    first, *rest = (line.strip() for line in text.splitlines()) if text.strip() else ("",)
    tags = ", ".join(split_tags(first))
    if not tags:
        raise ValueError("the first line of the caption, the tags, is empty")
    return tags, " ".join(line for line in rest if line)


def split_tags(text: str) -> list[str]:
    """The tags of a comma-separated caption, without blanks and empty ones."""
    return [tag for part in text.split(",") if (tag := " ".join(part.split()))]


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
