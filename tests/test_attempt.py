"""How an attempt of a stage ends in the ledger, and what it reported."""

from pathlib import Path

import pytest

from onmodel.engine.attempt import recorded
from onmodel.errors import InputError, PausedError
from onmodel.events import Note, TaskEnded
from onmodel.ledger.store import Ledger, RunStart
from tests.support.events import Recorded


@pytest.mark.parametrize(
    ("error", "state", "line"),
    [
        (KeyboardInterrupt(), "paused", "stopped by Ctrl-C"),
        (PausedError(3, 9), "paused", "paused after step 3 of 9"),
        (InputError("rank", 0, "give it 8"), "failed", "rank: 0 — give it 8"),
        (ValueError("two\nlines"), "failed", "ValueError: two lines"),
    ],
)
def test_an_error_is_recorded_with_its_line(
    error: BaseException, state: str, line: str, tmp_path: Path
) -> None:
    ledger, told = Ledger(tmp_path / "onmodel.db"), Recorded()
    run = ledger.start(
        RunStart("k", "r", "s", "train", {}, {}, "toon"), {}, "2026-11-22T00:00:00+00:00"
    )
    with (
        pytest.raises(type(error)),
        recorded(ledger, run, told) as events,
        events.task("train", 9) as task,
    ):
        task.note("a picture is damaged")
        raise error
    (row,) = ledger.runs()
    assert row.state == state and row.line.startswith(line) and row.seconds is not None
    assert [message for _, message in ledger.messages(run)] == [Note("a picture is damaged")]
    ended = told.events[-1]
    assert isinstance(ended, TaskEnded) and not ended.completed
