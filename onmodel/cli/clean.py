"""`onmodel clean PROJECT [RECIPE …]`: list what no recipe needs any more, and delete it."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say, say_json
from onmodel.cli.options import JSON, MADE, YES, made_project


def command(
    project: MADE,
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RECIPE",
            help="Recipes whose results are kept. Default: all results are kept.",
            show_default=False,
        ),
    ] = None,
    yes: YES = False,
    as_json: JSON = False,
) -> None:
    """List what no recipe needs any more. With --yes, delete it."""
    from rich.filesize import decimal

    from onmodel.cli.render import on_terminal
    from onmodel.engine.clean import free, survey
    from onmodel.recipe import load_recipe

    opened = made_project(project)
    kept = [load_recipe(path) for path in recipes or ()]
    with on_terminal() as events:
        found = (free if yes else survey)(opened, kept, events)
    if as_json:
        rows = {
            kind: {"bytes": found.bytes[kind], "paths": list(map(str, paths))}
            for kind, paths in found.paths.items()
        }
        say_json({"freed": yes, "kinds": rows, "notes": list(found.notes)})
        return
    for kind, paths in found.paths.items():
        say(f"{kind}: {len(paths)}, {decimal(found.bytes[kind])}")
    for note in found.notes:
        say(note)
    total = decimal(sum(found.bytes.values()))
    say(f"freed {total}" if yes else f"{total} can be freed; add --yes")
