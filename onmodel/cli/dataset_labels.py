"""`onmodel dataset labels`: how strictly each subset is labelled, and which tags stand for
others."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say
from onmodel.errors import InputError


def command(
    work: Annotated[
        Path,
        typer.Argument(help="The folder that `onmodel dataset import` made.", show_default=False),
    ],
    strict: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "subset=attribute,…: what each picture of it must say, and be seen to show; subset="
                " for none."
            )
        ),
    ] = None,
    aliases: Annotated[
        Path | None,
        typer.Option(
            help=(
                "A CSV of alias,tag, or a tag list: tag,category,count,'alias,alias'. Replaces the"
                " last."
            )
        ),
    ] = None,
) -> None:
    """Set what the audit holds labels to; without an option, say it. Kept with the data set; `undo`
    takes it back."""
    from onmodel.curate.vocabulary import read_aliases
    from onmodel.curate.workshop import Decision, keep_aliases, open_workshop

    workshop = open_workshop(work)
    known = dict.fromkeys(piece.subset for piece in workshop.pieces.values())
    rows = []
    for subset, attributes in map(parse_strict, strict or []):
        if subset not in known:
            raise InputError(
                "strict", subset, f"no subset is called so; there are {', '.join(known)}"
            )
        rows.append(Decision(0, "strict", "person", subset=subset, add=attributes))
    if aliases:
        rows.append(keep_aliases(work, read_aliases(aliases), aliases.name))
    if rows:
        workshop = workshop.decide(rows)
    for subset, attributes in workshop.strict.items():
        say(f"{subset} must say {', '.join(attributes) or 'nothing'}")
    say(f"{len(workshop.aliases)} aliases" if workshop.aliases else "no list of aliases")
    if rows:
        say(f"audit again to see what that finds; `onmodel dataset undo {work}` takes it back")


def parse_strict(text: str) -> tuple[str, tuple[str, ...]]:
    """Subset and attributes, from `subset=attribute,…`. Raises InputError."""
    from onmodel.curate.vocabulary import attributes_known

    subset, equals, names = text.partition("=")
    attributes = tuple(name.strip() for name in names.split(",") if name.strip())
    if not equals:
        raise InputError("strict", text, "write subset=attribute,…, e.g. base=expression,pose")
    for name in attributes:
        if name not in (known := attributes_known()):
            raise InputError(
                "strict", name, f"no attribute is called so; there are {', '.join(known)}"
            )
    return subset, attributes
