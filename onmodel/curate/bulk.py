"""Edit the tags of many pictures at once, as one step that `undo` takes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onmodel.curate.workshop import Decision, Piece, Workshop
from onmodel.dataset.captions import split_tags
from onmodel.errors import InputError

Place = Literal["first", "last"]


@dataclass(frozen=True)
class TagEdit:
    """What is done to the tags of each picture, in this order: `remove`, `replace` (old → new, in
    its place), `add` at the beginning or the end, `front` moved to the beginning."""

    remove: tuple[str, ...] = ()
    replace: Mapping[str, str] | None = None
    add: tuple[str, ...] = ()
    place: Place = "last"
    front: tuple[str, ...] = ()

    def of(self, tags: Sequence[str]) -> tuple[str, ...]:
        """The tags after the edit, each once."""
        renamed = self.replace or {}
        kept = [renamed.get(tag, tag) for tag in tags if tag not in self.remove]
        new = [tag for tag in self.add if tag not in kept]
        whole = [*new, *kept] if self.place == "first" else [*kept, *new]
        moved = [tag for tag in self.front if tag in whole]
        return tuple(dict.fromkeys([*moved, *whole]))


@dataclass(frozen=True)
class Changed:
    """A picture whose tags an edit changes."""

    picture: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def parse_edit(
    remove: str = "", replace: str = "", add: str = "", place: str = "last", front: str = ""
) -> TagEdit:
    """An edit from text: tags with commas between them; `replace` is `old=new, old=new`. Raises
    InputError for an edit that does nothing, and for a replacement without `=`."""
    pairs: dict[str, str] = {}
    for row in split_tags(replace):
        old, equals, new = (part.strip() for part in row.partition("="))
        if not (old and equals and new):
            raise InputError("replace", row, "write old=new")
        if pairs.get(old, new) != new:
            raise InputError("replace", old, f"becomes {pairs[old]} or {new}; name it once")
        pairs[old] = new
    if place not in ("first", "last"):
        raise InputError("place", place, "use first or last")
    lists = [tuple(split_tags(text)) for text in (remove, add, front)]
    if not (pairs or any(lists)):
        raise InputError("edit", "nothing", "name tags to remove, replace, add or move")
    return TagEdit(lists[0], pairs, lists[1], "first" if place == "first" else "last", lists[2])


def changes(pieces: Sequence[Piece], edit: TagEdit) -> list[Changed]:
    """The pictures that the edit changes, with their tags before and after."""
    rows = [Changed(piece.name, before := tuple(piece.words), edit.of(before)) for piece in pieces]
    return [row for row in rows if row.before != row.after]


def missing_tags(pieces: Sequence[Piece], edit: TagEdit) -> list[str]:
    """The tags that the edit removes, replaces or moves, and no picture has."""
    there = {word for piece in pieces for word in piece.words} | set(edit.add)
    asked = dict.fromkeys([*edit.remove, *(edit.replace or {}), *edit.front])
    return [tag for tag in asked if tag not in there]


def edit_tags(workshop: Workshop, rows: Sequence[Changed]) -> Workshop:
    """Record changed tags as one step of the journal; returns the new state."""
    return workshop.decide(
        [
            Decision(0, "tag", "person", row.picture, row.before, row.after, "edited together")
            for row in rows
        ]
    )
