"""Shares and quotas that a person asks for: read and checked against the data set's words before
any picture is looked at."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from onmodel.character import Character
from onmodel.curate.settings import ObserverSettings
from onmodel.curate.vocabulary import Vocabulary, vocabulary_for
from onmodel.curate.workshop import Workshop
from onmodel.errors import InputError
from onmodel.evaluate.observers.files import TOON_ASSETS, TOON_OWN
from onmodel.evaluate.observers.source import SCHEME, wrong
from onmodel.reading import read_text
from onmodel.toon.base import TOON_BASES

Targets = dict[str, dict[str, float]]


def expected_vocabulary(
    workshop: Workshop, character: Character, observers: ObserverSettings
) -> Vocabulary:
    """The words that an audit with these observers will use, from the tagger's list of tags alone.

    A tagger on the hub is not fetched for it: then it is the words of Danbooru. Raises InputError
    for an observer that is not there.
    """
    for name in ("tagger", "identity"):
        named = getattr(observers, name)
        if named and (error := wrong(name, named)):
            raise error
    tags = ["1girl"]  # any list that lacks the toon words stands for Danbooru's
    if observers.base_name in TOON_BASES:
        tags = _tags_of(TOON_ASSETS / TOON_OWN["tagger"])
    elif not observers.tagger:
        tags = []
    elif not observers.tagger.startswith(SCHEME):
        tags = _tags_of(Path(observers.tagger))
    sheet = [character.count_tag, *character.tags, *character.required, *character.forbidden]
    return vocabulary_for(tags, sheet, workshop.aliases)


def _tags_of(folder: Path) -> list[str]:
    """The names in a tagger's selected_tags.csv."""
    text = read_text(folder / "selected_tags.csv", "tagger")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [str(row.get("name") or "").replace("_", " ") for row in rows]


def parse_targets(texts: Iterable[str], vocabulary: Vocabulary) -> Targets:
    """Attribute → value → share (sums to 1), from rows `attribute=value:share,…`. Raises
    InputError for another form, and for words that the vocabulary lacks."""
    return dict(_target(text, vocabulary) for text in texts)


def _target(text: str, vocabulary: Vocabulary) -> tuple[str, dict[str, float]]:
    attribute, equals, rows = text.partition("=")
    try:
        shares = {
            row.rpartition(":")[0].strip(): float(row.rpartition(":")[2]) for row in rows.split(",")
        }
        total = sum(shares.values())
        if not equals or not 0 < total < float("inf") or min(shares.values()) < 0:
            raise ValueError
    except ValueError:
        raise InputError(
            "--target", text, "write attribute=value:share,…, e.g. style=comic:1,pastel:2"
        ) from None
    values = _values(vocabulary, attribute)
    for wrong_word in (
        [attribute] if not values else [name for name in shares if name not in values]
    ):
        known = ", ".join(values or vocabulary.attributes)
        raise InputError("--target", wrong_word, f"unknown here; there are {known}")
    return attribute, {value: share / total for value, share in shares.items()}


def parse_quotas(
    option: str, texts: Iterable[str], workshop: Workshop, vocabulary: Vocabulary
) -> dict[str, int]:
    """Label → number, from rows `name=number`. A label is a subset, a value of an attribute, or a
    tag that captions or the tagger have. Raises InputError for another form, and for other
    names."""
    subsets = subsets_of(workshop)
    tags = {*vocabulary.known, *(tag for piece in workshop.kept for tag in piece.words)}
    found = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not equals or not number.isdecimal():
            raise InputError(option, text, "write name=number, e.g. smile=8")
        known = any(name in _values(vocabulary, attribute) for attribute in vocabulary.attributes)
        if name not in subsets and name not in tags and not known:
            raise InputError(option, name, f"is neither a subset ({', '.join(subsets)}) nor a tag")
        found[name] = int(number)
    return found


def subsets_of(workshop: Workshop) -> list[str]:
    """The subsets that have a kept picture, in order."""
    return list(dict.fromkeys(piece.subset for piece in workshop.kept))


def check_subsets(workshop: Workshop, names: Sequence[str]) -> None:
    """Raises InputError for a subset that has no kept picture."""
    known = subsets_of(workshop)
    for name in names:
        if name not in known:
            raise InputError("--subset", name, f"unknown here; there are {', '.join(known)}")


def _values(vocabulary: Vocabulary, attribute: str) -> list[str]:
    table: Mapping[str, str] = vocabulary.attributes.get(attribute, {})
    return [value for value, tag in table.items() if tag]
