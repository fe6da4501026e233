"""Which job goes to which worker. What arrives is checked and recorded; what is lost is done again.
Nothing here depends on Ray, so that a simulation can run it with a clock of its own."""

import io
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeGuard

from onmodel.engine.cluster.jobs import JobResult, WorkerJob
from onmodel.engine.cluster.reports import Replay, Report, Reporter, labelled
from onmodel.engine.cluster.store import write_checked
from onmodel.engine.plan import Cell
from onmodel.engine.running import Attempt, Work, attempted, make
from onmodel.errors import InputError, OnmodelError, StateError
from onmodel.hashing import naming, write_atomic
from onmodel.records import Artifact
from onmodel.sample.pictures import keep_picture, picture_path
from onmodel.stages.base import keep_file

# Verbs that read files of the head, or only choose. All others run on workers.
ON_HEAD = frozenset({"curate", "import", "select"})
MOST_TRIES = 4  # of a job whose worker was lost
PATIENCE = 30.0  # seconds without any worker until that is told


class Lost(Exception):
    """A job was lost with its worker, or its result on the way. It is done again."""


class CellError(OnmodelError):
    """A cell failed on a worker. `exit_code` is that of the error there."""

    def __init__(self, line: str, exit_code: int) -> None:
        super().__init__(line)
        self.exit_code = exit_code


class Failed(Protocol):
    """An error of a job (`worker.Failure`)."""

    @property
    def line(self) -> str: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def mistake(self) -> tuple[str, str, str] | None: ...
    @property
    def log(self) -> str: ...


@dataclass(frozen=True)
class Joined:
    """A worker is free for the first time."""

    worker: str
    node: str
    machine: str


@dataclass(frozen=True)
class Left:
    """A worker is gone."""

    worker: str


@dataclass(frozen=True)
class Reported:
    """What a job reported."""

    job: str
    reports: Sequence[Report]


@dataclass(frozen=True)
class Ended:
    """A job is over. `fetch` gives the pieces of a new file of what it made; it may raise Lost."""

    worker: str
    job: str
    outcome: JobResult | Failed | Lost
    fetch: Callable[[str], Iterator[bytes]] = lambda sha256: iter(())


News = Joined | Left | Reported | Ended


class Fleet(Protocol):
    """The workers."""

    def send(self, worker: str, job: WorkerJob, sources: Mapping[str, Path]) -> None:
        """Give a job to a free worker. `sources`: SHA-256 → a file of the head that it may need."""

    def receive(self, seconds: float) -> Sequence[News]:
        """What happened, after waiting for at most so long."""


@dataclass(frozen=True)
class JobOrder:
    """A job with the files of the head that it may need."""

    job: WorkerJob
    sources: Mapping[str, Path]


class Planner(Protocol):
    """Cuts a cell into jobs."""

    def drawings(self, attempt: Attempt, workers: int) -> Sequence[JobOrder]:
        """Jobs that must be done before the stage runs."""

    def stage(self, attempt: Attempt) -> JobOrder:
        """The job that makes the artifact."""


@dataclass
class _OpenCell:
    """A cell that is being made. `left`: jobs that must end before its stage begins."""

    cell: Cell
    attempt: Attempt
    stack: ExitStack
    left: int = 0
    over: bool = False


@dataclass
class _Task:
    """An order of a cell that waits for a worker or is at work."""

    order: JobOrder
    open: _OpenCell
    replay: Replay
    is_stage: bool
    tries: int = 0
    node: str = ""  # machine of the last try, which has what that left


