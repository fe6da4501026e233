"""What an import must have left: every file of the heap is either a picture of the set, or named
with its reason."""

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


def refused(name: str, entered: int | None = 1) -> Check:
    """`name` is refused with a reason and the `entered` others are in; None where it does not
    matter how many."""

    def check(place: Place) -> list[str]:
        table, found = read(place), []
        if not any(name in row["file"] and len(row["reason"]) > 4 for row in table["refused"]):
            found.append(f"{name} is not among the refused: {table['refused']}")
        if entered is not None and len(table["pictures"]) != entered:
            found.append(f"{len(table['pictures'])} pictures entered, not {entered}")
        return found

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


def told(count: int) -> Check:
    """Each of `count` files is in or refused with a reason; none is lost without a word."""

    def check(place: Place) -> list[str]:
        table = read(place)
        total = len(table["pictures"]) + len(table["refused"])
        if total >= count and all(row["reason"] for row in table["refused"]):
            return []
        return [f"{total} of {count} files are in or refused"]

    return check
