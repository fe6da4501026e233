"""`onmodel lora check` and `onmodel release check`: one function, on a file and on a folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import PlainConsole, say, say_json
from onmodel.cli.options import JSON


def check_command(
    path: Annotated[
        Path, typer.Argument(help="A folder or a .safetensors file.", show_default=False)
    ],
    as_json: JSON = False,
) -> None:
    """List what is wrong with a LoRA or a release, one finding a line. Exit code 1 for errors."""
    from onmodel.cli.render import on_terminal, show
    from onmodel.release.check import check

    with on_terminal() as events, events.task(f"check {path.name}", total=1):
        found = check(path)
    errors = sum(row.status == "fail" for row in found)
    if as_json:
        say_json({"path": str(path), "errors": errors, "findings": [asdict(row) for row in found]})
    elif not found:
        say(f"{path}: nothing found")
    else:
        console = PlainConsole()
        for row in found:
            show(console, row)
        say(f"{errors} errors, {len(found) - errors} warnings")
    if errors:
        raise typer.Exit(1)
