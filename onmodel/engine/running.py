"""Run the stages of a recipe in the order that their references allow, and record them. An `Engine`
makes the cells: this process (local.py) or the workers of a cluster (cluster/)."""

import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Protocol

from onmodel.engine.attempt import recorded
from onmodel.engine.plan import Cell, Step, cell_of, make_plan, needed
from onmodel.engine.project import Project
from onmodel.engine.tracking import journal
from onmodel.events import Events
from onmodel.hashing import write_json
from onmodel.ledger.lineage import Lineage
from onmodel.ledger.store import RunStart
from onmodel.processes import ALONE, Processes
from onmodel.recipe import Recipe
from onmodel.records import Artifact
from onmodel.stages import stage_module
from onmodel.stages.base import Context, TrainingSettings
from onmodel.version import __version__

if TYPE_CHECKING:
    from onmodel.families.protocol import Family


@dataclass
class Result:
    """What a run made: artifacts and seconds by stage name, in the order of the recipe."""

    artifacts: dict[str, Artifact] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What all cells of a run share. `family` loads the base once per process; `tracker` logs the
    steps of trainings."""

    recipe: Recipe
    project: Project
    events: Events
    family: "Callable[[], Family]"
    base_sha256: str
    tracker: str | None = None
    processes: Processes = ALONE

    def context(self, cell: Cell) -> Context:
        """The context in which this process runs a cell."""
        step, recipe, scratch = cell.step, self.recipe, self.project.scratch(cell.key)

        def commit(kind: str, lineage: Lineage) -> Artifact:
            write_json(scratch / "out" / "lineage.json", lineage)
            return self.project.commit(scratch, kind)

        return Context(
            name=step.name,
            seed=recipe.seed,
            date=recipe.date,
            character=recipe.character.only(stage_module(step.verb).READS.sheet),
            family=self.family,
            base_name=recipe.base_name,
            base_sha256=self.base_sha256,
            threads=recipe.threads,
            scratch=scratch,
            pictures=self.project.pictures,
            events=self.events,
            commit=commit,
            processes=self.processes,
        )


class Engine(Protocol):
    """Makes cells. `wait` returns the cells that ended since, with the error of those that failed;
    an engine that makes one cell at a time raises its error instead."""

    def has_room(self) -> bool:
        """Whether it takes one more cell now."""

    def lacks(self, cell: Cell) -> bool:
        """Whether the cell has to be made."""

    def start(self, cell: Cell) -> None:
        """Make and record a cell."""

    def wait(self) -> Iterable[tuple[Cell, Exception | None]]:
        """Wait for a while, or until a cell ends."""


@dataclass
class Attempt:
    """A cell that is being made. `artifact` is None until it is made; `began` is the start of its
    work in monotonic seconds."""

    cell: Cell
    context: Context
    artifact: Artifact | None
    began: float


@contextmanager
def attempted(cell: Cell, work: Work, events: Events) -> Iterator[Attempt]:
    """Record an attempt of a cell: its start, its messages and steps, and how it ended. What a
    process made just before it was killed is taken up. Set the attempt's artifact in the context.
    """
    step, key, project = cell.step, cell.key, work.project
    settings = step.settings.model_dump(mode="json")
    hashes = {name: artifact.hash for name, artifact in cell.inputs.artifacts.items()}
    recipe = work.recipe
    begun = RunStart(key, recipe.name, step.name, step.verb, settings, hashes, recipe.base)
    id = project.ledger.start(begun, environment(), _now())
    context = work.context(cell)
    found = Attempt(cell, context, project.committed(context.scratch), time.monotonic())
    with ExitStack() as stack:
        if found.artifact is None:
            events = stack.enter_context(recorded(project.ledger, id, events))
            found.context = replace(context, events=events)
            if isinstance(step.settings, TrainingSettings):
                logs = project.folder / "logs"
                steps = stack.enter_context(
                    journal(project.ledger, key, step.name, logs, work.tracker, settings)
                )
                found.context = replace(found.context, record=steps.record)
        yield found
    artifact = found.artifact
    assert artifact is not None
    seconds = time.monotonic() - found.began
    project.ledger.finish(id, artifact.kind, artifact.hash, seconds, _now())
    shutil.rmtree(context.scratch)


def wanted_steps(recipe: Recipe, until: str | None) -> list[Step]:
    """The steps of a run, all or those up to `until`. Raises InputError when the recipe is wrong or
    names files that are not there."""
    steps = make_plan(recipe)
    wanted = {step.name for step in steps} if until is None else needed(steps, until)
    steps = [step for step in steps if step.name in wanted]
    for step in steps:
        if step.plan.missing:
            raise step.plan.missing[0]
    return steps


def run_steps(steps: list[Step], work: Work, engine: Engine) -> Result:
    """Make what the project lacks. A stage begins when all that it reads is made; of several, the
    first in the recipe.

    After a failed cell those that do not need it are still made. Then the first error is raised.
    """
    project, made, seconds = work.project, dict[str, Artifact](), dict[str, float]()
    places = {step.name: place for place, step in enumerate(steps)}
    graph = TopologicalSorter({step.name: step.needs for step in steps})
    graph.prepare()
    ready: list[int] = []
    running, errors = 0, list[Exception]()

    def take(cell: Cell) -> None:
        done = project.ledger.finished(cell.key)
        assert done is not None
        made[cell.step.name] = project.object(done.kind, done.artifact)
        seconds[cell.step.name] = done.seconds
        graph.done(cell.step.name)

    stages = {step.name: step.verb for step in steps}
    first = work.processes.first
    queue = project.ledger.queued(work.recipe.name, stages) if first else nullcontext(_nothing)
    with queue as begin:
        while True:
            for name in graph.get_ready():
                heappush(ready, places[name])
            if ready and engine.has_room():
                step = steps[heappop(ready)]
                begin(step.name)
                cell = cell_of(step, made, work.recipe, work.base_sha256)
                if engine.lacks(cell):
                    gone = project.ledger.finished(cell.key) is not None
                    again = " (made before; its object is gone)" if gone else ""
                    work.events.note(f"{step.verb} {step.name}{again}", "title")
                    engine.start(cell)
                    running += 1
                else:
                    take(cell)
            elif running:
                for cell, error in engine.wait():
                    running -= 1
                    if error is None:
                        take(cell)
                    else:
                        errors.append(error)
            else:
                break
    if errors:
        raise errors[0]
    names = [step.name for step in steps]
    return Result({name: made[name] for name in names}, {name: seconds[name] for name in names})


def make(cell: Cell, context: Context) -> Artifact:
    """Run a cell in this process, with the recipe's number of threads. Raises what the stage
    raises."""
    use_threads(context.threads)
    artifact = cell.run(context)
    _say_card_memory(context.events)
    return artifact


def use_threads(count: int) -> None:
    """Sums of floats depend on how many threads add them up, so the recipe sets the number before
    every stage: a stage computes the same whether its process ran the stages before it or found
    them done, whatever OMP_NUM_THREADS says.
    """
    import torch

    torch.set_num_threads(count)


def _say_card_memory(events: Events) -> None:
    """Note the most memory that the stage has allocated on a card."""
    import torch

    if torch.cuda.is_initialized():
        most = torch.cuda.max_memory_allocated() / 2**30
        events.note(f"largest allocation on the card: {most:.2f} GiB")
        torch.cuda.reset_peak_memory_stats()


@cache
def environment() -> Mapping[str, str]:
    """Versions and platform: told in the ledger, no part of any key."""
    from importlib.metadata import version

    packages = ("torch", "diffusers", "transformers", "peft", "safetensors", "numpy")
    return {
        "onmodel": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: version(package) for package in packages},
    }


def _nothing(name: str) -> None:
    pass


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
