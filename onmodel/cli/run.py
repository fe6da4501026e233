"""`onmodel run RECIPE`: print the plan, run what the project lacks, show the result."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onmodel.cli.console import PlainConsole, say, say_json
from onmodel.cli.options import DRY_RUN, JSON, PROJECT, RECIPE, expand
from onmodel.command_settings import CommandSettings, option
from onmodel.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onmodel.engine.plan import Step
    from onmodel.engine.project import Project
    from onmodel.engine.running import Result
    from onmodel.events import Events
    from onmodel.processes import Processes
    from onmodel.recipe import Recipe

UNTIL = Annotated[
    str | None, typer.Option("--until", help="Run only this stage and the stages it needs.")
]
TRACKER = Annotated[
    str | None,
    typer.Option(
        "--tracker", help="Also log training steps to tensorboard, wandb, trackio or mlflow."
    ),
]


@dataclass(frozen=True)
class Output:
    """What is printed, and where: plan only, JSON, a tracker that logs the steps."""

    dry_run: bool = False
    as_json: bool = False
    tracker: str | None = None


@dataclass(frozen=True, kw_only=True)
class EngineChoice(CommandSettings):
    """What runs the stages."""

    engine: Literal["local", "ray"] = option(
        "What runs the stages: this process, or a Ray cluster.", "local"
    )
    address: str | None = option(
        "Address of the Ray cluster: auto or host:port. Default: a cluster of this machine alone.",
        None,
    )
    per_card: int = option("Workers of the cluster that share a card.", 1, least=1, most=16)

    def check(self) -> None:
        """Raise InputError for options that do not go together, or when Ray is not installed."""
        if self.engine == "ray":
            from onmodel.engine.cluster.engine import check_ray

            check_ray()
            if self.address is not None and not self.address.strip():
                remedy = "is empty; name the cluster (auto, host:port), or leave the option out"
                raise InputError("--address", repr(self.address), remedy)
            if self.address is not None and "://" in self.address:
                remedy = (
                    "Ray's client is not used; on a machine of the cluster, give auto or host:port"
                )
                raise InputError("--address", self.address, remedy)
            if "WORLD_SIZE" in os.environ:
                remedy = "runs each training in one process; leave out the launcher, or the engine"
                raise InputError("--engine", "ray", remedy)
        elif self.address is not None or self.per_card != 1:
            option = "--per-card" if self.address is None else "--address"
            value = self.per_card if self.address is None else self.address
            raise InputError(option, value, "belongs to a cluster; add --engine ray")

    @contextmanager
    def connection(self, recipe: "Recipe") -> Iterator[None]:
        """The connection to the cluster, before a project is made; nothing for the engine local.
        Raises InputError without a cluster, or for a base that cannot be sent to it."""
        if self.engine == "local":
            yield
            return
        from onmodel.engine.cluster.engine import check_base, connected

        check_base(recipe)
        with connected(self.address):
            yield


@expand
def command(
    recipe: RECIPE,
    engine: EngineChoice,
    until: UNTIL = None,
    project: PROJECT = None,
    dry_run: DRY_RUN = False,
    as_json: JSON = False,
    tracker: TRACKER = None,
) -> None:
    """Run a recipe. Interrupted at any moment, the same command continues where it stopped."""
    execute(recipe, project, until, Output(dry_run, as_json, tracker), engine)


def execute(
    path: Path,
    folder: Path | None,
    until: str | None,
    output: Output,
    engine: EngineChoice | None = None,
) -> None:
    """Plan and run a recipe, whole or `until` a stage, and print the result on stdout.

    Started by a launcher of several processes, all of them train; the first does the rest.
    """
    from onmodel.engine.tracking import check_tracker
    from onmodel.processes import ALONE, joined
    from onmodel.recipe import load_recipe

    engine = engine or EngineChoice()
    engine.check()
    with nullcontext(ALONE) if output.dry_run else joined() as processes:
        if not processes.first:
            processes.wait()  # until the first found nothing wrong and holds the project
        check_tracker(output.tracker)
        recipe = load_recipe(path)
        steps = _plan(recipe, until, output, processes)
        if output.dry_run:
            _forecast(recipe, steps, output.as_json)
        else:
            making = partial(make_stages, recipe, until, engine, output.tracker, processes)
            with engine.connection(recipe):
                _run(recipe, folder or Path(path.stem), until, output, processes, making)


def _plan(
    recipe: "Recipe", until: str | None, output: Output, processes: "Processes"
) -> "Sequence[Step]":
    """The steps that will run, printed."""
    from onmodel.cli.plan import print_plan
    from onmodel.engine.plan import make_plan, needed

    steps = make_plan(recipe)
    if until is not None:
        names = needed(steps, until)
        steps = [step for step in steps if step.name in names]
    stdout = output.dry_run and not output.as_json
    print_plan(recipe, steps, PlainConsole(stderr=not stdout, quiet=not processes.first))
    return steps


def _forecast(recipe: "Recipe", steps: "Sequence[Step]", as_json: bool) -> None:
    """Print memory and files of the trainings, and what the recipe names that is not there."""
    from onmodel.cli.plan import plan_as_dict, print_forecast
    from onmodel.cli.render import on_terminal
    from onmodel.engine.memory import forecast

    with on_terminal() as events:
        found = forecast(recipe, steps, events)
    print_forecast(found, steps, PlainConsole(stderr=as_json))
    if as_json:
        say_json(plan_as_dict(recipe, steps, found))


def make_stages(
    recipe: "Recipe",
    until: str | None,
    engine: EngineChoice,
    tracker: str | None,
    processes: "Processes",
    project: "Project",
    events: "Events",
) -> "Result":
    """Run the stages with the engine."""
    from onmodel.engine import local

    if engine.engine == "local":
        return local.run(recipe, project, events, until, processes, tracker)
    from onmodel.engine.cluster import engine as cluster

    address, per_card = engine.address, engine.per_card
    return cluster.run(recipe, project, events, until, tracker, address, per_card)


def _run(
    recipe: "Recipe",
    folder: Path,
    until: str | None,
    output: Output,
    processes: "Processes",
    making: "Callable[[Project, Events], Result]",
) -> None:
    from onmodel.cli.render import on_terminal
    from onmodel.cli.tables import print_results
    from onmodel.engine.project import Project
    from onmodel.hashing import read_json
    from onmodel.report.collect import publish, write_results

    project, talk = Project(folder), PlainConsole(stderr=True, quiet=not processes.first)
    with project.writing() if processes.first else nullcontext(), on_terminal(talk) as events:
        if processes.first:
            processes.wait()
        result = making(project, events)
    if not processes.first:
        return
    found: Any
    if until is None:
        with talk.status("write the report"):
            table, files = write_results(recipe, project, result)
        print_results(table, files, PlainConsole(stderr=output.as_json))
        found = read_json(project.folder / "summary.json")
    else:
        for published in publish(recipe, project, result).values():
            say(published, stderr=output.as_json)
        found = {name: str(artifact.path) for name, artifact in result.artifacts.items()}
    if output.as_json:
        say_json(found)
