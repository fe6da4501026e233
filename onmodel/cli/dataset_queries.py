"""`onmodel dataset list|tags`: the commands that take a query (curate/query.py)."""

from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli.console import say, say_json
from onmodel.cli.options import DRY_RUN, JSON, WORK

if TYPE_CHECKING:
    from onmodel.curate.workshop import Piece, Workshop

SHOWN = 5  # changed pictures that are printed
QUERY = Annotated[
    str,
    typer.Argument(
        help=(
            "Terms that must all hold, e.g. 'subset:base tag:smile -is:excluded'. Keys: subset,"
            " tag, by, name, text, finding, origin, rights, is. Without a key: text. Default: all."
        )
    ),
]


def list_command(work: WORK, query: QUERY = "", as_json: JSON = False) -> None:
    """List the pictures that a query finds, with their tags."""
    from onmodel.curate.workshop import open_workshop

    found = _found(open_workshop(work), query)
    if as_json:
        keys = ("name", "subset", "words", "sentence", "origin", "rights", "aside")
        say_json([{key: getattr(piece, key) for key in keys} for piece in found])
        return
    for piece in found:
        excluded = f" (excluded: {piece.aside})" if piece.aside else ""
        say(f"{piece.name}{excluded}: {', '.join(piece.words)}")
    say(f"{len(found)} pictures", stderr=True)


def tags_command(
    work: WORK,
    query: QUERY = "",
    remove: Annotated[str, typer.Option(help="Tags to remove: 'a, b'.")] = "",
    replace: Annotated[str, typer.Option(help="Tags to replace: 'old=new, old=new'.")] = "",
    add: Annotated[str, typer.Option(help="Tags to add where they are missing: 'a, b'.")] = "",
    place: Annotated[str, typer.Option(help="Where they are added: first or last.")] = "last",
    front: Annotated[str, typer.Option(help="Tags to move to the beginning: 'a, b'.")] = "",
    dry_run: DRY_RUN = False,
) -> None:
    """Edit the tags of every picture that a query finds, as one step. `undo` takes it back."""
    from onmodel.curate.bulk import changes, edit_tags, missing_tags, parse_edit
    from onmodel.curate.workshop import open_workshop

    edit = parse_edit(remove, replace, add, place, front)
    workshop = open_workshop(work)
    pieces = _found(workshop, query)
    rows = changes(pieces, edit)
    if missing := missing_tags(pieces, edit):
        say(f"no picture found has the tag {', '.join(missing)}", stderr=True)
    for row in rows if dry_run else rows[:SHOWN]:
        say(f"{row.picture}: {', '.join(row.after)}")
    if rows and not dry_run:
        edit_tags(workshop, rows)
        say(f"{len(rows)} pictures changed; `onmodel dataset undo {work}` takes it back")
    else:
        say(f"{len(rows)} pictures would change; nothing is changed" if rows else "no change")


def _found(workshop: "Workshop", query: str) -> "list[Piece]":
    """The pictures that a query finds; findings are those of the last audit, if there was one."""
    from onmodel.curate.findings import kinds_by_picture, read_findings
    from onmodel.curate.query import PictureFacts, search

    audited = (workshop.folder / "audit.json").exists()
    kinds = kinds_by_picture(read_findings(workshop.folder)) if audited else {}
    return search(workshop.pieces.values(), query, PictureFacts(kinds))
