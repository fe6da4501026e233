"""`onmodel report RECIPE`: the pages, tables and summary of what is done, written anew without
running anything.

It takes no part in the project's writing, so it works while a run goes on.
"""

from typing import Annotated

import typer

from onmodel.cli.run import PROJECT, RECIPE
from onmodel.console import say_json


def command(
    recipe: RECIPE,
    project: PROJECT = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON on stdout.")
    ] = False,
) -> None:
    """Write a project's report again from what is done, a run of single stages included; nothing is
    run."""
    from pathlib import Path

    from onmodel.console import PlainConsole
    from onmodel.engine import pipeline
    from onmodel.engine.project import Project
    from onmodel.errors import InputError
    from onmodel.hashing import read_json
    from onmodel.progress import Progress
    from onmodel.recipe import load_recipe
    from onmodel.report.collect import write_results

    found = load_recipe(recipe)
    folder = project or Path(recipe.stem)
    if not (folder / "onmodel.db").is_file():
        raise InputError("project", folder, "is no project folder; it has no onmodel.db")
    opened = Project(folder)
    talk = PlainConsole(stderr=True)
    with Progress(talk) as progress:
        result = pipeline.finished(found, opened, progress)
    if not result.artifacts:
        raise InputError(
            "project", folder, f"has nothing of {recipe}; `onmodel run {recipe}` makes it"
        )
    missing = [name for name in found.stages if name not in result.artifacts]
    if missing:
        told = f"not done yet and left out: {', '.join(missing)}"
        talk.print(told, highlight=False, markup=False, soft_wrap=True)
    write_results(found, opened, result, PlainConsole(stderr=as_json))
    if as_json:
        say_json(read_json(folder / "summary.json"))
