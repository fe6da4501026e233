"""`onmodel settings [VERB[.FIELD]]`: what a recipe can set."""

from dataclasses import asdict
from typing import Annotated

import typer

from onmodel.cli.console import say_json
from onmodel.cli.options import JSON
from onmodel.errors import InputError
from onmodel.stages import VERBS


def command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[VERB[.FIELD]]", help="A verb, or one of its settings.", show_default=False
        ),
    ] = "",
    as_json: JSON = False,
) -> None:
    """List the settings of a verb: type, default and meaning. Default: of all verbs."""
    import difflib

    verb, _, name = what.partition(".")
    if verb and verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1) or VERBS
        raise InputError("VERB", verb, f"unknown; use {', '.join(near)}")
    from onmodel.stages.catalogue import settings_of

    rows = [row for one in VERBS if verb in ("", one) for row in settings_of(one)]
    if name:
        known = [row.name for row in rows]
        rows = [row for row in rows if row.name == name]
        if not rows:
            near = difflib.get_close_matches(name, known, n=1) or known
            raise InputError("FIELD", what, f"unknown; {verb} has {', '.join(near)}")
    if as_json:
        say_json([asdict(row) for row in rows])
        return
    from rich.table import Table
    from rich.text import Text

    from onmodel.cli.console import PlainConsole

    table = Table("setting", "type", "default", "meaning", box=None, pad_edge=False)
    for row in rows:
        place = f"{row.verb}: {row.table}" if row.table else row.verb
        cells = (f"{place}.{row.name}", row.type, row.default, row.meaning)
        table.add_row(*map(Text, cells))
    PlainConsole().print(table)
