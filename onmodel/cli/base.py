"""`onmodel base …`: files of a base model."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say
from onmodel.cli.options import BASE

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Convert base model files.")


@app.callback()
def _group() -> None:
    """Without a callback Typer would drop the name of the only command."""


@app.command("export")
def export_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", show_default=False)],
    base: BASE = None,
) -> None:
    """Write a diffusers folder as single files with ComfyUI's keys: transformer with text
    conditioner, text encoder, VAE. Default base: toon."""
    from onmodel.errors import InputError
    from onmodel.families.registry import export_single_files, parse_base_rows

    settings = parse_base_rows(base or ["toon"])
    if settings.folder is None:
        raise InputError("--base", " ".join(base or []), "name a diffusers folder")
    for path in export_single_files(settings, out):
        say(path)
