"""`onmodel clean PROJECT [RECIPE …]`: what no recipe needs any more, told or freed."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say, say_json


def command(
    project: Annotated[Path, typer.Argument(help="A project folder.", show_default=False)],
    recipes: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RECIPE",
            help="Every recipe whose results are kept; without one, all results are.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Free it; without this option nothing is removed.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print paths and bytes as JSON on stdout.")
    ] = False,
) -> None:
    """List what no recipe needs any more, with its size: leftovers and, beside the recipes named,
    other results."""
    from rich.filesize import decimal

    from onmodel.cli.render import on_terminal
    from onmodel.engine.clean import free, survey
    from onmodel.engine.project import Project
    from onmodel.errors import InputError
    from onmodel.recipe import load_recipe

    if not (project / "onmodel.db").is_file():
        raise InputError("project", project, "is no project folder; it has no onmodel.db")
    kept = [load_recipe(path) for path in recipes or ()]
    with on_terminal() as events:
        found = (free if yes else survey)(Project(project), kept, events)
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
    say(f"freed {total}" if yes else f"{total} can be freed; add --yes to do it")
