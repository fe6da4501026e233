"""Checks after an import: each file entered the data set or is named with its reason."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.hostile.case import Place

Check = Callable[[Place], list[str]]


def read(place: Place) -> Mapping[str, Any]:
    """The workshop that an import into {out}/work made."""
    table: Mapping[str, Any] = json.loads(
        (place.out / "work" / "pictures.json").read_text(encoding="utf-8")
    )
    return table


def refused(*names: str, entered: int | None = 1) -> Check:
    """Each name is refused with a reason; `entered` others are in (None: any number)."""

    def check(place: Place) -> list[str]:
        table = read(place)
        given = [row["file"] for row in table["refused"] if len(row["reason"]) > 4]
        found = [
            f"{name} is not refused" for name in names if not any(name in file for file in given)
        ]
        if entered is not None and len(table["pictures"]) != entered:
            found.append(f"{len(table['pictures'])} pictures entered, not {entered}")
        return [*found, f"refused: {table['refused']}"] if found else []

    return check


def entered(count: int) -> Check:
    """`count` pictures are in, nothing is refused."""

    def check(place: Place) -> list[str]:
        table = read(place)
        if len(table["pictures"]) == count and not table["refused"]:
            return []
        return [
            f"{len(table['pictures'])} pictures entered, not {count}; refused: {table['refused']}"
        ]

    return check


def told(count: int, inside: int = 0) -> Check:
    """Each of `count` files is in or refused with a reason, or lies in a folder inside, which the
    command names; none is lost without a word."""

    def check(place: Place) -> list[str]:
        table = read(place)
        total = len(table["pictures"]) + len(table["refused"]) + inside
        if total >= count and all(row["reason"] for row in table["refused"]):
            return []
        return [f"{total} of {count} files are in or refused"]

    return check
