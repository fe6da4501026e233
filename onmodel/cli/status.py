"""`onmodel status PROJECT`: every run of a project and its state."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import PlainConsole, say_json
from onmodel.cli.options import JSON


def command(
    project: Annotated[Path, typer.Argument(help="A project folder.")] = Path(),
    as_json: JSON = False,
) -> None:
    """Print every run of a project, newest first: queued, running, paused, done, failed or
    killed."""
    from onmodel.cli.tables import print_runs
    from onmodel.engine.project import LEDGER, Project
    from onmodel.errors import InputError

    if not (project / LEDGER).is_file():
        raise InputError("project", project, f"is not a project folder; it has no {LEDGER}")
    runs = Project(project).ledger.runs()
    if as_json:
        say_json([dataclasses.asdict(run) for run in runs])
    else:
        print_runs(runs, PlainConsole())
