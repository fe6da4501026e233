"""`onmodel train RECIPE STAGE` and its siblings: one stage of a recipe, and what it needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.run import DRY_RUN, JSON, PROJECT, RECIPE, TRACKER, execute
from onmodel.errors import InputError


def command_for(verb: str) -> Callable[..., None]:
    """The command of one verb. `name` may be left out when the recipe has a single stage of the
    verb."""

    def command(
        recipe: RECIPE,
        name: Annotated[str, typer.Argument(help="The stage's name in the recipe.")] = "",
        project: PROJECT = None,
        dry_run: DRY_RUN = False,
        as_json: JSON = False,
        tracker: TRACKER = None,
    ) -> None:
        execute(recipe, project, dry_run, as_json, tracker, until=_stage(recipe, verb, name))

    return command


def _stage(recipe: Path, verb: str, name: str) -> str:
    from onmodel.recipe import load_recipe

    stages = [stage for stage, table in load_recipe(recipe).stages.items() if table["do"] == verb]
    if name in stages:
        return name
    if not name and len(stages) == 1:
        return stages[0]
    raise InputError(
        "stage",
        name or "none given",
        f"name a {verb} stage of the recipe: {', '.join(stages) or 'it has none'}",
    )
