"""The one gate for small files of others: a regular file, bounded in size and depth, UTF-8, parsed to plain values.

Every fault is an InputError that names the field, the file and what to do. Pictures and weights have readers of their
own (curate/ingest.py, models/weights.py).
"""

import json
import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from onmodel.errors import InputError

LARGEST_TEXT = 16 * 2**20  # bytes
MOST_VALUES = 2_000_000  # of a parsed file; YAML can name one list a million times in a few bytes
DEEPEST = 64


def open_regular(path: Path, field: str, follow: bool = True) -> BinaryIO:
    """A regular file, open for reading. Pipes, devices and sockets are refused without waiting.

    With `follow` false a link is refused, too: a folder of others must not reach files outside it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        if not follow and path.is_symlink():
            raise InputError(field, path, "is a link; put the file itself there")
        file = os.fdopen(os.open(path, flags), "rb")
    except FileNotFoundError as error:
        raise InputError(field, path, "no such file; check the path") from error
    except IsADirectoryError as error:
        raise InputError(field, path, "is a folder; name a file") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, field, error) from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise InputError(field, path, "is no regular file; name a file on the disk")
    return file


def read_bytes(path: Path, field: str, most: int = LARGEST_TEXT, follow: bool = True) -> bytes:
    """The bytes of a regular file of at most `most` bytes, opened by `open_regular`."""
    with open_regular(path, field, follow) as file:
        try:
            data = file.read(most + 1)
        except OSError as error:
            raise _unreadable(path, field, error) from error
    if len(data) > most:
        raise InputError(field, path, f"is larger than {most / 2**20:g} MiB; name another file")
    return data


def _unreadable(path: Path, field: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(field, path, f"cannot be read ({reason}); check the path and its permissions")


def read_text(path: Path, field: str, most: int = LARGEST_TEXT) -> str:
    """UTF-8 text, with or without a byte order mark."""
    try:
        return read_bytes(path, field, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(field, path, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def read_toml(path: Path, field: str) -> dict[str, Any]:
    """The tables of a TOML file."""
    table: dict[str, Any] = _parsed(path, field, "TOML", tomllib.loads)
    return table


def read_json_of_others(path: Path, field: str) -> Any:
    """The value of a JSON file that onmodel did not write itself (its own: hashing.read_json)."""
    return _parsed(path, field, "JSON", json.loads)


def read_yaml(path: Path, field: str) -> Any:
    """The value of a YAML file: plain tables, lists and texts; no tag makes an object."""
    import yaml

    return _parsed(path, field, "YAML", yaml.safe_load)


def parse_json(text: str, path: Path, field: str) -> Any:
    """The value of JSON that stands inside a file, such as the header of a safetensors file."""
    return _value(text, path, field, "JSON", json.loads)


def _parsed(path: Path, field: str, form: str, parse: Callable[[str], Any]) -> Any:
    return _value(read_text(path, field), path, field, form, parse)


def _value(text: str, path: Path, field: str, form: str, parse: Callable[[str], Any]) -> Any:
    import yaml

    try:
        value = parse(text)
    except RecursionError as error:
        raise InputError(field, path, f"is nested deeper than {DEEPEST} levels; write it flatter") from error
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(field, path, f"not valid {form}: {reason}") from error
    _check_size(value, path, field)
    return value


def _check_size(value: Any, path: Path, field: str) -> None:
    """Refuse what is too deep or too much, also where one value stands at many places (YAML aliases)."""
    count, level = 0, [value]
    for _ in range(DEEPEST + 1):
        level = [inner for outer in level if isinstance(outer, dict | list)
                 for inner in (outer.values() if isinstance(outer, dict) else outer)]  # fmt: skip
        count += len(level)
        if count > MOST_VALUES:
            raise InputError(field, path, f"holds more than {MOST_VALUES} values; name another file")
        if not level:
            return
    raise InputError(field, path, f"is nested deeper than {DEEPEST} levels; write it flatter")
