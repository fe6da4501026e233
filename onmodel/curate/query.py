"""Find pictures of a data set in the making by words.

    subset:base tag:smile -tag:hat finding:"wrong label" is:kept trigger

Every term must hold; `-` before a term turns it round. A term without a key is text in the name,
the tags or the sentence. Quote values that have spaces, and text with a colon (`"re:zero"`); `\\"`
is a quote within them. Upper and lower case are the same.

| key | holds for pictures |
|---|---|
| `subset` | of this subset |
| `tag` | with exactly this tag |
| `by` | with a tag from this source: file, person, rule, tagger … |
| `name` | whose name contains the text |
| `text` | whose sentence contains the text |
| `finding` | that the last audit has a finding of this kind about |
| `origin`, `rights` | that say exactly this |
| `is` | kept, excluded, captioned, uncaptioned, edited (a person decided), cropped, masked |
| `shows` | that show a value of an attribute: `shows:pose=sitting` |
| `split` | that the next run holds out (`heldout`) or trains on (`training`) |
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from onmodel.curate.vocabulary import plain
from onmodel.curate.workshop import Piece
from onmodel.errors import InputError
from onmodel.text import shown

KEYS = (
    "subset",
    "tag",
    "by",
    "name",
    "text",
    "finding",
    "origin",
    "rights",
    "is",
    "shows",
    "split",
)
STATES = ("kept", "excluded", "captioned", "uncaptioned", "edited", "cropped", "masked")
SPLITS = ("heldout", "training")
MOST_TAGS = 10  # that complete a word
_TERM = re.compile(
    r'(?P<minus>-?)(?:(?P<key>[a-zA-Z]+):)?(?:"(?P<quoted>(?:\\"|[^"])*)"|(?P<plain>[^\s"]+))'
)
_TEST = Callable[[Piece], bool]


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What queries read beside the pictures, by name of a picture: kinds of its findings in lower
    case, whether it has a mask, `attribute=value` of what it shows, and its split. None is what is
    not known; `unknown` says why: key → remedy."""

    findings: Mapping[str, Collection[str]] = field(default_factory=dict)
    masked: Collection[str] = ()
    shows: Mapping[str, Collection[str]] | None = None
    split: Mapping[str, str] | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)

    def check(self, terms: "Sequence[Term]") -> None:
        """Raise InputError for a term about what is not known."""
        for term in terms:
            if term.key in ("shows", "split") and getattr(self, term.key) is None:
                remedy = self.unknown.get(term.key, "is known in the studio only")
                raise InputError("query", f"{term.key}:", remedy)


@dataclass(frozen=True, slots=True)
class Term:
    """One condition of a query; `key` is "" for plain text."""

    key: str
    value: str
    negated: bool


def parse_query(text: str) -> list[Term]:
    """The terms of a query. Raises InputError for an unknown key, or a quote that is not closed."""
    terms, at = [], 0
    text = text.strip()
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None or ((end := found.end()) < len(text) and not text[end].isspace()):
            raise InputError("query", shown(text[at:]), 'close the quotes: key:"two words"')
        key = (found["key"] or "").lower()
        value = ((found["quoted"] or "").replace('\\"', '"') or found["plain"] or "").casefold()
        if key and key not in KEYS:
            text = shown(found[0].removeprefix("-").replace('"', ""), 40)
            remedy = f'keys are {", ".join(KEYS)}; quote text with a colon: "{text}"'
            raise InputError("query", f"{key}:", remedy)
        if key == "is" and value not in STATES:
            raise InputError("query", f"is:{shown(value)}", f"use {', '.join(STATES)}")
        if key == "split" and value not in SPLITS:
            raise InputError("query", f"split:{shown(value)}", f"use {', '.join(SPLITS)}")
        terms.append(Term(key, value, bool(found["minus"])))
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return terms


def search(pieces: Collection[Piece], query: str, facts: PictureFacts) -> list[Piece]:
    """The pictures for which every term of the query holds, in their order. Raises InputError for a
    wrong query, and for what `facts` do not say."""
    terms = parse_query(query)
    facts.check(terms)
    tests = [_test(term, facts) for term in terms]
    return [piece for piece in pieces if all(test(piece) for test in tests)]


