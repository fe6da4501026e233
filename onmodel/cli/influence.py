"""`onmodel influence RECIPE STAGE`: the effect of each subset, measured by training without it."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.options import DRY_RUN, JSON, PROJECT, RECIPE
from onmodel.console import say, say_json


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

    The stage is also trained repeatedly with all subsets, to estimate noise.
    """
    from onmodel.cli.plan import print_plan
    from onmodel.console import PlainConsole
    from onmodel.engine import pipeline
    from onmodel.engine.influence import effects, leave_out
    from onmodel.engine.project import Project
    from onmodel.hashing import read_json, write_json
    from onmodel.paths import inside
    from onmodel.progress import Progress
    from onmodel.recipe import load_recipe
    from onmodel.report.influence import as_dict, print_influence, write_page
    from onmodel.report.source import axes_of

    leaving = leave_out(load_recipe(recipe), stage, like, twins, seeds)
    steps = pipeline.make_plan(leaving.recipe)
    wanted = pipeline.needed(steps, leaving.evaluation)
    talk = PlainConsole() if dry_run and not as_json else PlainConsole(stderr=True)
    print_plan(leaving.recipe, [step for step in steps if step.name in wanted], talk)
    if dry_run:
        if as_json:
            say_json({"trainings": [*leaving.full, *leaving.without.values()]})
        return
    place = Project(project or Path(recipe.stem))
    with place.writing():
        with Progress(talk) as progress:
            result = pipeline.run(leaving.recipe, place, progress, until=leaving.evaluation)
        evaluation = read_json(result.artifacts[leaving.evaluation].path / "evaluation.json")
        axes = axes_of(evaluation)
        found = effects(evaluation, [axis.record for axis in axes], leaving)
        told = as_dict(found, evaluation, leaving)
        page = inside(place.folder / "report", f"influence-{leaving.full[0]}.html", "stage")
        with place.results():
            write_json(page.with_suffix(".json"), told)
            write_page(found, axes, leaving, evaluation, page)
    if as_json:
        say_json(told)
    else:
        print_influence(found, axes, leaving, PlainConsole())
        say(page)
