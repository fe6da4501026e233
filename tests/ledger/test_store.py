"""The ledger when its file is damaged, locked or not to be written: one line with a remedy at every
query."""

import os
import platform
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from onmodel.errors import BusyError, OnmodelError, StateError
from onmodel.events import Finding, Note, Row
from onmodel.ledger import store
from onmodel.ledger.schema import MIGRATIONS
from onmodel.ledger.store import Ledger, LedgerDamage, RunStart, salvage

NOW = "2026-11-22T00:00:00+00:00"
QUERIES: dict[str, Callable[[Ledger], object]] = {
    "finished": lambda ledger: ledger.finished("k1"),
    "artifacts": lambda ledger: ledger.artifacts("run"),
    "made": lambda ledger: ledger.made(),
    "keys": lambda ledger: ledger.keys(),
    "sources": lambda ledger: ledger.sources("s"),
    "steps": lambda ledger: ledger.steps("k1"),
    "add_steps": lambda ledger: ledger.add_steps("k2", [{"step": 1}]),
    "start": lambda ledger: start(ledger, "k9"),
    "finish": lambda ledger: ledger.finish(1, "run", "h", 1.0, NOW),
    "runs": lambda ledger: ledger.runs(),
}


def start(ledger: Ledger, key: str, note: str = "") -> int:
    return ledger.start(RunStart(key, "r", "s", "train", {"note": note}, {}, "toon"), {}, NOW)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A ledger of many pages."""
    path = tmp_path_factory.mktemp("ledger") / "onmodel.db"
    ledger = Ledger(path)
    ledger._db.execute("PRAGMA synchronous = OFF")
    for number in range(200):
        run = start(ledger, f"k{number}", f"{number}" * 200)
        ledger.finish(run, "run", f"h{number}", 1.0, NOW)
    ledger.add_steps("k1", [{"step": step, "loss": 0.5} for step in range(1, 500)])
    ledger.close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "onmodel.db").write_bytes(data)
    return tmp_path / "onmodel.db"


def test_several_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    """The run that makes a project, and a studio that looks at it."""
    ready = threading.Barrier(8)

    def opened(number: int) -> None:
        ready.wait()
        Ledger(tmp_path / f"{number // 8}.db").close()

    for number in range(0, 80, 8):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(opened, range(number, number + 8)))


@pytest.mark.parametrize("query", QUERIES)
def test_damaged_pages_are_told_at_the_query_that_meets_them(query: str, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)  # the first page stays, so that the file opens
    path.write_bytes(data)
    with pytest.raises(LedgerDamage, match=r"onmodel doctor .* --fix"):
        QUERIES[query](Ledger(path))


def test_one_flipped_byte_anywhere_is_an_error_of_onmodel_or_none(path: Path) -> None:
    good = path.read_bytes()
    for place in range(0, len(good), 997):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        try:
            ledger = Ledger(path)
            for query in QUERIES.values():
                query(ledger)
            ledger.faults()
            ledger.close()
        except OnmodelError:
            pass
        for beside in path.parent.glob("onmodel.db-*"):
            beside.unlink()


@pytest.mark.parametrize("column", ["settings", "base"])
def test_a_row_whose_text_is_damaged_is_told(column: str, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE runs SET {column} = '{{' WHERE id = 3")
    with pytest.raises(LedgerDamage, match="not a ledger that can be read"):
        Ledger(path).sources("s")
    assert Ledger(path).faults() == ["1 damaged rows of runs"]


@pytest.fixture
def locked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Another program holds the file."""
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        yield path


def test_a_ledger_that_another_program_locks_is_one_line(locked: Path) -> None:
    with pytest.raises(BusyError, match="locked by another program; close that"):
        Ledger(locked).finished("k1")