def complete(pieces: Collection[Piece], facts: PictureFacts, word: str) -> list[str]:
    """Up to 20 ways to complete the last word of a query, the most frequent first."""
    key, colon, start = word.lstrip("-").partition(":")
    sign = word[: len(word) - len(word.lstrip("-"))]
    if not colon:
        return [f"{sign}{known}:" for known in KEYS if known.startswith(key)]
    values: dict[str, int] = {}
    for value in _values(key, pieces, facts):
        values[value] = values.get(value, 0) + 1
    start = start.replace('\\"', '"').strip('"').casefold()
    wanted = [value for value in values if start in value.casefold()]
    wanted.sort(key=lambda value: (not value.casefold().startswith(start), -values[value], value))
    return [f"{sign}{key}:{_quoted(value)}" for value in wanted[:20]]


@dataclass(frozen=True, slots=True)
class TagOption:
    """A tag that may be meant, and the number of pictures that have it. `alias` is what was typed
    when the tag replaces it, else ""."""

    tag: str
    pictures: int
    alias: str = ""


def complete_tag(
    pieces: Collection[Piece], aliases: Mapping[str, str], word: str
) -> list[TagOption]:
    """Up to 10 tags that a word may become: those that begin with it, the most frequent first, then
    those that contain it. `aliases` are those of the data set (vocabulary.py)."""
    start = plain(word)
    if not start:
        return []
    counts = Counter(said.tag for piece in pieces for said in piece.tags)
    options = [TagOption(tag, count) for tag, count in counts.items() if start in plain(tag)]
    known = {option.tag for option in options}
    for alias, tag in aliases.items():
        if alias.startswith(start) and tag not in known:
            options.append(TagOption(tag, counts[tag], alias))
            known.add(tag)
    options.sort(
        key=lambda row: (
            not (row.alias or plain(row.tag)).startswith(start),
            -row.pictures,
            row.tag,
        )
    )
    return options[:MOST_TAGS]


def _values(key: str, pieces: Collection[Piece], facts: PictureFacts) -> list[str]:
    """Every value of a key, as often as pictures have it."""
    if key == "tag":
        return [said.tag for piece in pieces for said in piece.tags]
    if key == "by":
        return [said.by for piece in pieces for said in piece.tags]
    if key in ("subset", "origin", "rights"):
        return [getattr(piece, key) for piece in pieces]
    if key in ("shows", "finding"):
        table = (facts.shows or {}) if key == "shows" else facts.findings
        return [value for values in table.values() for value in values]
    return {"is": list(STATES), "split": list(SPLITS)}.get(key, [])


def _quoted(value: str) -> str:
    text = value.replace('"', '\\"')
    return f'"{text}"' if re.search(r'[\s"]', value) else value


def _test(term: Term, facts: PictureFacts) -> _TEST:
    value = term.value
    tests: dict[str, _TEST] = {
        "subset": lambda piece: piece.subset.casefold() == value,
        "tag": lambda piece: any(said.tag.casefold() == value for said in piece.tags),
        "by": lambda piece: any(said.by.casefold().startswith(value) for said in piece.tags),
        "name": lambda piece: value in piece.name.casefold(),
        "text": lambda piece: value in piece.sentence.casefold(),
        "finding": lambda piece: value in map(str.casefold, facts.findings.get(piece.name, ())),
        "origin": lambda piece: piece.origin.casefold() == value,
        "rights": lambda piece: piece.rights.casefold() == value,
        "shows": lambda piece: value in (facts.shows or {}).get(piece.name, ()),
        "split": lambda piece: (facts.split or {}).get(piece.name) == value,
        "": lambda piece: value in _all_text(piece),
    }
    states = {**_STATE_TESTS, "masked": lambda piece: piece.name in facts.masked}
    test = states[value] if term.key == "is" else tests[term.key]
    return (lambda piece: not test(piece)) if term.negated else test


_STATE_TESTS: dict[str, _TEST] = {
    "kept": lambda piece: not piece.aside,
    "excluded": lambda piece: bool(piece.aside),
    "captioned": lambda piece: bool(piece.tags or piece.sentence),
    "uncaptioned": lambda piece: not (piece.tags or piece.sentence),
    "edited": lambda piece: (
        piece.decided == "person"
        or piece.told == "person"
        or any(said.by == "person" for said in piece.tags)
    ),
    "cropped": lambda piece: bool(piece.turn or piece.box),
}


def _all_text(piece: Piece) -> str:
    return "\n".join((piece.name, *piece.words, piece.sentence)).casefold()
