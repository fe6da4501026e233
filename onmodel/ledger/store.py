"""The record of what was done: one SQLite file per project. Rows are added and finished, never rewritten or removed."""

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.errors import SpaceError, StateError

# Append-only: entry n takes a database from user_version n to n + 1. Never edit one that was released.
MIGRATIONS = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,           -- hash of all that decides the result
        recipe TEXT NOT NULL,
        stage TEXT NOT NULL,
        verb TEXT NOT NULL,
        settings TEXT NOT NULL,      -- JSON, resolved
        inputs TEXT NOT NULL,        -- JSON: stage -> artifact hash
        environment TEXT NOT NULL,   -- JSON: versions and platform, told but not part of the key
        started TEXT NOT NULL,
        finished TEXT,
        seconds REAL,
        kind TEXT,
        artifact TEXT                -- tree hash of objects/<2>/<hash>
    ) STRICT;
    CREATE INDEX runs_by_key ON runs (key);
    """,
    """
    ALTER TABLE runs ADD COLUMN base TEXT NOT NULL DEFAULT '"toon"';  -- JSON, as the recipe names it
    """,
    """
    CREATE TABLE steps (
        key TEXT NOT NULL,           -- of the run; attempts that were killed share it
        step INTEGER NOT NULL,       -- from 1
        metrics TEXT NOT NULL,       -- JSON
        PRIMARY KEY (key, step)
    ) STRICT, WITHOUT ROWID;
    """,
)


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run of one stage."""

    key: str
    stage: str
    verb: str
    kind: str
    artifact: str
    seconds: float


class Ledger:
    """The project's SQLite file, in WAL mode so that readers never wait for the writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except sqlite3.DatabaseError as error:
            if _is_full(error, path):
                raise SpaceError(path) from error
            raise StateError(path, f"is not a ledger that can be read ({error})") from error

    def close(self) -> None:
        self._db.close()

    def start(self, key: str, recipe: str, stage: str, verb: str, settings: Mapping[str, Any],
              inputs: Mapping[str, str], base: str | Mapping[str, Any], environment: Mapping[str, str],
              now: str) -> int:  # fmt: skip
        """Record that a stage begins; returns the run's id. `now` is UTC in ISO 8601."""
        with self._writing():
            cursor = self._db.execute(
                "INSERT INTO runs (key, recipe, stage, verb, settings, inputs, base, environment, started)"
                " VALUES (?,?,?,?,?,?,?,?,?)",
                (key, recipe, stage, verb, _json(settings), _json(inputs), _json(base), _json(environment), now),
            )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def finish(self, id: int, kind: str, artifact: str, seconds: float, now: str) -> None:
        """Record what a run made and how long it took, in seconds."""
        with self._writing():
            self._db.execute(
                "UPDATE runs SET finished = ?, seconds = ?, kind = ?, artifact = ? WHERE id = ? AND finished IS NULL",
                (now, seconds, kind, artifact, id),
            )

    def finished(self, key: str) -> Run | None:
        """The newest finished run with this key."""
        row = self._db.execute(
            "SELECT key, stage, verb, kind, artifact, seconds FROM runs"
            " WHERE key = ? AND finished IS NOT NULL ORDER BY id DESC LIMIT 1",
            (key,),
        ).fetchone()
        return Run(*row) if row else None

    def artifacts(self, kind: str) -> list[str]:
        """Hashes of everything of a kind that was made, oldest first."""
        rows = self._db.execute("SELECT artifact FROM runs WHERE kind = ? GROUP BY artifact ORDER BY min(id)", (kind,))
        return [hash for (hash,) in rows]

    def sources(self, stage: str) -> list[tuple[dict[str, Any], Any]]:
        """Settings and base of every run of a stage of this name, newest first, with the paths of this machine."""
        rows = self._db.execute("SELECT settings, base FROM runs WHERE stage = ? ORDER BY id DESC", (stage,))
        return [(json.loads(settings), json.loads(base)) for settings, base in rows]

    def add_steps(self, key: str, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Record steps of a training, each row with its `step`; returns those that were not there yet."""
        (last,) = self._db.execute("SELECT coalesce(max(step), 0) FROM steps WHERE key = ?", (key,)).fetchone()
        new = [row for row in rows if row["step"] > last]
        with self._writing():
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO steps VALUES (?,?,?)", [(key, row["step"], _json(row)) for row in new])
        return new

    def steps(self, key: str) -> list[dict[str, Any]]:
        """The recorded steps of a training, in order."""
        rows = self._db.execute("SELECT metrics FROM steps WHERE key = ? ORDER BY step", (key,))
        return [json.loads(metrics) for (metrics,) in rows]

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Commit at the end or take everything back. Raises SpaceError when the disk is full."""
        try:
            with self._db:
                yield
        except sqlite3.OperationalError as error:
            if _is_full(error, self.path):
                raise SpaceError(self.path) from error
            raise

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise StateError(self.path, f"was written by a newer onmodel (ledger version {version})")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")


def _is_full(error: sqlite3.DatabaseError, path: Path) -> bool:
    """Is it for want of room? SQLite calls it an I/O error when the files beside the database cannot grow."""
    name = getattr(error, "sqlite_errorname", "")
    return name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and shutil.disk_usage(path.parent).free < 1 << 20)


def _json(value: str | Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
