"""Read small files of unknown origin: regular files, limited in size and depth, UTF-8, parsed to
plain values.

Every fault is an InputError that names the field, the file and what to do. Pictures and weights
have their own readers (curate/ingest.py, weights.py).
"""

import codecs
import json
import math
import os
import re
import stat
import tomllib
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from onmodel.errors import InputError

LARGEST_TEXT = 16 * 2**20  # bytes
MOST_VALUES = 2_000_000  # of a parsed file; YAML can name one list a million times in a few bytes
DEEPEST = 64
# Limits of one value that a person writes into a recipe or a model sheet.
LARGEST_WHOLE = 10**15  # JSON keeps whole numbers up to 2^53, also the sum of two of these
LONGEST_TEXT = 20_000  # characters
LONGEST_LIST = 10_000
DEEPEST_SETTING = 16
_PATH_CURE = "in double quotes a backslash is an escape; write the path with / or in single quotes"
# Of parsers that do not say it themselves.
_ESCAPE_CURES = {"YAML": _PATH_CURE, "JSON": "a backslash is an escape; write the path with /"}


def open_regular(path: Path, field: str, follow: bool = True) -> BinaryIO:
    """A regular file, open for reading. Pipes, devices and sockets are refused without waiting.

    With `follow` false a link is refused, too: a folder of others must not reach files outside it.
    """
    flags = (
        os.O_RDONLY
        | getattr(os, "O_NONBLOCK", 0)
        | getattr(os, "O_BINARY", 0)
        | getattr(os, "O_CLOEXEC", 0)
    )
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
        raise InputError(field, path, "is not a regular file; name a file on the disk")
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
    """UTF-8 text, with or without a byte order mark, or UTF-16 text with one."""
    try:
        return decode_text(read_bytes(path, field, most))
    except UnicodeDecodeError as error:
        raise InputError(
            field, path, f"is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from error


def decode_text(data: bytes) -> str:
    """UTF-8 text, or UTF-16 text with its byte order mark, as editors on Windows write it. Raises
    UnicodeDecodeError."""
    marked = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return data.decode("utf-16" if marked else "utf-8-sig")


def read_toml(path: Path, field: str) -> dict[str, Any]:
    """The tables of a TOML file."""
    table: dict[str, Any] = _parsed(path, field, "TOML", _toml)
    _check_paths(table, path, field)
    return table


def _toml(text: str) -> dict[str, Any]:
    """Parsed TOML. Raises ValueError, with the cure for a line that holds a Windows path in double
    quotes."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"at line (\d+)", str(error))
        lines = text.splitlines()
        line = lines[int(at[1]) - 1] if at and int(at[1]) <= len(lines) else ""
        quoted = re.search(r'"([^"\n]*\\[^"\n]*)"', line)
        if quoted is None:
            raise
        raise ValueError(f"{error}; {_PATH_CURE}: '{quoted[1][:80]}'") from error


def path_cure(text: str) -> str:
    r"""What to write instead of a path whose backslashes were read as tabs and line ends, such as
    "heap\train"; "" for another text."""
    return _PATH_CURE if re.search(r"[\x00-\x1f]", text) else ""


def _check_paths(value: Any, path: Path, field: str) -> None:
    """Raise InputError for a text such as "D:\\train", whose backslash was read as a tab."""
    if isinstance(value, str) and re.match(r"[A-Za-z]:[\x00-\x1f]", value):
        shown = value.encode("unicode_escape").decode("ascii")[:80]
        raise InputError(field, path, f'holds the path "{shown}"; {_PATH_CURE}')
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        _check_paths(one, path, field)


def read_json_of_others(path: Path, field: str, most: int = LARGEST_TEXT) -> Any:
    """The value of a JSON file that onmodel did not write itself (its own: hashing.read_json)."""
    return _parsed(path, field, "JSON", parse_json, most)


def parse_json(text: str, most: int = MOST_VALUES) -> Any:
    """One JSON value that every reader takes alike: a key that stands twice in a table is refused.

    Raises ValueError, also for what is nested too deep or holds more than `most` values.
    """
    try:
        value = json.loads(text, object_pairs_hook=_table)
    except RecursionError as error:
        raise ValueError(f"is nested deeper than {DEEPEST} levels; write it flatter") from error
    if fault := _size_fault(value, most):
        raise ValueError(fault)
    return value


def read_yaml(path: Path, field: str) -> Any:
    """The value of a YAML file: plain tables, lists and texts; no tag makes an object."""
    import yaml

    return _parsed(path, field, "YAML", yaml.safe_load)


def parse_yaml_in(text: str, path: Path, field: str) -> Any:
    """The value of YAML that stands inside a file, such as the front matter of a model card. Raises
    InputError."""
    import yaml

    return _value(text, path, field, "YAML", yaml.safe_load)


def parse_json_in(text: str, path: Path, field: str) -> Any:
    """The value of JSON that stands inside a file, such as the header of a safetensors file. Raises
    InputError."""
    return _value(text, path, field, "JSON", parse_json)


def _parsed(
    path: Path, field: str, form: str, parse: Callable[[str], Any], most: int = LARGEST_TEXT
) -> Any:
    return _value(read_text(path, field, most), path, field, form, parse)


def _value(text: str, path: Path, field: str, form: str, parse: Callable[[str], Any]) -> Any:
    import yaml

    try:
        value = parse(text)
    except RecursionError as error:
        raise InputError(
            field, path, f"is nested deeper than {DEEPEST} levels; write it flatter"
        ) from error
    except (ValueError, TypeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        if "escape" in reason and form in _ESCAPE_CURES:
            reason += f"; {_ESCAPE_CURES[form]}"
        raise InputError(field, path, f"not valid {form}: {reason}") from error
    if fault := _size_fault(value, MOST_VALUES):
        raise InputError(field, path, fault)
    return value


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Duplicate keys are refused: readers differ in which one they use."""
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {key[:80]!r} stands twice in a table")
        table[key] = value
    return table


def _size_fault(value: Any, most: int) -> str | None:
    """What is too deep or too large, counting YAML aliases at every place; None otherwise."""
    count, level = 0, [value]
    for _ in range(DEEPEST + 1):
        if not all(map(_is_whole, level)):
            return "holds an escape of half a character, such as \\ud800; leave it out"
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        count += len(level)
        if count > most:
            return f"holds more than {most} values; name another file"
        if not level:
            return None
    return f"is nested deeper than {DEEPEST} levels; write it flatter"


def check_values(field: str, value: Any, depth: int = 0) -> None:
    """Raise InputError for a value that no setting can mean, at any depth of tables and lists.

    Refused are numbers that are not finite or too large for JSON, dates, control characters but for
    tabs and line ends, and texts, lists and tables of absurd size.
    """
    if fault := _fault(value, depth):
        raise InputError(field, value, fault)
    if isinstance(value, dict):
        for key, inner in value.items():
            check_values(field, key, DEEPEST_SETTING)
            check_values(f"{field}.{key}", inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_values(field, inner, depth + 1)


def _fault(value: Any, depth: int) -> str | None:
    match value:
        case None | bool() | Path():
            return None
        case int():
            return (
                f"write a whole number up to {LARGEST_WHOLE}"
                if abs(value) > LARGEST_WHOLE
                else None
            )
        case float():
            return None if math.isfinite(value) else "write a finite number"
        case str():
            if len(value) > LONGEST_TEXT:
                return f"is longer than {LONGEST_TEXT} characters"
            hidden = any(
                unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\t\n\r"
                for sign in value
            )
            return "leave out control characters" if hidden else None
        case list() | tuple() | dict():
            if len(value) > LONGEST_LIST:
                return f"has {len(value)} entries; at most {LONGEST_LIST}"
            return (
                f"is nested deeper than {DEEPEST_SETTING} levels; write it flatter"
                if depth > DEEPEST_SETTING
                else None
            )
        case _:
            return 'cannot be set; write a date in quotes, e.g. "2026-11-22"'


def _is_whole(value: Any) -> bool:
    """Whether a value can be written as UTF-8, with the names in a table: escapes can spell half of
    a character."""
    texts = value if isinstance(value, dict) else [value]
    return all(
        text.isascii() or text.isprintable() or _is_utf8(text)
        for text in texts
        if isinstance(text, str)
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
