"""character.toml, the model sheet: who she is, what must, may and must not be drawn, and the author's words."""

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from onmodel.errors import InputError
from onmodel.policy import check_text


class Sheet(BaseModel):
    """Base of the sheet's tables: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Outfit(Sheet):
    """One outfit: `tags` say it in prompts."""

    id: str
    label: str
    tags: list[str]


class Author(Sheet):
    """The author's own words; onmodel places them and never writes law."""

    name: str
    disclaimer: str = ""
    terms: str = ""
    credits: str = ""


class Character(Sheet):
    """The model sheet. `tags` describe the design without the trigger (control arm D); colours are #rrggbb.

    `severity`: how much the absence of a required tag, or the presence of a forbidden one, weighs; 1 where nothing is
    said.
    """

    name: str
    trigger: str
    count_tag: str = "1girl"
    tags: list[str]
    description: str
    required: list[str] = []
    forbidden: list[str] = []
    severity: dict[str, float] = {}
    free: list[str]
    palette: dict[str, str]
    outfits: list[Outfit]
    author: Author
    license: str
    rating: str = Field(pattern="^(safe|sensitive|explicit)$")

    @field_validator("palette")
    @classmethod
    def _colours(cls, palette: dict[str, str]) -> dict[str, str]:
        for name, colour in palette.items():
            if len(colour) != 7 or colour[0] != "#" or not set(colour[1:].lower()) <= set("0123456789abcdef"):
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
    def _allowed(self) -> Self:
        """The content policy over everything that she is and may be called, with the author's rating."""
        outfits = [word for outfit in self.outfits for word in (outfit.label, *outfit.tags)]
        words = [self.name, self.trigger, self.count_tag, *self.tags, self.description, *self.required, *outfits]
        check_text(f"{', '.join(words)}, rating {self.rating}", "character")
        return self


def load_character(path: Path) -> Character:
    """Read a model sheet. Raises InputError naming the field when it is missing or wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("character", path, "no such file; name a character.toml") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError("character", path, f"not valid TOML: {error}") from error
    return parse_character(table, str(path))


def parse_character(table: dict[str, object], where: str) -> Character:
    """Build the sheet from TOML tables: `[character]` and, inside it, traits, palette, outfits, author."""
    try:
        return Character.model_validate(table.get("character", table))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: character.{field}", first.get("input"), first["msg"]) from error
