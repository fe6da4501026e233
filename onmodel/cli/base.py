"""`onmodel export-base`: a diffusers folder as the three single files of ComfyUI's layout."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say


def command(
    out: Annotated[Path, typer.Argument(help="Folder to write the three .safetensors into.")],
    folder: Annotated[
        Path | None, typer.Option(help="A diffusers folder; without it, the shipped toon base.")
    ] = None,
) -> None:
    """Write a base as single files (DiT with its text conditioner, text encoder, VAE) in ComfyUI's
    key layout."""
    from onmodel.families.registry import export_single_files, parse_base

    for path in export_single_files(parse_base({"folder": folder} if folder else "toon"), out):
        say(path)
