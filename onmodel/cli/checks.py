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
    from onmodel.release.weight_checks import who_loads

    with on_terminal() as events, events.task(f"check {path.name}", total=1):
        found = check(path)
        loads = who_loads(path) if path.suffix == ".safetensors" else {}
    errors = sum(row.status == "fail" for row in found)
    if as_json:
        findings = [asdict(row) for row in found]
        say_json({"path": str(path), "errors": errors, "findings": findings, "loads": loads})
    elif not found:
        say(f"{path}: nothing found")
    else:
        console = PlainConsole()
        for row in found:
            show(console, row)
        say(f"{errors} errors, {len(found) - errors} warnings")
    if loads and not as_json:
        counts = (f"{loader} {count} of {total}" for loader, (count, total) in loads.items())
        say(f"layers loaded: {', '.join(counts)}")
    if errors:
        raise typer.Exit(1)
