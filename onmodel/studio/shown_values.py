"""What the pictures of a data set show by their captions of now, as the audit counts it."""

from collections.abc import Mapping
from dataclasses import dataclass

from onmodel.character import load_character
from onmodel.curate.coverage import CountedPicture, count_picture
from onmodel.curate.vocabulary import Vocabulary, vocabulary_for
from onmodel.curate.workshop import Workshop
from onmodel.recipe import load_recipe
from onmodel.studio.workspace import CharacterFolder
from onmodel.toon.base import TOON_BASES

OTHERS = ("1girl",)  # any list of tags that lacks the toon words stands for Danbooru's


@dataclass(frozen=True)
class ShownValues:
    """`counted`: the pictures by name, excluded ones too; `by_picture`: name → `attribute=value` in
    lower case, `attribute=` where its caption says no value; `free`: attributes that prompts
    choose."""

    vocabulary: Vocabulary
    counted: Mapping[str, CountedPicture]
    by_picture: Mapping[str, frozenset[str]]
    free: tuple[str, ...]


def shown_values(character: CharacterFolder, workshop: Workshop) -> ShownValues:
    """Read every caption. Raises InputError for a wrong sheet or recipe."""
    sheet = load_character(character.sheet)
    toon = character.recipe is None or load_recipe(character.recipe).base_name in TOON_BASES
    vocabulary = vocabulary_for(() if toon else OTHERS, sheet.tags, workshop.aliases)
    design = vocabulary.said(sheet.tags)
    counted = {
        name: count_picture(
            piece.subset,
            float(workshop.repeats.get(piece.subset, 1)),
            piece.words,
            vocabulary,
            design,
        )
        for name, piece in workshop.pieces.items()
    }
    by_picture = {name: _values(row, vocabulary) for name, row in counted.items()}
    return ShownValues(vocabulary, counted, by_picture, tuple(sheet.free))


def _values(picture: CountedPicture, vocabulary: Vocabulary) -> frozenset[str]:
    found = set()
    for attribute in vocabulary.attributes:
        values = picture.values.get(attribute) or ("",)
        found |= {f"{attribute}={value}".casefold() for value in values}
    return frozenset(found)
