import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from onmodel.errors import BusyError, StateError
from onmodel.hashing import write_json
from onmodel.project import Project


def fill(scratch: Path, value: int) -> None:
    write_json(scratch / "out" / "lineage.json", {})
    write_json(scratch / "out" / "data.json", value)


def test_commit_is_content_addressed(tmp_path: Path) -> None:
    project = Project(tmp_path)
    first, second = project.scratch("a" * 64), project.scratch("b" * 64)
    fill(first, 1)
    fill(second, 1)
    assert project.commit(first, "dataset") == project.commit(second, "dataset")
    assert not (second / "out").exists()


def test_a_kill_between_the_move_and_the_record_loses_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path)
    scratch = project.scratch("a" * 64)
    fill(scratch, 1)
    assert project.committed(scratch) is None
    artifact = project.commit(scratch, "dataset")
    assert Project(tmp_path).committed(scratch) == artifact


def test_a_missing_object_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="ab" * 32):
        Project(tmp_path).object("dataset", "ab" * 32)


def hold(folder: Path, held: "multiprocessing.synchronize.Event", done: "multiprocessing.synchronize.Event") -> None:
    with Project(folder).writing():
        held.set()
        done.wait(30)


def test_a_second_writer_is_told_who_holds_the_project_and_may_still_read(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    held, done = spawn.Event(), spawn.Event()
    process = spawn.Process(target=hold, args=(tmp_path, held, done))
    process.start()
    assert held.wait(30)
    project = Project(tmp_path)
    with pytest.raises(BusyError, match=f"process {process.pid}"), project.writing():
        pass
    assert project.ledger.finished("x") is None
    done.set()
    process.join()


def test_ledger_keeps_runs_and_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    ledger = Project(tmp_path / "p").ledger
    id = ledger.start(
        "k", "r", "preview", "train", {"epochs": 2}, {"data": "h"}, "toon", {}, "2026-11-22T00:00:00+00:00"
    )
    assert ledger.finished("k") is None
    ledger.finish(id, "run", "hash", 1.5, "2026-11-22T00:00:02+00:00")
    run = ledger.finished("k")
    assert run is not None and (run.stage, run.artifact, run.seconds) == ("preview", "hash", 1.5)

    newer = tmp_path / "newer"
    Project(newer).ledger.close()
    with sqlite3.connect(newer / "onmodel.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StateError, match="newer onmodel"):
        Project(newer)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "onmodel.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateError, match="not a ledger that can be read"):
        Project(broken)
