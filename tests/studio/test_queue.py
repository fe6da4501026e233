"""The queue: order, stop, several studios at once, jobs that die, and one real run."""

import os
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from onmodel.errors import InputError
from onmodel.locking import ProcessName
from onmodel.studio import jobs as module
from onmodel.studio.jobs import Jobs, log_of
from onmodel.studio.workspace import CharacterFolder, Workspace, open_workspace
from tests.support.recipes import RECIPE

# Stands for `onmodel run`: it notes its start, works until it is interrupted, and says so.
STUB = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, lambda number, frame: sys.exit(print("paused", flush=True)))
with pathlib.Path(sys.argv[1], "starts").open("a") as file:
    file.write("x")
while not pathlib.Path(sys.argv[1], "end").exists():
    time.sleep(0.02)
print("done", flush=True)
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Three characters, whose runs are stubs; what still runs at the end is killed."""
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text(RECIPE)
    monkeypatch.setattr(module, "_command", _stub)
    made = open_workspace(tmp_path)
    yield made
    for name in _processes(made):
        if name.runs():
            with suppress(ProcessLookupError):
                os.kill(name.number, signal.SIGTERM)


def _stub(character: CharacterFolder) -> list[str]:
    if character.recipe is None:
        raise InputError("run", character.name, "no recipe")
    return [sys.executable, "-c", STUB, str(character.folder)]


def _processes(workspace: Workspace) -> list[ProcessName]:
    with closing(sqlite3.connect(workspace.own / "queue.db")) as database:
        rows = database.execute("SELECT process FROM jobs WHERE process IS NOT NULL").fetchall()
    return [ProcessName.parse(text) for (text,) in rows]


def _until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end, "waited for 60 seconds"
        time.sleep(0.02)


def _started(character: CharacterFolder) -> None:
    _until((character.folder / "starts").exists)


def _names(workspace: Workspace, jobs: Jobs) -> list[tuple[str, str]]:
    return [(workspace.character(job.character).name, job.state) for job in jobs.open()]


def _filled(workspace: Workspace) -> tuple[Jobs, list[CharacterFolder]]:
    jobs, characters = Jobs(workspace), workspace.characters()
    for character in characters:
        jobs.add(character)
    return jobs, characters


def test_jobs_run_one_by_one_in_their_order(workspace: Workspace) -> None:
    jobs, characters = _filled(workspace)
    assert _names(workspace, jobs) == [("a", "running"), ("b", "waiting"), ("c", "waiting")]
    with jobs.working(seconds=0.02):
        for character in characters:
            _started(character)
            (character.folder / "end").touch()
        _until(lambda: not jobs.open())
    assert [log_of(character) for character in characters] == ["done\n"] * 3


def test_each_card_has_a_run_that_sees_no_other(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True);"
    monkeypatch.setattr(
        module,
        "_command",
        lambda character: [sys.executable, "-c", told + STUB, str(character.folder)],
    )
    jobs = Jobs(workspace, (0, 3))
    a, b, c = workspace.characters()
    for character in (a, b, c):
        jobs.add(character)
    assert [(job.state, job.card) for job in jobs.open()] == [
        ("running", "0"),
        ("running", "3"),
        ("waiting", ""),
    ]
    with jobs.working(seconds=0.02):
        _started(b)
        (b.folder / "end").touch()
        _started(c)
    assert [job.card for job in jobs.open()] == ["0", "3"]
    assert (log_of(b), log_of(c)) == ("3\ndone\n", "3\n")


def test_a_waiting_job_is_moved_among_the_waiting_and_a_running_one_stays(
    workspace: Workspace,
) -> None:
    jobs, _ = _filled(workspace)
    a, b, c = jobs.open()
    jobs.move(c.id, -1)
    jobs.move(a.id, 1)
    assert _names(workspace, jobs) == [("a", "running"), ("c", "waiting"), ("b", "waiting")]
    jobs.move(c.id, -1)  # it is the first already
    jobs.move(c.id, 1)
    jobs.move(c.id, 1)
    assert _names(workspace, jobs) == [("a", "running"), ("b", "waiting"), ("c", "waiting")]
    jobs.move(b.id, 5)
    assert [job.id for job in jobs.open()] == [a.id, c.id, b.id]


def test_a_waiting_job_that_is_stopped_never_starts(workspace: Workspace) -> None:
    jobs, characters = _filled(workspace)
    jobs.stop(jobs.open()[1].id)
    assert _names(workspace, jobs) == [("a", "running"), ("c", "waiting")]
    assert not (characters[1].folder / "starts").exists()


def test_a_running_job_that_is_stopped_saves_and_can_be_queued_again(workspace: Workspace) -> None:
    jobs, character = Jobs(workspace), workspace.characters()[0]
    jobs.add(character)
    _started(character)
    (job,) = jobs.open()
    jobs.stop(job.id)
    assert jobs.open()[0].state == "stopping"
    (name,) = _processes(workspace)
    _until(lambda: not name.runs())
    assert log_of(character) == "paused\n"
    jobs.advance()
    assert jobs.open() == []
    with pytest.raises(InputError, match="has ended already"):
        jobs.stop(job.id)
    jobs.add(character)
    assert jobs.open()[0].state == "running"


def test_a_character_is_queued_once_and_only_with_a_recipe(workspace: Workspace) -> None:
    jobs, character = Jobs(workspace), workspace.characters()[0]
    jobs.add(character)
    with pytest.raises(InputError, match="in the queue already"):
        Jobs(workspace).add(character)
    (workspace.folder / "b" / "recipe.toml").rename(workspace.folder / "b" / "ledger.db")
    with pytest.raises(InputError, match="not in this workspace"):
        jobs.add(CharacterFolder("0", "b", workspace.folder / "b"))


def test_another_studio_takes_the_queue_over(workspace: Workspace) -> None:
    first, (a, b, _) = _filled(workspace)
    _started(a)
    del first
    second = Jobs(workspace)
    second.advance()
    assert _names(workspace, second)[0] == ("a", "running")
    (a.folder / "end").touch()
    with second.working(seconds=0.02):
        _started(b)
    assert (a.folder / "starts").read_text() == "x"


def test_two_studios_start_a_job_once(workspace: Workspace) -> None:
    studios = [Jobs(workspace) for _ in range(4)]
    character = workspace.characters()[0]
    with closing(sqlite3.connect(workspace.own / "queue.db")) as database, database:
        database.execute("INSERT INTO jobs (character, place) VALUES (?, 1)", (character.id,))
    threads = [threading.Thread(target=studio.advance) for studio in studios for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _started(character)
    (name,) = _processes(workspace)
    assert name.runs() and (character.folder / "starts").read_text() == "x"


def test_a_killed_job_has_ended_and_the_next_begins(workspace: Workspace) -> None:
    jobs, (a, b, _) = _filled(workspace)
    _started(a)
    psutil.Process(_processes(workspace)[0].number).kill()
    with jobs.working(seconds=0.02):
        _started(b)
    assert _names(workspace, jobs) == [("b", "running"), ("c", "waiting")]


@pytest.mark.parametrize("gone", ["folder", "recipe"])
def test_a_job_of_a_character_that_is_gone_is_passed_over(workspace: Workspace, gone: str) -> None:
    jobs, (a, b, c) = _filled(workspace)
    _started(a)
    if gone == "folder":
        shutil.rmtree(b.folder)
    else:
        (b.folder / "recipe.toml").unlink()
        (b.folder / "pictures").mkdir()
    (a.folder / "end").touch()
    with jobs.working(seconds=0.02):
        _started(c)
    assert _names(workspace, jobs) == [("c", "running")]


def test_a_real_run_ends_with_its_result(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    curate = RECIPE.partition("[stages.look]")[0]
    (tmp_path / "a" / "recipe.toml").write_text(curate)
    workspace = open_workspace(tmp_path)
    jobs, character = Jobs(workspace), workspace.characters()[0]
    jobs.add(character)
    with jobs.working(seconds=0.02):
        _until(lambda: not jobs.open())
    assert [run.state for run in character.project.ledger.runs()] == ["done"], log_of(character)
