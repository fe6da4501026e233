"""The record of what was done: one SQLite file per project. Rows are added and finished, never
rewritten or removed."""

import functools
import json
import math
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from onmodel.errors import BusyError, OnmodelError, SpaceError, StateError
from onmodel.events import Finding, Message, Note, Row
from onmodel.ledger.schema import MIGRATIONS
from onmodel.locking import ProcessName

_JSON_COLUMNS = {
    "runs": ("settings", "inputs", "environment", "base"),
    "steps": ("metrics",),
    "messages": ("message",),
}
_ORDER = {"runs": "id", "steps": "key", "messages": "id"}
_MESSAGES: dict[str, type[Message]] = {kind.__name__: kind for kind in (Note, Row, Finding)}

State = Literal["queued", "running", "paused", "done", "failed", "killed"]


@dataclass(frozen=True, slots=True)
class RunStart:
    """What a stage begins to run with: its key, resolved settings, inputs (stage → artifact hash)
    and the base as the recipe names it."""

    key: str
    recipe: str
    stage: str
    verb: str
    settings: Mapping[str, object]
    inputs: Mapping[str, str]
    base: str | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of one stage."""

    key: str
    stage: str
    verb: str
    kind: str
    artifact: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One attempt of one stage, or a stage in the queue: then `id` and `started` are None.

    Times are UTC in ISO 8601. `seconds`: duration of a done, paused or failed run; `finished`: end
    of a done run; `line`: why a run is paused or failed. A run is killed when its process no longer
    exists. A process on another machine counts as running.
    """

    id: int | None
    recipe: str
    stage: str
    verb: str
    state: State
    started: str | None = None
    finished: str | None = None
    seconds: float | None = None
    line: str = ""


class LedgerDamage(StateError):
    """The file is damaged. `onmodel doctor PROJECT --fix` starts a new one with the rows that can
    be read."""


_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")
BUSY_SECONDS = 5.0  # that a query waits for another program's lock


