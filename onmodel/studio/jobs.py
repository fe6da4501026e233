"""The queue: `onmodel run` in processes of their own, one after the other, or one on each card.

A job outlives the browser and the studio. The ledger of its project holds its state, as for a run
that was started at the terminal; the queue holds only what waits and which process works for what.

WORKSPACE/.studio/queue.db   WORKSPACE/NAME/run.log, what the last job printed
"""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import psutil

from onmodel.errors import InputError
from onmodel.locking import ProcessName
from onmodel.studio.workspace import CharacterFolder, Workspace

NO_CARD = ""  # the one slot of a queue without named cards
LOG = "run.log"
LAST_BYTES = 64_000  # of a log, that a page shows

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY,
    character TEXT NOT NULL,
    place REAL NOT NULL,         -- order in the queue
    process TEXT,                -- number, start, machine; null while it waits
    stopping INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0,
    card TEXT NOT NULL DEFAULT ''  -- number of the card that it runs on
) STRICT
"""

JobState = Literal["waiting", "running", "stopping"]


@dataclass(frozen=True, slots=True)
class RunJob:
    """A job that has not ended, the id of its character, and the number of its card, "" where none
    was named."""

    id: int
    character: str
    state: JobState
    card: str = NO_CARD


class Jobs:
    """The queue of a workspace: one job at a time, or one on each of `cards`, numbers as CUDA
    counts them. Every method may be called from any thread, and by several studios at once."""

    def __init__(self, workspace: Workspace, cards: Sequence[int] = ()) -> None:
        self._workspace = workspace
        self._cards = [str(card) for card in cards]
        self._path = workspace.own / "queue.db"
        self._end = threading.Event()
        with self._database() as database:
            database.execute(_TABLE)
            names = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
            if "card" not in names:  # a queue of an earlier version
                database.execute("ALTER TABLE jobs ADD COLUMN card TEXT NOT NULL DEFAULT ''")

    def add(self, character: CharacterFolder) -> None:
        """Queue a run. Raises InputError as check_free() does."""
        self.check_free(character)
        with self._database() as database:
            added = database.execute(
                "INSERT INTO jobs (character, place)"
                " SELECT ?1, (SELECT coalesce(max(place), 0) + 1 FROM jobs)"
                " WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE character = ?1 AND NOT ended)",
                (character.id,),
            )
        if not added.rowcount:  # another request was faster
            raise _queued(character)
        self.advance()

    def check_free(self, character: CharacterFolder) -> None:
        """Call before a recipe is changed for a run. Raises InputError without a recipe, or when a
        run waits or works already."""
        if character.recipe is None:
            raise InputError("run", character.name, "its recipe is not in this workspace")
        if any(job.character == character.id for job in self.open()):
            raise _queued(character)

    def open(self) -> list[RunJob]:
        """Jobs that have not ended: the running ones, then the others in their order."""
        with self._database() as database:
            rows = database.execute(
                "SELECT id, character, process, stopping, card FROM jobs WHERE NOT ended"
                " ORDER BY process IS NULL, place"
            ).fetchall()
        found = []
        for id, character, process, stopping, card in rows:
            state: JobState = "waiting" if process is None else "running"
            found.append(RunJob(id, character, "stopping" if stopping else state, card))
        return found

    def stop(self, id: int) -> None:
        """Take a waiting job out of the queue; ask a running one to save its state and end.

        A training continues from there when it is queued again.
        """
        with self._database() as database:
            row = database.execute(
                "SELECT process FROM jobs WHERE id = ? AND NOT ended", (id,)
            ).fetchone()
            if row is None:
                raise InputError("job", id, "has ended already")
            if row[0] is None:
                database.execute("UPDATE jobs SET ended = 1 WHERE id = ?", (id,))
                return
            database.execute("UPDATE jobs SET stopping = 1 WHERE id = ?", (id,))
        name = ProcessName.parse(row[0])
        if name.runs():
            os.kill(name.number, signal.CTRL_BREAK_EVENT if os.name == "nt" else signal.SIGINT)  # type: ignore[attr-defined,unused-ignore]

    def move(self, id: int, by: int) -> None:
        """Move a waiting job `by` places towards the end, or below 0 towards the front. A running
        job stays."""
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")  # the order of another studio is not lost
            rows = database.execute(
                "SELECT id, place FROM jobs WHERE NOT ended AND process IS NULL ORDER BY place"
            ).fetchall()
            order = [row[0] for row in rows]
            if id in order:
                at = order.index(id)
                order.insert(min(max(0, at + by), len(order) - 1), order.pop(at))
                places = [(place, moved) for moved, (_, place) in zip(order, rows, strict=True)]
                database.executemany("UPDATE jobs SET place = ? WHERE id = ?", places)
            database.execute("COMMIT")

    def advance(self) -> None:
        """Note which jobs have ended, and start the next where a slot is free."""
        with self._database() as database:
            database.execute("BEGIN IMMEDIATE")  # two studios must not start one job twice
            used = set()
            for id, process, card in database.execute(
                "SELECT id, process, card FROM jobs WHERE NOT ended AND process IS NOT NULL"
            ).fetchall():
                if _runs(process):
                    used.add(card)
                else:
                    database.execute("UPDATE jobs SET ended = 1 WHERE id = ?", (id,))
            waiting = database.execute(
                "SELECT id, character FROM jobs WHERE NOT ended AND process IS NULL ORDER BY place"
            ).fetchall()
            for card, (id, character) in zip(self._free(used), waiting, strict=False):
                try:
                    process = str(_started(self._workspace.character(character), card))
                    database.execute(
                        "UPDATE jobs SET process = ?, card = ? WHERE id = ?", (process, card, id)
                    )
                except (InputError, OSError):  # the folder or the recipe is gone
                    database.execute("UPDATE jobs SET ended = 1 WHERE id = ?", (id,))
            database.execute("COMMIT")

    def _free(self, used: Set[str]) -> list[str]:
        """The cards on which no job runs."""
        if not self._cards:
            return [] if used else [NO_CARD]
        return [card for card in self._cards if card not in used]

    @contextmanager
    def working(self, seconds: float = 0.5) -> Iterator[None]:
        """Within the context the queue advances by itself, in a thread."""

        def work() -> None:
            while not self._end.wait(seconds):
                with suppress(sqlite3.OperationalError):  # another studio writes; the next look
                    self.advance()

        thread = threading.Thread(target=work, name="queue", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as database:
            yield database


def _queued(character: CharacterFolder) -> InputError:
    return InputError("run", character.name, "is in the queue already; wait for its end or stop it")


def log_of(character: CharacterFolder) -> str:
    """The end of what the last job printed; "" when there was none."""
    path = character.folder / LOG
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LAST_BYTES))
        return file.read().decode("utf-8", "replace")


def _command(character: CharacterFolder) -> list[str]:
    """What a job runs. Raises InputError without a recipe."""
    if character.recipe is None:
        raise InputError("run", character.name, "its recipe is not in this workspace")
    run = [sys.executable, "-m", "onmodel", "run", str(character.recipe)]
    return [*run, "--project", str(character.project_folder)]


def _started(character: CharacterFolder, card: str) -> ProcessName:
    """Start `onmodel run` where it sees this card alone, in a session of its own, so that it does
    not end with the studio."""
    command = _command(character)
    visible = {"CUDA_VISIBLE_DEVICES": card} if card else {}
    with (character.folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=character.folder,
            env={**os.environ, **visible},
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    # Asked before it is waited for: until then its number cannot be another's.
    start = psutil.Process(process.pid).create_time()
    threading.Thread(target=process.wait, daemon=True).start()  # else it stays as a zombie
    return ProcessName(process.pid, start, ProcessName.own().machine)


def _runs(process: str) -> bool:
    name = ProcessName.parse(process)
    if not name.runs():
        return False
    try:
        status: str = psutil.Process(name.number).status()
    except psutil.NoSuchProcess:  # it ended between the two looks
        return False
    return status != psutil.STATUS_ZOMBIE
