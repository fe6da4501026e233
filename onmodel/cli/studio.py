"""`onmodel studio [FOLDER]`: the pages of a workspace, in the browser."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say


def command(
    folder: Annotated[Path, typer.Argument(help="Workspace: a folder per character.")] = Path(),
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root",
            help="Folder below which new characters find pictures and ComfyUI. May be repeated.",
        ),
    ] = None,
    card: Annotated[
        list[int] | None,
        typer.Option(
            "--card",
            min=0,
            help="Number of a CUDA card that runs may use, one run on each. May be repeated.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1. 0: any free port.")] = 0,
) -> None:
    """Serve the studio on this machine until Ctrl-C. Runs that it started go on."""
    from onmodel.errors import InputError

    try:
        from onmodel.studio.server import serve
        from onmodel.studio.workspace import open_workspace
    except ModuleNotFoundError as error:
        raise InputError(
            "studio", error.name, "is not installed; pip install 'onmodel[studio]'"
        ) from error
    serve(open_workspace(folder, root or []), port, ready=say, cards=card or ())
