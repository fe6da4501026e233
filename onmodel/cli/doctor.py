"""`onmodel doctor`: checks of the installation, a base, LoRA files, data sets or a project."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import PlainConsole, say_json
from onmodel.cli.options import BASE, JSON


def command(
    what: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RECIPE|PROJECT]",
            help="A recipe (base, data sets, plan) or a project folder (every byte).",
            show_default=False,
        ),
    ] = None,
    base: BASE = None,
    lora: Annotated[
        list[Path] | None,
        typer.Option("--lora", help="A LoRA file or PEFT folder. May be repeated."),
    ] = None,
    dataset: Annotated[
        list[Path] | None,
        typer.Option(
            "--dataset",
            help="A folder of pictures or another trainer's data set file. May be repeated.",
        ),
    ] = None,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Move damaged files of a project to its folder damaged/.",
        ),
    ] = False,
    as_json: JSON = False,
) -> None:
    """Check the installation, a recipe, a project or single files.

    Each finding is one line with what to do. Exit code 1 if a check fails.
    """
    from onmodel.cli.render import on_terminal, show
    from onmodel.errors import InputError

    is_project = what is not None and what.is_dir()
    if is_project and (base or lora or dataset):
        raise InputError(
            "doctor", what, "a project is checked alone; leave out --base, --lora and --dataset"
        )
    if fix and not is_project:
        raise InputError("--fix", what or "no project", "name a project folder")
    with on_terminal() as events:
        if what is not None and is_project:
            from onmodel.project_check import examine_project

            findings = examine_project(what, fix, events)
        else:
            from onmodel.doctor import examine

            findings = examine(what, base or [], lora or [], dataset or [], events)
    if as_json:
        say_json([dataclasses.asdict(row) for row in findings])
    else:
        console = PlainConsole()
        for row in findings:
            show(console, row)
    if any(row.status == "fail" for row in findings):
        raise typer.Exit(1)
