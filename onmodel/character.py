"""character.toml, the model sheet: the character's design, what pictures must, may and must not
show, and the author's words."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from onmodel.errors import InputError
from onmodel.paths import check_distinct, check_name
from onmodel.policy import check_text
from onmodel.reading import check_values, read_toml
from onmodel.text import is_printable
from onmodel.validation import StrictTable

LONGEST_WORD = 200  # characters of a name, a trigger or a tag


class Outfit(StrictTable):
    """One outfit: `tags` say it in prompts."""

    id: str
    label: str
    tags: list[str]


class Author(StrictTable):
    """The author's own words; onmodel places them and never writes law."""

    name: str
    disclaimer: str = ""
    terms: str = ""
    credits: str = ""


class Character(StrictTable):
    """The model sheet. `tags` describe the design without the trigger (control arm D); colours are
    #rrggbb.

    `severity`: how much the absence of a required tag, or the presence of a forbidden one, weighs;
    1 where nothing is said.
    """

    name: str
    trigger: str
    count_tag: str = "1girl"
    tags: list[str]
    description: str
    required: list[str] = Field(default_factory=list)
    forbidden: list[str] = Field(default_factory=list)
    severity: dict[str, float] = Field(default_factory=dict)
    free: list[str]
    palette: dict[str, str]
    outfits: list[Outfit]
    author: Author
    license: str
    rating: str = Field(pattern="^(safe|sensitive|explicit)$")

    def only(self, fields: Iterable[str]) -> Self:
        """The sheet with these fields alone; another one raises AttributeError when it is read."""
        part = self.model_copy()
        for name in set(type(self).model_fields) - set(fields):
            del part.__dict__[name]
        return part

    @field_validator("palette")
    @classmethod
    def _colours(cls, palette: dict[str, str]) -> dict[str, str]:
        for name, colour in palette.items():
            if (
                len(colour) != 7
                or colour[0] != "#"
                or not set(colour[1:].lower()) <= set("0123456789abcdef")
            ):
                raise ValueError(f"{name} = {colour!r} is not #rrggbb")
        return palette

    @model_validator(mode="after")
    def _weighed(self) -> Self:
        """Weights are positive and belong to tags that are checked."""
        for tag, weight in self.severity.items():
            if tag not in (*self.required, *self.forbidden):
                raise ValueError(f"severity.{tag}: the tag is neither in required nor in forbidden")
            if not 0 < weight < float("inf"):
                raise ValueError(f"severity.{tag} = {weight} is not a positive number")
        return self

    @model_validator(mode="after")
    def _named(self) -> Self:
        """Words are one line each and not empty; ids of outfits name pictures of a release."""
        for field, word in self._words():
            if not word.strip() or len(word) > LONGEST_WORD or not is_printable(word):
                remedy = (
                    f"write 1 to {LONGEST_WORD} characters on one line, without control characters"
                )
                raise InputError(f"character.{field}", repr(word), remedy)
        ids = [check_name(outfit.id, "character.outfits.id") for outfit in self.outfits]
        if twice := next((id for id in ids if ids.count(id) > 1), None):
            raise InputError(
                "character.outfits.id", twice, "names two outfits; give each an id of its own"
            )
        check_distinct(ids, "character.outfits.id")
        return self

    def _words(self) -> Iterator[tuple[str, str]]:
        """Field and text of everything that becomes a part of a prompt or a name."""
        yield from (("name", self.name), ("trigger", self.trigger), ("count_tag", self.count_tag))
        yield from (("author.name", self.author.name), ("license", self.license))
        for field in ("tags", "required", "forbidden", "free", "palette"):
            yield from ((field, word) for word in getattr(self, field))
        yield from (("outfits.label", outfit.label) for outfit in self.outfits)
        yield from (("outfits.tags", tag) for outfit in self.outfits for tag in outfit.tags)

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        """The content policy for all words of the sheet, with the author's rating."""
        outfits = [word for outfit in self.outfits for word in (outfit.label, *outfit.tags)]
        words = [
            self.name,
            self.trigger,
            self.count_tag,
            *self.tags,
            self.description,
            *self.required,
            *outfits,
        ]
        check_text(f"{', '.join(words)}, rating {self.rating}", "character")
        return self


def load_character(path: Path) -> Character:
    """Read a model sheet. Raises InputError naming the field when it is missing or wrong."""
    return parse_character(read_toml(path, "character"), str(path))


def parse_character(table: Any, where: str) -> Character:
    """Build the sheet from TOML tables: `[character]` and, inside it, traits, palette, outfits,
    author."""
    field = f"{where}: character"
    sheet = table.get("character", table) if isinstance(table, dict) else table
    check_values(field, sheet)
    try:
        return Character.model_validate(sheet)
    except ValidationError as error:
        raise InputError.of(error, field) from error
