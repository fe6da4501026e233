"""`onmodel doctor`: checks of the installation, a base, LoRA files, data sets or a project."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.options import BASE, JSON
from onmodel.console import PlainConsole, say_json


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
    from rich.text import Text

    from onmodel.doctor import Status, examine
    from onmodel.errors import InputError
    from onmodel.progress import Progress
    from onmodel.project_check import examine_project

    is_project = what is not None and what.is_dir()
    if is_project and (base or lora or dataset):
        raise InputError(
            "doctor", what, "a project is checked alone; leave out --base, --lora and --dataset"
        )
    if fix and not is_project:
        raise InputError("--fix", what or "no project", "name a project folder")
    with Progress() as progress:
        if what is not None and is_project:
            findings = examine_project(what, fix, progress)
        else:
            findings = examine(what, base or [], lora or [], dataset or [], progress)
    if as_json:
        say_json([dataclasses.asdict(row) for row in findings])
    else:
        colours: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}
        console = PlainConsole()
        for row in findings:
            text = f"  {row.about}: {row.text}" + (f" — {row.remedy}" if row.remedy else "")
            console.print(
                Text(f"{row.status:4}", colours[row.status]), text, sep="", soft_wrap=True
            )
    if any(row.status == "fail" for row in findings):
        raise typer.Exit(1)
