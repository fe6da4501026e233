"""Run the cells of a plan in this process, those that the ledger lacks. Killed at any moment, the
same command goes on where it stopped."""

from collections.abc import Iterator

from onmodel.devices import find_device
from onmodel.engine.plan import Cell, base_of, cell_of, make_plan
from onmodel.engine.project import Project
from onmodel.engine.running import Result, Work, attempted, make, run_steps, wanted_steps
from onmodel.events import Events
from onmodel.families.registry import parse_base
from onmodel.processes import ALONE, Processes
from onmodel.recipe import Recipe
from onmodel.records import Artifact
from onmodel.stages.base import TrainingSettings


def run(
    recipe: Recipe,
    project: Project,
    events: Events,
    until: str | None = None,
    processes: Processes = ALONE,
    tracker: str | None = None,
) -> Result:
    """Run the stages in order, skipping what the ledger has; with `until`, only that stage and what
    it needs.

    Of several processes all train together; for every other stage they wait for the first.
    `tracker` is told the steps. Raises InputError before anything heavy when the recipe is wrong,
    and whatever a stage raises; what is done stays.
    """
    steps = wanted_steps(recipe, until)
    find_device(parse_base(recipe.base).device, "base.device")
    family, base_sha256 = base_of(recipe, events)
    work = Work(recipe, project, events, family, base_sha256, tracker, processes)
    return run_steps(steps, work, _Local(work))


class _Local:
    """The engine of this process: one cell at a time, in the order of the recipe."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._over: list[Cell] = []

    def has_room(self) -> bool:
        return not self._over

    def lacks(self, cell: Cell) -> bool:
        return self._work.processes.agree(self._work.project.finished(cell.key) is None)

    def start(self, cell: Cell) -> None:
        work, processes = self._work, self._work.processes
        if processes.first:
            with attempted(cell, work, work.events) as attempt:
                if processes.agree(attempt.artifact is None):
                    attempt.artifact = make(cell, attempt.context)
        elif processes.agree(True) and isinstance(cell.step.settings, TrainingSettings):
            make(cell, work.context(cell))
        processes.wait()
        self._over.append(cell)

    def wait(self) -> list[tuple[Cell, Exception | None]]:
        over, self._over = self._over, []
        return [(cell, None) for cell in over]


def finished(recipe: Recipe, project: Project, events: Events) -> Result:
    """What the ledger has of a recipe, without running anything: stages that are not done, and all
    after, are left out.

    Raises InputError when the recipe is wrong or its base's files are not there.
    """
    result = Result()
    for cell in cells(recipe, project, events):
        step, done = cell.step, project.finished(cell.key)
        if done is not None and all(name in result.artifacts for name in step.needs):
            result.artifacts[step.name] = project.object(done.kind, done.artifact)
            result.seconds[step.name] = done.seconds
    return result


def cells(recipe: Recipe, project: Project, events: Events) -> Iterator[Cell]:
    """The cells whose inputs were made at some time. The objects may be gone since.

    Raises InputError when the recipe is wrong or its base's files are not there.
    """
    steps = make_plan(recipe)
    _, base_sha256 = base_of(recipe, events)
    made: dict[str, Artifact] = {}
    for step in steps:
        if not all(name in made for name in step.needs):
            continue
        cell = cell_of(step, made, recipe, base_sha256)
        yield cell
        done = project.ledger.finished(cell.key)
        if done is not None:
            made[step.name] = Artifact(done.kind, done.artifact, project.place(done.artifact))
