"""`onmodel report RECIPE`: the pages, tables and summary of what is done, written anew without
running anything.

It takes no part in the project's writing, so it works while a run goes on.
"""

from typing import Annotated

import typer

from onmodel.cli.console import say_json
from onmodel.cli.run import PROJECT, RECIPE


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

    from onmodel.cli.console import PlainConsole
    from onmodel.cli.render import on_terminal
    from onmodel.cli.tables import print_results
    from onmodel.engine import pipeline
    from onmodel.engine.project import Project
    from onmodel.errors import InputError
    from onmodel.hashing import read_json
    from onmodel.recipe import load_recipe
    from onmodel.report.collect import write_results

    found = load_recipe(recipe)
    folder = project or Path(recipe.stem)
    if not (folder / "onmodel.db").is_file():
        raise InputError("project", folder, "is no project folder; it has no onmodel.db")
    opened = Project(folder)
    talk = PlainConsole(stderr=True)
    with on_terminal(talk) as events:
        result = pipeline.finished(found, opened, events)
    if not result.artifacts:
        raise InputError(
            "project", folder, f"has nothing of {recipe}; `onmodel run {recipe}` makes it"
        )
    missing = [name for name in found.stages if name not in result.artifacts]
    if missing:
        told = f"not done yet and left out: {', '.join(missing)}"
        talk.print(told, highlight=False, markup=False, soft_wrap=True)
    with talk.status("write the report"):
        table, files = write_results(found, opened, result)
    print_results(table, files, PlainConsole(stderr=as_json))
    if as_json:
        say_json(read_json(folder / "summary.json"))