@dataclass
class Dispatcher:
    """The engine (`running.Engine`)."""

    work: Work
    fleet: Fleet
    planner: Planner
    _queue: deque[_Task] = field(default_factory=deque)
    _free: dict[str, str] = field(default_factory=dict)  # worker → machine
    _busy: dict[str, _Task] = field(default_factory=dict)
    _nodes: dict[str, str] = field(default_factory=dict)
    _open: dict[str, _OpenCell] = field(default_factory=dict)  # by key
    _over: list[tuple[Cell, Exception | None]] = field(default_factory=list)
    _one_at_head: threading.Lock = field(default_factory=threading.Lock)
    _at_head: dict[str, tuple[_OpenCell, Future[Artifact], Replay]] = field(default_factory=dict)
    _reports: queue.SimpleQueue[tuple[str, list[Report]]] = field(default_factory=queue.SimpleQueue)
    _arrivals: deque[tuple[_Task, Ended]] = field(default_factory=deque)
    _alone: float = 0.0

    def has_room(self) -> bool:
        """Bounds the cells in flight, and the jobs that wait to one for each worker: a worker that
        ends gets the next job before the head keeps what it made."""
        workers = len(self._nodes)
        return len(self._queue) < max(1, workers) and len(self._open) < 2 * workers + 2

    def lacks(self, cell: Cell) -> bool:
        return self.work.project.finished(cell.key) is None

    def start(self, cell: Cell) -> None:
        stack = ExitStack()
        events = labelled(self.work.events, cell.step.name)
        attempt = stack.enter_context(attempted(cell, self.work, events))
        found = self._open[cell.key] = _OpenCell(cell, attempt, stack)
        try:
            self._begin(found)
        except Exception as error:  # of this cell alone
            self._end(found, error)
        self._listen(0.0)

    def wait(self) -> Iterable[tuple[Cell, Exception | None]]:
        seconds = 0.05 if self._at_head else 1.0
        self._listen(0.0 if self._arrivals else seconds)
        if self._arrivals:  # one, so that no free worker waits for the disk
            task, ended = self._arrivals.popleft()
            self._ended(task, ended.outcome, ended.fetch)
        self._hear_head()
        self._tell_if_alone()
        over, self._over = self._over, []
        return over

    def stop(self, error: BaseException) -> None:
        """Record that the cells in flight were ended by an error, e.g. Ctrl-C."""
        for found in list(self._open.values()):
            with suppress(BaseException), found.stack:
                raise error

    def _begin(self, found: _OpenCell) -> None:
        attempt = found.attempt
        if attempt.artifact is not None:
            self._end(found, None)
        elif found.cell.step.verb in ON_HEAD:
            self._begin_at_head(found)
        else:
            orders = self.planner.drawings(attempt, max(1, len(self._nodes)))
            found.left = len(orders)
            for order in orders:
                self._enqueue(order, found, is_stage=False)
            if not orders:
                self._enqueue(self.planner.stage(attempt), found, is_stage=True)

    def _begin_at_head(self, found: _OpenCell) -> None:
        """Run the cell in a thread of this process. The ledger is written by the main thread."""
        key, context = found.cell.key, found.attempt.context

        future: Future[Artifact] = Future()

        def run() -> None:
            try:
                with (
                    self._one_at_head,
                    Reporter(lambda reports: self._reports.put((key, reports))) as reporter,
                ):
                    artifact = make(found.cell, replace(context, events=reporter.events))
            except BaseException as error:  # the boundary of the thread
                future.set_exception(error)
            else:
                future.set_result(artifact)

        self._at_head[key] = found, future, Replay(context.events, context.record)
        threading.Thread(target=run, daemon=True).start()  # Ctrl-C does not wait for it

    def _enqueue(self, order: JobOrder, found: _OpenCell, is_stage: bool) -> None:
        context = found.attempt.context
        replay = Replay(context.events, context.record)
        self._queue.append(_Task(order, found, replay, is_stage))

    def _listen(self, seconds: float) -> None:
        """Hear what happened and give free workers their next job; results are kept later."""
        self._send()
        for news in self.fleet.receive(seconds):
            if self._hear(news):
                self._arrivals.append((self._freed(news), news))
        self._send()

    def _send(self) -> None:
        """Give the jobs that wait to the free workers."""
        while self._queue and self._free:
            task = self._queue.popleft()
            if task.open.over:  # another job of the cell failed
                continue
            same = (worker for worker, node in self._free.items() if node == task.node)
            worker = next(same, next(iter(self._free)))
            task.node = self._free.pop(worker)
            if task.is_stage:
                task.open.attempt.began = time.monotonic()
            self._busy[worker] = task
            self.fleet.send(worker, task.order.job, task.order.sources)

    def _hear(self, news: News) -> TypeGuard[Ended]:
        """Take in what happened; True when a job ended."""
        match news:
            case Joined(worker, node, _):
                self._nodes[worker] = self._free[worker] = node
            case Left(worker):
                self._nodes.pop(worker, None)
                self._free.pop(worker, None)
            case Reported(job, reports):
                for task in self._busy.values():
                    if task.order.job.id == job and not task.open.over:
                        task.replay(reports)
        return isinstance(news, Ended)

    def _freed(self, ended: Ended) -> _Task:
        """The job that ended; its worker is free again, unless it left."""
        if ended.worker in self._nodes:
            self._free[ended.worker] = self._nodes[ended.worker]
        return self._busy.pop(ended.worker)

    def _ended(
        self,
        task: _Task,
        outcome: JobResult | Failed | Lost,
        fetch: Callable[[str], Iterator[bytes]],
    ) -> None:
        found = task.open
        if found.over:
            return
        if isinstance(outcome, JobResult):
            try:
                artifact = self._arrived(task, outcome, fetch)
            except (Lost, StateError) as error:
                outcome = Lost(str(error))
            except OnmodelError as error:  # a full disk
                self._end(found, error)
                return
        task.replay.close()
        if isinstance(outcome, Lost):
            self._again(task, outcome)
        elif not isinstance(outcome, JobResult):
            self._end(found, self._error(found.cell, outcome))
        elif task.is_stage:
            found.attempt.artifact = artifact
            self._end(found, None)
        else:
            found.left -= 1
            if not found.left:
                self._enqueue(self.planner.stage(found.attempt), found, is_stage=True)

    def _arrived(
        self, task: _Task, made: JobResult, fetch: Callable[[str], Iterator[bytes]]
    ) -> Artifact | None:
        """Keep the pictures and the artifact of a job. Raises Lost or StateError when a file does
        not arrive as it was made."""
        pictures, scratch = self.work.project.pictures, task.open.attempt.context.scratch
        for name, sha256 in made.pictures.items():
            png = io.BytesIO()
            write_checked(png, sha256, fetch(sha256))
            keep_picture(picture_path(pictures, Path(name).stem), png.getvalue())
        if not task.is_stage:
            return None
        out = scratch / "out"
        shutil.rmtree(out, ignore_errors=True)
        for name, sha256 in made.files.items():
            if source := task.order.sources.get(sha256):
                keep_file(source, out / name)
            else:
                _receive(out / name, sha256, fetch(sha256))
        artifact = self.work.project.commit(scratch, made.kind)
        if artifact.hash != made.hash:
            raise StateError(artifact.path, "is not what the worker made")
        return artifact

    def _again(self, task: _Task, why: Lost) -> None:
        """Do a lost job again, before the others."""
        task.tries += 1
        if task.tries < MOST_TRIES:
            note = f"its worker was lost ({why}); it is done again"
            task.open.attempt.context.events.note(note, "warning")
            self._queue.appendleft(task)
            return
        line = (
            f"{task.open.cell.step.name}: {task.tries} workers were lost with it ({why}); check the"
            " memory of their machines, then run the same command again"
        )
        self._end(task.open, CellError(line, 1))

    def _error(self, cell: Cell, failed: Failed) -> OnmodelError:
        """The error of a worker. Its log is kept in logs/NAME.error.txt."""
        if failed.mistake is not None:
            return InputError(*failed.mistake)
        line = f"{cell.step.name}: {failed.line}"
        if failed.log:
            path = self.work.project.folder / "logs" / f"{cell.step.name}.error.txt"
            write_atomic(path, failed.log.encode("utf-8", "backslashreplace"))
            line += f" — its log is {path}"
        return CellError(line, failed.exit_code)

    def _end(self, found: _OpenCell, error: Exception | None) -> None:
        """Record how a cell ended."""
        found.over = True
        del self._open[found.cell.key]
        try:
            with found.stack:
                if error is not None:
                    raise error
        except Exception as raised:
            self._over.append((found.cell, raised))
        else:
            self._over.append((found.cell, None))

    def _hear_head(self) -> None:
        """What the stages at the head report and made."""
        ended = [key for key, (_, future, _) in self._at_head.items() if future.done()]
        while not self._reports.empty():
            key, reports = self._reports.get()
            self._at_head[key][2](reports)
        for key in ended:
            found, future, replay = self._at_head.pop(key)
            replay.close()
            error = future.exception()
            if error is None:
                found.attempt.artifact = future.result()
                self._end(found, None)
            elif isinstance(error, Exception):
                self._end(found, error)
            else:
                raise error

    def _tell_if_alone(self) -> None:
        if self._nodes or not self._queue:
            self._alone = 0.0
            return
        self._alone = self._alone or time.monotonic()
        if time.monotonic() - self._alone > PATIENCE:
            self._alone = float("inf")
            waits = "no worker: the run goes on when a machine joins the cluster"
            self.work.events.note(waits, "warning")


def _receive(path: Path, sha256: str, pieces: Iterable[bytes]) -> None:
    """Write a file of an artifact, which takes its place as a whole later."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("wb") as file:
        write_checked(file, sha256, pieces)
        file.flush()
        os.fsync(file.fileno())
