"""`onmodel report RECIPE`: write the pages, tables and summary of finished stages again.

It does not lock the project, so it works while a run is in progress.
"""

from pathlib import Path

from onmodel.cli.console import say_json
from onmodel.cli.options import JSON, PROJECT, RECIPE, made_project


def command(recipe: RECIPE, project: PROJECT = None, as_json: JSON = False) -> None:
    """Write the report of finished stages again. Runs nothing."""
    from onmodel.cli.console import PlainConsole
    from onmodel.cli.render import on_terminal
    from onmodel.cli.tables import print_results
    from onmodel.engine import local
    from onmodel.errors import InputError
    from onmodel.hashing import read_json
    from onmodel.recipe import load_recipe
    from onmodel.report.collect import write_results

    found = load_recipe(recipe)
    folder = project or Path(recipe.stem)
    opened = made_project(folder)
    talk = PlainConsole(stderr=True)
    with on_terminal(talk) as events:
        result = local.finished(found, opened, events)
    if not result.artifacts:
        raise InputError(
            "project", folder, f"has nothing of {recipe}; `onmodel run {recipe}` makes it"
        )
    missing = [name for name in found.stages if name not in result.artifacts]
    if missing:
        told = f"not finished and left out: {', '.join(missing)}"
        talk.print(told, highlight=False, markup=False, soft_wrap=True)
    with talk.status("write the report"):
        table, files = write_results(found, opened, result)
    print_results(table, files, PlainConsole(stderr=as_json))
    if as_json:
        say_json(read_json(folder / "summary.json"))
