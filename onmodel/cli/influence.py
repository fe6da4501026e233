"""`onmodel influence RECIPE STAGE`: the effect of each subset, measured by training without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.options import DRY_RUN, JSON, PROJECT, RECIPE, expand
from onmodel.cli.run import EngineChoice, Output
from onmodel.command_settings import option


@dataclass(frozen=True, kw_only=True)
class InfluenceOptions(EngineChoice):
    """How it is measured, and what runs the stages."""

    like: str | None = option(
        "Evaluate stage whose settings are used. Default: the recipe's last.", None
    )
    seeds: int | None = option("Pictures per prompt. Default: that stage's own.", None, least=1)
    twins: int = option(
        "Repeated trainings with other noise, to estimate noise. At least 1.", 2, least=1
    )


@expand
def command(
    recipe: RECIPE,
    stage: Annotated[
        str, typer.Argument(help="A train stage with several subsets.", show_default=False)
    ],
    options: InfluenceOptions,
    project: PROJECT = None,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Measure the effect of each subset by training without it.

    It is the experiment that leaves out each subset in turn. The stage is also trained repeatedly
    with all subsets, to estimate noise.
    """
    from onmodel.cli.experiment import execute
    from onmodel.engine.experiments import influence_of
    from onmodel.recipe import load_recipe

    experiment = influence_of(
        load_recipe(recipe), stage, options.like, options.twins, options.seeds
    )
    execute(experiment, project or Path(recipe.stem), Output(dry_run, as_json), options)
