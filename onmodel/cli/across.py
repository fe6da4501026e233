"""`onmodel across RECIPE OTHER`: one page of two finished runs on different bases."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say_json
from onmodel.cli.options import JSON, PROJECT, RECIPE, made_project

OTHER = Annotated[
    Path,
    typer.Argument(help="The recipe on the base that it is measured against.", show_default=False),
]
OTHER_PROJECT = Annotated[
    Path | None,
    typer.Option("--other-project", help="Its project folder. Default: named after the recipe."),
]
OUT = Annotated[Path, typer.Option("--out", "-o", help="Folder of the page; it must not exist.")]


def command(
    recipe: RECIPE,
    other: OTHER,
    out: OUT,
    project: PROJECT = None,
    other_project: OTHER_PROJECT = None,
    as_json: JSON = False,
) -> None:
    """Compare what two bases give a character, by finished runs with the same suite."""
    from onmodel.cli.console import PlainConsole
    from onmodel.cli.render import on_terminal
    from onmodel.engine import local
    from onmodel.errors import InputError
    from onmodel.recipe import load_recipe
    from onmodel.report.across import write_across
    from onmodel.report.collect import collect

    if out.exists():
        raise InputError("--out", out, "exists already; name a new folder")
    talk = PlainConsole(stderr=True)
    sources, bases = [], []
    for path, folder in ((other, other_project), (recipe, project)):
        found, opened = load_recipe(path), made_project(folder or Path(path.stem))
        with on_terminal(talk) as events:
            result = local.finished(found, opened, events)
        sources.append(collect(found, opened, result))
        bases.append(found.base_name)
    with talk.status("write the page"):
        sentences = write_across(sources, bases, out)
    page = out / "report" / "index.html"
    if as_json:
        say_json({"sentences": sentences, "page": str(page)})
    else:
        for line in [*sentences, str(page)]:
            print(line)
