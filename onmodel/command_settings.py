"""Settings of one command or function: a frozen dataclass whose fields carry help, range and flags.

The command line makes one option per field (cli/options.py). Ranges are checked here, so that a
call from Python is checked as well.
"""

import math
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from onmodel.errors import InputError


@dataclass(frozen=True)
class Meaning:
    """What a field means: help text, smallest and largest value, a short flag such as "-n", the
    name that the option has instead of the field's, an environment variable that gives the
    default."""

    help: str
    least: float | None = None
    most: float | None = None
    short: str = ""
    name: str = ""
    environment: str = ""


def option(help: str, default: Any = MISSING, **details: Any) -> Any:
    """A field of a CommandSettings class. Without `default` the option must be given."""
    meaning = {"meaning": Meaning(help, **details)}
    return (
        field(metadata=meaning) if default is MISSING else field(default=default, metadata=meaning)
    )


def meaning_of(metadata: Any) -> Meaning:
    """The meaning that `option` gave to a dataclass field's metadata."""
    found: Meaning = metadata["meaning"]
    return found


@dataclass(frozen=True, kw_only=True)
class CommandSettings:
    """Base of all settings dataclasses. Raises InputError for a number outside its range, nan and
    the infinities."""

    def __post_init__(self) -> None:
        for row in fields(self):
            value, meaning = getattr(self, row.name), meaning_of(row.metadata)
            if not isinstance(value, int | float):
                continue
            flag = meaning.name or f"--{row.name.replace('_', '-')}"
            if not math.isfinite(value):
                raise InputError(flag, value, "must be a finite number")
            if meaning.least is not None and value < meaning.least:
                raise InputError(flag, value, f"must be at least {meaning.least}")
            if meaning.most is not None and value > meaning.most:
                raise InputError(flag, value, f"must be at most {meaning.most}")
