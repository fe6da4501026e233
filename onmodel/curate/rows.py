"""Rows of a data set's JSON files: checked, and held in little memory."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, PlainValidator, TypeAdapter, ValidationError

from onmodel.text import shown

Row = TypeVar("Row")


def _path(value: object) -> Path:
    if not isinstance(value, str | Path):
        raise ValueError("should be a path")
    return Path(value)


Tag = Annotated[str, AfterValidator(sys.intern)]  # 20,000 pictures have a few hundred of them
PathText = PlainValidator(_path)  # half the time of pydantic's own


def valid(kind: TypeAdapter[Row], row: object) -> Row:
    """A row of JSON as what it stands for. Raises ValueError with its first fault in words."""
    if not isinstance(row, dict):
        raise ValueError(f"{shown(row)} is no table of keys and values")
    try:
        return kind.validate_python(row)
    except ValidationError as error:
        first = error.errors()[0]
    key = shown(".".join(map(str, first["loc"])))
    if first["type"] == "missing":
        raise ValueError(f"{key} is missing")
    if first["type"] == "unexpected_keyword_argument":
        raise ValueError(f"{key} is no known key")
    if first["type"] == "dataclass_type":
        raise ValueError(f"{key}: {shown(first['input'])} is no table of keys and values")
    fault = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    raise ValueError(f"{key}: {shown(first['input'])} {fault}")


@contextmanager
def without_collections() -> Iterator[None]:
    """Python looks for unreachable objects again and again while many are made; none is here."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