class Ledger:
    """The project's SQLite file, in WAL mode so that readers never wait for the writer.

    Results and steps are on the disk when the method returns. The start of a stage and the queue
    are written without waiting for the disk: a killed process loses none of them, a power cut may
    lose those after the last result.

    Where the file or its folder cannot be written, it is opened for reading only. Every method
    raises StateError for a damaged file, BusyError when another program locks it for long,
    SpaceError when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _faults(path):
            if os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK)):
                self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
                self._prepare()
            else:
                self._db = _connect_to_read(path)
                (version,) = self._db.execute("PRAGMA user_version").fetchone()
                if version != len(MIGRATIONS):
                    raise StateError(
                        path,
                        f"has ledger version {version}, this onmodel reads {len(MIGRATIONS)}; copy "
                        "the project to where it can be written, or use the newest onmodel",
                    )

    def close(self) -> None:
        self._db.close()

    def start(self, run: RunStart, environment: Mapping[str, str], now: str) -> int:
        """Record that a stage begins; returns the run's id. `now` is UTC in ISO 8601."""
        with self._writing(wait=False):
            cursor = self._db.execute(
                "INSERT INTO runs (key, recipe, stage, verb, settings, inputs, base, environment,"
                " started, process) VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    run.key,
                    run.recipe,
                    run.stage,
                    run.verb,
                    _json(run.settings),
                    _json(run.inputs),
                    _json(run.base),
                    _json(environment),
                    now,
                    str(ProcessName.own()),
                ),
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def finish(self, id: int, kind: str, artifact: str, seconds: float, now: str) -> None:
        """Record what a run made and how long it took, in seconds."""
        with self._writing():
            self._db.execute(
                "UPDATE runs SET finished = ?, seconds = ?, kind = ?, artifact = ? WHERE id = ? AND"
                " finished IS NULL",
                (now, seconds, kind, artifact, id),
            )

    def stop(self, id: int, state: Literal["paused", "failed"], line: str, seconds: float) -> None:
        """Record that a run ended without a result, why, and after how many seconds."""
        with self._writing():
            self._db.execute(
                "UPDATE runs SET stopped = ?, line = ?, seconds = ? WHERE id = ? AND"
                " finished IS NULL",
                (state, line, seconds, id),
            )

    @contextmanager
    def queued(self, recipe: str, stages: Mapping[str, str]) -> Iterator[Callable[[str], None]]:
        """Record the stages (name → verb) that this process will run. Call the yielded function
        with the name of each stage that begins. At the end of the context, no stage is in the
        queue."""
        process = str(ProcessName.own())
        ids: dict[str, int | None] = {}
        with self._writing(wait=False):
            self._db.execute("BEGIN IMMEDIATE")
            for stage, verb in stages.items():
                cursor = self._db.execute(
                    "INSERT INTO queue (recipe, stage, verb, process, waits) VALUES (?,?,?,?,1)",
                    (recipe, stage, verb, process),
                )
                ids[stage] = cursor.lastrowid

        def leave(*names: str) -> None:
            with self._writing(wait=False):
                rows = [(ids.pop(name),) for name in names]
                self._db.executemany("UPDATE queue SET waits = 0 WHERE id = ?", rows)

        try:
            yield leave
        finally:
            with suppress(OnmodelError):  # what ended the context is the error to tell
                leave(*ids)

    def runs(self) -> list[RunRecord]:
        """Every run, newest first; before them the stages that wait, the last of them first."""
        alive = functools.cache(_may_run)
        waiting = self._rows(
            "SELECT recipe, stage, verb, process FROM queue WHERE waits ORDER BY id DESC"
        )
        found = [
            RunRecord(None, recipe, stage, verb, "queued")
            for recipe, stage, verb, process in waiting
            if alive(process)
        ]
        rows = self._rows(
            "SELECT id, recipe, stage, verb, started, finished, seconds, stopped, line, process"
            " FROM runs ORDER BY id DESC"
        )
        return found + [_record(row, alive) for row in rows]

    def add_message(self, run: int, message: Message) -> None:
        """Record a message of a run. A signal handler may call this: it then becomes part of the
        open transaction."""
        row = asdict(message)
        if isinstance(message, Row):  # NaN is no JSON
            row["cells"] = {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in message.cells.items()
            }
        with _faults(self.path):
            self._db.execute(
                "INSERT INTO messages (run, kind, message) VALUES (?,?,?)",
                (run, type(message).__name__, json.dumps(row, ensure_ascii=False)),
            )

    def messages(self, run: int, after: int = 0) -> list[tuple[int, Message]]:
        """The messages of a run with ids above `after`, in order, each with its id."""
        rows = self._rows(
            "SELECT id, kind, message FROM messages WHERE run = ? AND id > ? ORDER BY id",
            run,
            after,
        )
        return [(id, _message(kind, self._value(text))) for id, kind, text in rows]

    def finished(self, key: str) -> Run | None:
        """The newest finished run with this key."""
        rows = self._rows(
            "SELECT key, stage, verb, kind, artifact, seconds FROM runs"
            " WHERE key = ? AND finished IS NOT NULL ORDER BY id DESC LIMIT 1",
            key,
        )
        return Run(*rows[0]) if rows else None

    def artifacts(self, kind: str) -> list[str]:
        """Hashes of everything of a kind that was made, oldest first."""
        rows = self._rows(
            "SELECT artifact FROM runs WHERE kind = ? GROUP BY artifact ORDER BY min(id)", kind
        )
        return [hash for (hash,) in rows]

    def made(self) -> dict[str, str]:
        """The kind of every artifact that was made, by its hash, oldest first."""
        done = "SELECT artifact, kind FROM runs WHERE finished IS NOT NULL"
        return dict(self._rows(f"{done} GROUP BY artifact ORDER BY min(id)"))

    def makers(self) -> dict[str, str]:
        """The name of the stage that made each artifact last, by the artifact's hash."""
        done = "SELECT artifact, stage FROM runs WHERE finished IS NOT NULL ORDER BY id"
        return dict(self._rows(done))

    def stages(self) -> dict[str, str]:
        """The name of the stage of every key."""
        return dict(self._rows("SELECT key, stage FROM runs ORDER BY id"))

    def keys(self) -> dict[str, bool]:
        """Every key, and whether its newest run is finished."""
        newest = "SELECT max(id) FROM runs GROUP BY key"
        return {
            key: bool(done)
            for key, done in self._rows(
                f"SELECT key, finished IS NOT NULL FROM runs WHERE id IN ({newest}) ORDER BY id"
            )
        }

    def sources(self, stage: str) -> list[tuple[dict[str, object], Any]]:
        """Settings and base of every run of a stage of this name, newest first, with the paths of
        this machine."""
        rows = self._rows("SELECT settings, base FROM runs WHERE stage = ? ORDER BY id DESC", stage)
        return [(self._value(settings), self._value(base)) for settings, base in rows]

    def add_steps(
        self, key: str, rows: Sequence[Mapping[str, object]]
    ) -> list[Mapping[str, object]]:
        """Record steps of a training, each row with its `step`; returns those that were not there
        yet."""
        ((last,),) = self._rows("SELECT coalesce(max(step), 0) FROM steps WHERE key = ?", key)
        new = [row for row in rows if row["step"] > last]
        with self._writing():
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO steps VALUES (?,?,?)", [(key, row["step"], _json(row)) for row in new]
            )
        return new

    def steps(self, key: str) -> list[dict[str, object]]:
        """The recorded steps of a training, in order."""
        return [
            self._value(metrics)
            for (metrics,) in self._rows(
                "SELECT metrics FROM steps WHERE key = ? ORDER BY step", key
            )
        ]

    def faults(self) -> list[str]:
        """Errors that SQLite's own check finds in the file, and rows whose text is not JSON."""
        found = [line for (line,) in self._rows("PRAGMA integrity_check") if line != "ok"]
        for table, columns in _JSON_COLUMNS.items():
            ((count,),) = self._rows(f"SELECT count(*) FROM {table} WHERE {_invalid(columns)}")
            found += [f"{count} damaged rows of {table}"] if count else []
        return found

    def _rows(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        with _faults(self.path):
            return self._db.execute(query, values).fetchall()

    def _value(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _damaged(self.path, error) from error

    @contextmanager
    def _writing(self, wait: bool = True) -> Iterator[None]:
        """Commit at the end, or roll back. `wait` for the disk, which then also has all that was
        committed before (https://www.sqlite.org/pragma.html#pragma_synchronous)."""
        with _faults(self.path):
            if not wait:
                self._db.execute("PRAGMA synchronous = NORMAL")
            try:
                with self._db:
                    yield
            finally:
                if not wait:
                    self._db.execute("PRAGMA synchronous = FULL")

    def _prepare(self) -> None:
        """Make the tables. SQLite does not wait by itself while another process makes or ends the
        log file."""
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                return self._migrate()
            except sqlite3.OperationalError as error:
                name = getattr(error, "sqlite_errorname", None) or ""
                if not name.startswith(_LOCKED) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StateError(self.path, f"is of a newer onmodel (ledger version {version})")
        if version == len(MIGRATIONS):
            return
        self._db.execute("BEGIN IMMEDIATE")  # another process may be doing it
        with self._db:  # commits, or rolls back
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            for number, script in enumerate(MIGRATIONS[version:], version + 1):
                text = re.sub("--.*", "", f"{script} PRAGMA user_version = {number}")
                for statement in text.split(";"):  # executescript would commit first
                    self._db.execute(statement)


def _may_run(process: str | None) -> bool:
    """Whether a process runs, or may run on another machine; None is one of an older ledger."""
    try:
        name = ProcessName.parse(process or "")
    except ValueError:
        return False
    return name.elsewhere or name.runs()


def _record(row: tuple[Any, ...], alive: Callable[[str | None], bool]) -> RunRecord:
    id, recipe, stage, verb, started, finished, seconds, stopped, line, process = row
    state: State = "done" if finished else stopped
    if not finished and not stopped:
        state = "running" if alive(process) else "killed"
    return RunRecord(id, recipe, stage, verb, state, started, finished, seconds, line or "")


def _message(kind: str, row: dict[str, Any]) -> Message:
    if kind == "Note":
        row["details"] = tuple(row["details"])
    return _MESSAGES[kind](**row)


def salvage(damaged: Path, target: Path) -> int:
    """Copy the rows that can still be read from a damaged ledger into a new one at `target`; how
    many they are."""
    Ledger(target).close()
    with closing(sqlite3.connect(target)) as new, closing(sqlite3.connect(damaged)) as old, new:
        for table, first in _ORDER.items():
            for end in ("", " DESC"):  # from both ends, up to the damage
                for names, row in _readable(
                    old, f"SELECT * FROM {table} NOT INDEXED ORDER BY {first}{end}"
                ):
                    with suppress(sqlite3.IntegrityError):  # a value of another type
                        marks = ",".join("?" * len(row))
                        new.execute(
                            f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({marks})", row
                        )
        for table, columns in _JSON_COLUMNS.items():
            new.execute(f"DELETE FROM {table} WHERE {_invalid(columns)}")
        ((count,),) = new.execute(
            "SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM steps)"
        )
    return int(count)


def _invalid(columns: Sequence[str]) -> str:
    return " OR ".join(f"NOT json_valid({column})" for column in columns)


def _readable(database: sqlite3.Connection, query: str) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The names of the columns and a row, for every row before the first that cannot be read."""
    with suppress(sqlite3.Error):
        cursor = database.execute(query)
        columns = ",".join(column[0] for column in cursor.description)
        for row in cursor:
            yield columns, row


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger that cannot be written. Without a log file there is no writer, and SQLite
    creates no files."""
    log = path.with_name(f"{path.name}-wal")
    mode = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS
    )


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """What SQLite raises, as an error of onmodel's with a remedy."""
    try:
        yield
    except sqlite3.ProgrammingError:  # a mistake of the code
        raise
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", None) or ""
        if _is_full(name, path):
            raise SpaceError(path) from error
        if name.startswith(_LOCKED):
            line = f"{path} is locked by another program; close that and run the same command again"
            raise BusyError(line) from error
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            remedy = (
                f"cannot be opened or written ({error}); check its permissions, or copy the project"
                " elsewhere"
            )
            raise StateError(path, remedy) from error
        if name.startswith("SQLITE_IOERR"):
            remedy = (
                f"cannot be read or written ({error}); check the disk and run the same command"
                " again"
            )
            raise StateError(path, remedy) from error
        raise _damaged(path, error) from error


def _damaged(path: Path, why: Exception) -> LedgerDamage:
    remedy = (
        f"`onmodel doctor {path.parent} --fix` moves it to damaged/ and keeps the readable rows"
    )
    return LedgerDamage(path, f"is not a ledger that can be read ({why}); {remedy}")


def _is_full(name: str, path: Path) -> bool:
    """Whether the disk is full. SQLite reports an I/O error when the files beside the database
    cannot grow."""
    return name == "SQLITE_FULL" or (
        name.startswith("SQLITE_IOERR") and shutil.disk_usage(path.parent).free < 1 << 20
    )


def _json(value: str | Mapping[str, object]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
