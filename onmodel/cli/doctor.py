"""`onmodel doctor`: what will not work here, with this base, these LoRA files and these pictures,
or in a project."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import PlainConsole, say_json

BASE = Annotated[
    list[str] | None,
    typer.Option(
        "--base",
        help=(
            '"toon", a diffusers folder, a hub id, or field=path as in a recipe (dit=…'
            " text_encoder=… vae=… tokenizers=…), repeated."
        ),
        show_default=False,
    ),
]


def command(
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RECIPE|PROJECT]",
            help=(
                "A recipe: its base, data sets and plan. A project folder: every byte of its ledger"
                " and files."
            ),
        ),
    ] = None,
    base: BASE = None,
    lora: Annotated[
        list[Path] | None, typer.Option("--lora", help="A LoRA file, or a PEFT folder.")
    ] = None,
    dataset: Annotated[
        list[Path] | None,
        typer.Option("--dataset", help="A folder of pictures, or another trainer's data set file."),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Move what is damaged in a project to its folder damaged/, to be made again.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings as JSON on stdout.")
    ] = False,
) -> None:
    """Check the installation and what else is named: a line each, with what to do. Exit code 1 if
    something fails."""

    from onmodel.cli.render import on_terminal, show
    from onmodel.doctor import examine
    from onmodel.errors import InputError
    from onmodel.project_check import examine_project

    is_project = what is not None and what.is_dir()
    if is_project and (base or lora or dataset):
        raise InputError(
            "doctor", what, "a project is checked alone; leave out --base, --lora and --dataset"
        )
    if fix and not is_project:
        raise InputError("--fix", what or "no project", "name a project folder")
    with on_terminal() as events:
        if what is not None and is_project:
            findings = examine_project(what, fix, events)
        else:
            findings = examine(what, base or [], lora or [], dataset or [], events)
    console = PlainConsole()
    if as_json:
        say_json([dataclasses.asdict(row) for row in findings])
    else:
        for row in findings:
            show(console, row)
    if any(row.status == "fail" for row in findings):
        raise typer.Exit(1)
