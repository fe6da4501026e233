"""What tags mean: which attribute a tag gives a value to, which values exclude each other, how they
are spelt, and which stand for others."""

import csv
import difflib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from onmodel.errors import InputError
from onmodel.reading import read_text
from onmodel.sample.suites import DANBOORU
from onmodel.text import is_printable
from onmodel.toon.attributes import VOCABULARY as TOON

# Values that may be said together: a picture can show two of them.
_NOT_EXCLUSIVE = frozenset({"style"})
# What captions of pictures never say by itself.
_COLOUR_WORDS = frozenset({"headwear_color", "neck_color", "outfit_color", "accent"})
SHORTEST_SWAPPED = 5  # letters of a word whose neighbouring letters may be swapped
LARGEST_LIST = 64 * 2**20  # bytes of a list of tags; those that are passed around have up to 20 MB
_ARTIST = re.compile(
    r"^@[^@]*[^\W_][^@]*$"  # "@_@" is a face
    r"|^(artist|art|drawn|illustrated|painted)[ :]+by\b|^artist\s*:|^by [\w.]+$|\bstyle of\b",
    re.I,
)
MARKS = (
    "watermark",
    "signature",
    "artist name",
    "web address",
    "twitter username",
    "logo",
    "copyright name",
)


def names_an_artist(tag: str) -> bool:
    """Does a tag name an artist? Some bases read `@name`; others `by name`, `artist:name`, `style
    of name`."""
    return bool(_ARTIST.search(tag))


@dataclass(frozen=True)
class Vocabulary:
    """Attribute → value → tag; every tag that may be said (`known`); alias → tag, the alias as
    `plain` writes it."""

    attributes: Mapping[str, Mapping[str, str]]
    known: Sequence[str] = field(default_factory=tuple)
    aliases: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def _values(self) -> dict[str, tuple[str, str]]:
        return {
            tag: (name, value)
            for name, values in self.attributes.items()
            for value, tag in values.items()
            if tag
        }

    def value(self, tag: str) -> tuple[str, str] | None:
        """Attribute and value of a tag; "navy beret" is a beret."""
        words = tag.split(" ")
        return next(
            (found for i in range(len(words)) if (found := self._values.get(" ".join(words[i:])))),
            None,
        )

    def said(self, tags: Iterable[str]) -> dict[str, list[str]]:
        """Attribute → its values that are said."""
        found: dict[str, list[str]] = {}
        for name, value in filter(None, map(self.value, tags)):
            if value not in found.setdefault(name, []):
                found[name].append(value)
        return found

    def told(self, text: str) -> dict[str, list[str]]:
        """Attribute → its values whose tags stand in a text."""
        words = f" {' '.join(re.sub('[,.;:!?()]', ' ', text.lower()).split())} "
        found: dict[str, list[str]] = {}
        for name, values in self.attributes.items():
            for value, tag in values.items():
                if tag and f" {tag} " in words:
                    found.setdefault(name, []).append(value)
        return found

    def exclusive(self, attribute: str) -> bool:
        return attribute not in _NOT_EXCLUSIVE

    def alias(self, tag: str) -> str | None:
        """The tag that an alias stands for, as a person's list has it; None for what is no
        alias."""
        right = self.aliases.get(plain(tag))
        return right if right != tag else None

    def spelling(self, tag: str) -> str | None:
        """The known tag that an unknown one stands for: another spelling, or a slip of the pen;
        else None."""
        if tag in self._spellings.values() or self.value(tag):
            return None
        if (word := plain(tag)) in self._spellings:
            return self._spellings[word]
        swapped = (word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1))
        if len(word) >= SHORTEST_SWAPPED:
            for other in swapped:
                if other in self._spellings:
                    return self._spellings[other]
        near = difflib.get_close_matches(word, self._spellings, n=1, cutoff=0.86)
        return self._spellings[near[0]] if near else None

    @cached_property
    def _spellings(self) -> dict[str, str]:
        return {plain(tag): tag for tag in (*self._values, *self.known)}


def plain(tag: str) -> str:
    """A tag without what its spellings differ by: capitals, and what parts its words."""
    return re.sub(r"[\s_\-]+", " ", tag.lower()).strip()


def read_aliases(path: Path) -> dict[str, str]:
    """Alias → tag of a CSV with a pair in each line, `alias,tag`, or of a tag list,
    `tag,category,count,"alias,alias"`.

    Raises InputError that names the line which is neither.
    """
    found: dict[str, str] = {}
    text = read_text(path, "aliases", LARGEST_LIST)
    try:
        for i, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
            if row in ([], ["alias", "tag"]):
                continue
            if len(row) == 2:
                tag, aliases = row[1], row[:1]
            elif len(row) == 4 and row[2].isdecimal():
                tag, aliases = row[0], row[3].split(",")
            else:
                raise InputError("aliases", f"{path}, line {i}", "write alias,tag in each line")
            tag = " ".join(tag.replace("_", " ").split())
            if not is_printable(tag):
                raise InputError(
                    "aliases", f"{path}, line {i}", "leave out characters that are not shown"
                )
            found |= {word: tag for word in map(plain, aliases) if word and tag}
    except csv.Error as error:
        raise InputError(
            "aliases", path, f"cannot be read as a CSV ({error}); write alias,tag in each line"
        ) from error
    if not found:
        raise InputError("aliases", path, "holds no pair; write alias,tag in each line")
    return found


def attributes_known() -> list[str]:
    """The attributes of any vocabulary."""
    return [name for name in {**DANBOORU, **TOON} if name not in _COLOUR_WORDS]


def vocabulary_for(
    tagger_tags: Sequence[str], sheet_tags: Sequence[str], aliases: Mapping[str, str] | None = None
) -> Vocabulary:
    """The toon world's words where the tagger knows them all, else Danbooru's; known: the tagger's
    and the sheet's."""
    toon = {name: values for name, values in TOON.items() if name not in _COLOUR_WORDS}
    every = {tag for values in toon.values() for tag in values.values() if tag}
    attributes = toon if not tagger_tags or every <= set(tagger_tags) else DANBOORU
    return Vocabulary(attributes, tuple(dict.fromkeys((*tagger_tags, *sheet_tags))), aliases or {})
