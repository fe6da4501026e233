"""`onmodel influence RECIPE STAGE`: the effect of each subset, measured by training without it."""

from pathlib import Path
from typing import Annotated

import typer

from onmodel.cli.console import say, say_json
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

    The stage is also trained repeatedly with all subsets, to estimate noise.
    """
    from onmodel.cli.console import PlainConsole
    from onmodel.cli.plan import print_plan
    from onmodel.cli.render import on_terminal
    from onmodel.cli.tables import print_influence
    from onmodel.engine import local
    from onmodel.engine.influence import effects, leave_out
    from onmodel.engine.plan import make_plan, needed
    from onmodel.engine.project import Project
    from onmodel.evaluate.evaluation import FILE, read_evaluation
    from onmodel.hashing import write_json
    from onmodel.paths import inside
    from onmodel.recipe import load_recipe
    from onmodel.report.influence import as_dict, influence_table, write_page

    leaving = leave_out(load_recipe(recipe), stage, like, twins, seeds)
    steps = make_plan(leaving.recipe)
    wanted = needed(steps, leaving.evaluation)
    talk = PlainConsole() if dry_run and not as_json else PlainConsole(stderr=True)
    print_plan(leaving.recipe, [step for step in steps if step.name in wanted], talk)
    if dry_run:
        if as_json:
            say_json({"trainings": [*leaving.full, *leaving.without.values()]})
        return
    place = Project(project or Path(recipe.stem))
    with place.writing():
        with on_terminal(talk) as events:
            result = local.run(leaving.recipe, place, events, until=leaving.evaluation)
        evaluation = read_evaluation(result.artifacts[leaving.evaluation].path / FILE)
        axes = list(evaluation.axes.values())
        found = effects(evaluation, leaving)
        told = as_dict(found, evaluation, leaving)
        table = influence_table(found, axes, leaving)
        page = inside(place.folder / "report", f"influence-{leaving.full[0]}.html", "stage")
        with place.results():
            write_json(page.with_suffix(".json"), told)
            write_page(table, leaving, evaluation, page)
    if as_json:
        say_json(told)
    else:
        print_influence(table, PlainConsole())
        say(page)
