"""The base of every table that a user writes: the settings in a recipe and the model sheet."""

from itertools import chain
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class StrictTable(BaseModel):
    """A frozen table that refuses unknown keys, and true or false where a number is due."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_as_number(cls, value: object, info: ValidationInfo) -> object:
        """Pydantic reads true as 1."""
        types = _types_in(cls.model_fields[str(info.field_name)].annotation)
        number = (int in types or float in types) and bool not in types and Any not in types
        if number and _holds_bool(value):
            raise ValueError("is true or false; write a number")
        return value


def _types_in(annotation: Any) -> list[Any]:
    """An annotation and all that it is made of, e.g. the types of a union."""
    return [annotation, *chain.from_iterable(map(_types_in, get_args(annotation)))]


def _holds_bool(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_bool, value.values()))
    return any(map(_holds_bool, value)) if isinstance(value, list) else isinstance(value, bool)
