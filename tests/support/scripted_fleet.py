"""Workers that answer at once with what a test says, and cells that make next to nothing."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.engine.cluster.dispatch import (
    Dispatcher,
    Ended,
    Failed,
    JobOrder,
    Joined,
    Left,
    Lost,
    News,
)
from onmodel.engine.cluster.jobs import JobResult, Pack, WorkerJob, Workplace
from onmodel.engine.cluster.reports import Reporter
from onmodel.engine.project import Project
from onmodel.engine.running import Attempt, Work, run_steps, wanted_steps
from onmodel.errors import OnmodelError
from onmodel.hashing import hash_json, sha256_bytes
from onmodel.recipe import load_recipe
from tests.support.events import Recorded

SHEET = Path(__file__).parents[2] / "onmodel" / "toon" / "characters" / "backgwa.toml"
CONTENT = b"[]\n"
FILES = {"lineage.json": sha256_bytes(CONTENT)}
Outcome = JobResult | Failed | Lost


@dataclass(frozen=True)
class NamedJob:
    """A job that is known by the name of its stage, `name/0` … where it draws."""

    id: str

    def work(self, place: Workplace, reporter: Reporter, pack: Pack) -> JobResult:
        raise NotImplementedError


class NamingPlanner:
    """One job for a stage, after `blocks` jobs that draw."""

    def __init__(self, blocks: int = 0) -> None:
        self.blocks = blocks

    def drawings(self, attempt: Attempt, workers: int) -> list[JobOrder]:
        name = attempt.cell.step.name
        return [JobOrder(NamedJob(f"{name}/{number}"), {}) for number in range(self.blocks)]

    def stage(self, attempt: Attempt) -> JobOrder:
        return JobOrder(NamedJob(attempt.cell.step.name), {})


class ScriptedFleet:
    """`outcomes`: job → what its first tries end with; then it is made. A lost job takes its worker
    along, and another worker joins. `most` is the largest number of jobs at work."""

    def __init__(self, workers: int, outcomes: Mapping[str, Sequence[Outcome]] | None = None):
        self.tries: Counter[str] = Counter()
        self.order: list[str] = []
        self.most = 0
        self._outcomes = dict(outcomes or {})
        self._working: deque[tuple[str, str]] = deque()
        self._count = workers
        self._news: list[News] = [
            Joined(f"w{number}", f"n{number}", "here") for number in range(workers)
        ]

    def send(self, worker: str, job: WorkerJob, sources: Mapping[str, Path]) -> None:
        self._working.append((worker, job.id))
        self.most = max(self.most, len(self._working))

    def receive(self, seconds: float) -> list[News]:
        news, self._news = self._news, []
        if seconds and self._working and not news:
            worker, job = self._working.popleft()
            news = [*self._ended(worker, job)]
        return news

    def _ended(self, worker: str, job: str) -> Iterator[News]:
        tries = self.tries[job]
        self.tries[job] += 1
        self.order.append(job)
        planned = self._outcomes.get(job, ())
        outcome: Outcome = made(job) if tries >= len(planned) else planned[tries]
        if isinstance(outcome, Lost):
            yield Left(worker)
            self._count += 1
            yield Joined(f"w{self._count}", "n", "here")
        yield Ended(worker, job, outcome, lambda sha256: iter([CONTENT, job.encode()]))


def made(job: str) -> JobResult:
    """What a job makes: a history, which holds the job's name."""
    files = {"lineage.json": sha256_bytes(CONTENT + job.encode())}
    return JobResult("run", hash_json(files), files)


def run(
    folder: Path, text: str, fleet: ScriptedFleet, planner: NamingPlanner | None = None
) -> tuple[Project, list[str]]:
    """Run the recipe `text` on a fleet; the project, and the messages of the run. The error of the
    run is the last message."""
    (folder / "sheet.toml").write_text(SHEET.read_text())
    (folder / "recipe.toml").write_text(text)
    recipe, project = load_recipe(folder / "recipe.toml"), Project(folder / "project")
    heard = Recorded()
    work = Work(recipe, project, heard, _no_family, "b" * 64)
    dispatcher = Dispatcher(work, fleet, planner or NamingPlanner())
    with project.writing():
        try:
            run_steps(wanted_steps(recipe, None), work, dispatcher)
        except OnmodelError as error:
            return project, [*heard.text.splitlines(), str(error)]
    return project, heard.text.splitlines()


def _no_family() -> Any:
    raise AssertionError("nothing is computed here")
