"""A change of a model sheet: comments and order stay, and only a right sheet is written."""

from collections.abc import Sequence
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError

from onmodel.character import parse_character
from onmodel.errors import InputError
from onmodel.hashing import write_atomic


def save_design(sheet: Path, tags: Sequence[str], description: str) -> None:
    """Write the character's tags and her description into character.toml. A tag that is new is
    required, too; one that is gone no longer is. Raises InputError where the sheet would be wrong;
    nothing is written then."""
    if not sheet.is_file():
        raise InputError("character", sheet.name, "is not there; the recipe names another one")
    try:
        text = tomlkit.parse(sheet.read_text(encoding="utf-8"))
    except TOMLKitError as error:
        raise InputError("character", sheet.name, f"is no TOML ({error})") from error
    table = text.get("character", text)
    before, required = table.get("tags", []), table.get("required", [])
    table["tags"] = list(tags)
    table["required"] = [tag for tag in tags if tag in required or tag not in before]
    table["description"] = description
    parse_character(text.unwrap(), sheet.name)
    write_atomic(sheet, tomlkit.dumps(text).encode())
