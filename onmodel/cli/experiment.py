"""`onmodel experiment run|status|report RECIPE NAME`: variants of a training, measured against
it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli.console import PlainConsole, say, say_json
from onmodel.cli.options import DRY_RUN, JSON, PROJECT, RECIPE, expand
from onmodel.cli.run import EngineChoice, Output, make_stages
from onmodel.processes import ALONE

if TYPE_CHECKING:
    from onmodel.engine.draft import DraftStage
    from onmodel.engine.experiments import Experiment
    from onmodel.engine.project import Project
    from onmodel.records import Artifact

NAME = Annotated[
    str, typer.Argument(help="A table [experiments.NAME] of the recipe.", show_default=False)
]
app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train variants of a stage and show what each change does.",
)


@app.command("run")
@expand
def run(
    recipe: RECIPE,
    name: NAME,
    engine: EngineChoice,
    project: PROJECT = None,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
) -> None:
    """Train and measure the variants of an experiment that the project lacks, and report them.

    Interrupted at any moment, the same command continues where it stopped.
    """
    from onmodel.engine.experiments import experiment_of
    from onmodel.recipe import load_recipe

    experiment = experiment_of(load_recipe(recipe), name)
    execute(experiment, project or Path(recipe.stem), Output(dry_run, as_json), engine)


@app.command("status")
def status(recipe: RECIPE, name: NAME, project: PROJECT = None, as_json: JSON = False) -> None:
    """Print the stages of an experiment, which are made, and the time of the others."""
    from onmodel.cli.options import made_project
    from onmodel.cli.tables import print_stages
    from onmodel.engine.experiments import experiment_of
    from onmodel.recipe import load_recipe

    experiment = experiment_of(load_recipe(recipe), name)
    stages = _stages(experiment, made_project(project or Path(recipe.stem)))
    if as_json:
        say_json([dataclasses.asdict(stage) for stage in stages])
    else:
        print_stages(stages, PlainConsole())


@app.command("report")
def report(recipe: RECIPE, name: NAME, project: PROJECT = None, as_json: JSON = False) -> None:
    """Print what each change does and write the page, from what is made."""
    from onmodel.cli.options import made_project
    from onmodel.engine import local
    from onmodel.engine.experiments import experiment_of
    from onmodel.errors import InputError
    from onmodel.events import Events
    from onmodel.recipe import load_recipe

    experiment = experiment_of(load_recipe(recipe), name)
    place = made_project(project or Path(recipe.stem))
    made = local.finished(experiment.recipe, place, Events()).artifacts
    if experiment.evaluation not in made:
        where = f" --project {project}" if project else ""
        remedy = f"is not measured yet; run `onmodel experiment run {recipe} {name}{where}`"
        raise InputError("experiment", name, remedy)
    _show(experiment, place, made, as_json)


def execute(experiment: "Experiment", folder: Path, output: Output, engine: EngineChoice) -> None:
    """Plan and run an experiment in a project folder, and print the result on stdout."""
    from onmodel.cli.plan import print_plan
    from onmodel.cli.render import on_terminal
    from onmodel.cli.tables import print_cells
    from onmodel.engine.plan import make_plan, needed
    from onmodel.engine.project import Project

    engine.check()
    steps = make_plan(experiment.recipe)
    wanted = needed(steps, experiment.evaluation)
    steps = [step for step in steps if step.name in wanted]
    talk = PlainConsole(stderr=not output.dry_run or output.as_json)
    print_cells(experiment, talk)
    print_plan(experiment.recipe, steps, talk)
    if output.dry_run:
        if output.as_json:
            say_json(_plan(experiment, steps_seconds=[step.seconds for step in steps]))
        return
    with engine.connection(experiment.recipe):
        place = Project(folder)
        with place.writing():
            with on_terminal(talk) as events:
                until = experiment.evaluation
                result = make_stages(experiment.recipe, until, engine, None, ALONE, place, events)
            _show(experiment, place, result.artifacts, output.as_json)


def _show(
    experiment: "Experiment", place: "Project", made: "Mapping[str, Artifact]", as_json: bool
) -> None:
    """Write the page, and print the table or the JSON."""
    from onmodel.cli.tables import print_experiment
    from onmodel.hashing import read_json
    from onmodel.report.experiment import publish_experiment

    table, page = publish_experiment(experiment, place, made)
    if as_json:
        say_json(read_json(page.with_suffix(".json")))
    else:
        print_experiment(table, PlainConsole())
        say(page)


def _stages(experiment: "Experiment", place: "Project") -> "list[DraftStage]":
    """The stages that the experiment needs, in order."""
    from onmodel.engine.draft import stages_of
    from onmodel.engine.plan import make_plan, needed

    wanted = needed(make_plan(experiment.recipe), experiment.evaluation)
    return [row for row in stages_of(experiment.recipe, place) if row.name in wanted]


def _plan(experiment: "Experiment", steps_seconds: Sequence[float | None]) -> dict[str, object]:
    """The cells as JSON values; seconds are None on a base that was never measured."""
    known = [seconds for seconds in steps_seconds if seconds is not None]
    return {
        "experiment": experiment.name,
        "base": list(experiment.base),
        "variants": {
            one.name: {
                "change": one.change.words,
                "stages": list(one.stages),
                "same_as": one.same_as,
            }
            for one in experiment.variants
        },
        "evaluation": experiment.evaluation,
        "shared": {stage: list(readers) for stage, readers in experiment.shared.items()},
        "seconds": sum(known) if len(known) == len(steps_seconds) else None,
    }
