"""`onmodel run RECIPE`: print the plan, run what the ledger lacks, show what came out."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli.console import say, say_json

if TYPE_CHECKING:
    from onmodel.processes import Processes

RECIPE = Annotated[
    Path, typer.Argument(help="A recipe, e.g. recipes/demo.toml.", show_default=False)
]
PROJECT = Annotated[
    Path | None,
    typer.Option(
        "--project", help="Project folder; without it, a folder named after the recipe file."
    ),
]
DRY_RUN = Annotated[
    bool, typer.Option("--dry-run", help="Check everything and print the plan; write nothing.")
]
JSON = Annotated[
    bool, typer.Option("--json", help="Print the result (or the plan) as JSON on stdout.")
]
TRACKER = Annotated[
    str | None,
    typer.Option(
        "--tracker", help="Tell every training step to tensorboard, wandb, trackio or mlflow too."
    ),
]


def command(
    recipe: RECIPE,
    project: PROJECT = None,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
    tracker: TRACKER = None,
) -> None:
    """Run a whole recipe; killed at any moment, the same command goes on where it stopped."""
    execute(recipe, project, dry_run, as_json, tracker, until=None)


def execute(
    recipe_path: Path,
    folder: Path | None,
    dry_run: bool,
    as_json: bool,
    tracker: str | None,
    until: str | None,
) -> None:
    """Plan and run a recipe, whole or `until` a stage, and print the result on stdout.

    Started by a launcher of several processes, all of them train; the first does the rest and
    speaks.
    """
    from onmodel.processes import ALONE, joined

    with nullcontext(ALONE) if dry_run else joined() as processes:
        if not processes.first:
            processes.wait()  # until the first found nothing wrong and holds the project
        _execute(recipe_path, folder, dry_run, as_json, tracker, until, processes)


def _execute(
    recipe_path: Path,
    folder: Path | None,
    dry_run: bool,
    as_json: bool,
    tracker: str | None,
    until: str | None,
    processes: "Processes",
) -> None:
    from onmodel.cli.console import PlainConsole
    from onmodel.cli.plan import plan_as_dict, print_forecasts, print_plan
    from onmodel.cli.render import on_terminal
    from onmodel.engine import pipeline
    from onmodel.engine.project import Project
    from onmodel.engine.tracking import check_tracker
    from onmodel.hashing import read_json
    from onmodel.recipe import load_recipe

    check_tracker(tracker)
    recipe = load_recipe(recipe_path)
    steps = pipeline.make_plan(recipe)
    if until is not None:
        names = pipeline.needed(steps, until)
        steps = [step for step in steps if step.name in names]
    talk = PlainConsole(stderr=True, quiet=not processes.first)
    console = PlainConsole() if dry_run and not as_json else talk
    print_plan(recipe, steps, console)
    if dry_run:
        with on_terminal() as events:
            outline, forecasts = pipeline.forecasts(recipe, steps, events)
        print_forecasts(outline, forecasts, steps, console)
        if as_json:
            say_json(plan_as_dict(recipe, steps, outline, forecasts))
        return
    project = Project(folder or Path(recipe_path.stem))
    with project.writing() if processes.first else nullcontext(), on_terminal(talk) as events:
        if processes.first:
            processes.wait()
        result = pipeline.run(recipe, project, events, until, processes, tracker)
    if not processes.first:
        return
    from onmodel.cli.tables import print_results
    from onmodel.report.collect import publish, write_results

    if until is None:
        with talk.status("write the report"):
            table, files = write_results(recipe, project, result)
        print_results(table, files, PlainConsole(stderr=as_json))
    else:
        for published in publish(recipe, project, result).values():
            say(published, stderr=as_json)
    if as_json:
        summary = project.folder / "summary.json"
        found = (
            read_json(summary)
            if until is None
            else {n: str(a.path) for n, a in result.artifacts.items()}
        )
        say_json(found)