def test_reading_goes_on_while_another_program_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.05)
    ledger = Ledger(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert ledger.finished("k1") is not None
        with pytest.raises(BusyError):
            start(ledger, "k9")


def test_what_can_be_read_of_a_damaged_ledger_is_kept(path: Path, tmp_path: Path) -> None:
    whole = salvage(path, tmp_path / "copy.db")
    assert whole == 699 and Ledger(tmp_path / "copy.db").finished("k7") == Ledger(path).finished(
        "k7"
    )
    data = bytearray(path.read_bytes())
    pages = len(data) // 4096
    data[pages // 2 * 4096 : (pages // 2 + 1) * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    for beside in path.parent.glob("onmodel.db-*"):
        beside.unlink()
    kept = salvage(path, tmp_path / "new.db")
    assert whole / 4 < kept < whole
    ledger = Ledger(tmp_path / "new.db")
    assert ledger.faults() == [] and ledger.finished("k0") is not None


@pytest.mark.parametrize("data", [b"", b"not a database at all" * 100])
def test_of_a_file_that_is_no_ledger_nothing_is_kept(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "old.db").write_bytes(data)
    assert salvage(tmp_path / "old.db", tmp_path / "new.db") == 0
    assert Ledger(tmp_path / "new.db").keys() == {}


def test_a_folder_in_the_place_of_the_ledger_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "onmodel.db").mkdir()
    with pytest.raises(StateError, match="cannot be opened or written"):
        Ledger(tmp_path / "onmodel.db")


def test_a_run_is_running_until_it_ends_and_killed_when_its_process_is_gone(
    tmp_path: Path,
) -> None:
    path = tmp_path / "onmodel.db"
    ledger = Ledger(path)
    ids = [start(ledger, f"k{number}") for number in range(4)]
    ledger.finish(ids[1], "run", "h", 2.0, NOW)
    ledger.stop(ids[2], "failed", "no room", 3.0)
    script = (
        "import sys; from pathlib import Path; from tests.ledger.test_store import Ledger, start;"
        "start(Ledger(Path(sys.argv[1])), 'k9')"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True, cwd=Path(__file__).parents[2])
    runs = ledger.runs()
    assert [run.state for run in runs] == ["killed", "running", "failed", "done", "running"]
    assert (runs[2].line, runs[2].seconds, runs[2].finished) == ("no room", 3.0, None)
    assert (runs[3].finished, runs[3].seconds) == (NOW, 2.0)
    with closing(sqlite3.connect(path)) as db, db:  # the number was given to another process
        db.execute(f"UPDATE runs SET process = '{os.getpid()} 1.00 {platform.node()}'")
    assert [run.state for run in ledger.runs()][1] == "killed"


def test_stages_wait_until_their_turn_or_the_end(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "onmodel.db")
    with (
        pytest.raises(ZeroDivisionError),
        ledger.queued("r", {"data": "curate", "first": "train", "best": "select"}) as begin,
    ):
        begin("data")
        assert [(run.stage, run.verb, run.state) for run in ledger.runs()] == [
            ("best", "select", "queued"),
            ("first", "train", "queued"),
        ]
        raise ZeroDivisionError
    assert ledger.runs() == []


def test_a_result_waits_for_the_disk_and_a_start_does_not(tmp_path: Path) -> None:
    ledger, said = Ledger(tmp_path / "onmodel.db"), list[str]()
    ledger._db.set_trace_callback(said.append)
    run = start(ledger, "k")
    ledger.finish(run, "run", "h", 1.0, NOW)
    levels = [line.rpartition(" ")[2] if "synchronous" in line else line[:6] for line in said]
    assert [one for one in levels if one not in ("BEGIN", "BEGIN ", "COMMIT")] == [
        "NORMAL",
        "INSERT",
        "FULL",
        "UPDATE",
    ]


def test_messages_of_a_run_are_read_back_as_they_were_told(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "onmodel.db")
    run = start(ledger, "k")
    told = [
        Note("two files", "warning", ("a", "b")),
        Row("epochs", "epoch 1", {"epoch": 1, "loss": 0.5, "heldout": None}),
        Finding("disk", "fail", "is full", "make room"),
    ]
    for message in told:
        ledger.add_message(run, message)
    ledger.add_message(run, Row("epochs", "epoch 2", {"loss": float("nan")}))
    rows = ledger.messages(run)
    assert list(rows[1][1].cells) == ["epoch", "loss", "heldout"]  # type: ignore[union-attr]
    assert [message for _, message in rows] == [*told, Row("epochs", "epoch 2", {"loss": None})]
    assert ledger.messages(run, after=rows[2][0]) == rows[3:] and ledger.faults() == []


def test_a_ledger_of_the_release_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "onmodel.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript("".join(MIGRATIONS[:3]) + "PRAGMA user_version = 3;")
        for number, finished in ((1, NOW), (2, None)):
            db.execute(
                "INSERT INTO runs (id, key, recipe, stage, verb, settings, inputs, environment,"
                " started, finished) VALUES (?, 'k', 'r', 's', 'train', '{}', '{}', '{}', ?, ?)",
                (number, NOW, finished),
            )
    assert [run.state for run in Ledger(path).runs()] == ["killed", "done"]
