"""`onmodel influence RECIPE STAGE`: the effect of each subset, measured by training without it."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.options import DRY_RUN, JSON, PROJECT, RECIPE


def command(
    recipe: RECIPE,
    stage: Annotated[
        str, typer.Argument(help="A train stage with several subsets.", show_default=False)
    ],
    like: Annotated[
        str | None,
        typer.Option(help="Evaluate stage whose settings are used. Default: the recipe's last."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Pictures per prompt. Default: that stage's own.")
    ] = None,
    twins: Annotated[
        int,
        typer.Option(help="Repeated trainings with other noise, to estimate noise. At least 1."),
    ] = 2,
    project: PROJECT = None,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Measure the effect of each subset by training without it.

    It is the experiment that leaves out each subset in turn. The stage is also trained repeatedly
    with all subsets, to estimate noise.
    """
    from onmodel.cli.experiment import execute
    from onmodel.cli.run import Output
    from onmodel.engine.experiments import influence_of
    from onmodel.recipe import load_recipe

    experiment = influence_of(load_recipe(recipe), stage, like, twins, seeds)
    execute(experiment, project or Path(recipe.stem), Output(dry_run, as_json))
