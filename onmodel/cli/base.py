"""`onmodel base …`: files of a base model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say
from onmodel.cli.options import BASE

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Download and convert base model files."
)


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


@app.command("get")
def get_command(
    name: Annotated[
        str,
        typer.Argument(help="A published base; an unknown name lists them.", show_default=False),
    ],
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            help="Folder to write, e.g. that of ComfyUI. Default: the hub's cache.",
            show_default=False,
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the base's licence.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List files and sizes; download nothing.")
    ] = False,
) -> None:
    """Download a published base from the Hugging Face hub, check it, and print the recipe's `base`
    line. Run again, it continues."""
    from onmodel.cli.render import on_terminal
    from onmodel.families.published import base_line, download, plan_download

    plan = plan_download(name, into)
    licence = plan.licence.licence
    uses = "" if licence.commercial else "; no commercial use"
    say(f"{plan.base.title}", stderr=True)
    say(f"licence: {licence.title}, {licence.link}{uses}", stderr=True)
    if dry_run:
        for one in plan.files:
            say(f"{one.size / 1e6:12,.1f} MB  {one.repository}  {one.name}")
        say(f"{plan.missing_bytes / 1e9:.2f} GB to download; nothing was downloaded")
        return
    if not (accept or plan.accepted):
        _ask(licence.link)
    with on_terminal() as events:
        fields = download(plan, events)
    say(base_line(fields))


def _ask(link: str) -> None:
    """Ask for the licence on a terminal. Raises InputError when it is not accepted."""
    from onmodel.errors import InputError

    if not (sys.stdin.isatty() and typer.confirm("Accept this licence?", err=True)):
        raise InputError("--accept-licence", "missing", f"read {link}, then add --accept-licence")
