"""What happens to the steps of a training while it runs."""

import importlib.util
import json
from pathlib import Path

import pytest

from onmodel.engine.tracking import TRACKERS, check_tracker, journal
from onmodel.errors import InputError
from onmodel.ledger.store import Ledger

ROWS = [{"step": i, "epoch": 1, "loss": 1 / i} for i in range(1, 8)]


def test_every_step_is_told_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a.db")
    with journal(ledger, "key", "look", tmp_path, None, {}) as first:
        first.record(ROWS[:3])
    ledger.add_steps("key", ROWS[:5])  # a kill before the lines were written
    with journal(ledger, "key", "look", tmp_path, None, {}) as second:
        second.record(ROWS)
    assert ledger.steps("key") == ROWS and ledger.steps("other") == []
    assert [json.loads(line) for line in (tmp_path / "look.jsonl").read_text().splitlines()] == ROWS


def test_tensorboard_gets_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = {"rank": 4, "data": [{"subset": "base"}], "start": None}
    with journal(
        Ledger(tmp_path / "a.db"), "key", "look", tmp_path, "tensorboard", settings
    ) as opened:
        opened.record(ROWS)
    events = EventAccumulator(str(tmp_path / "look"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (row["step"], pytest.approx(row["loss"])) for row in ROWS
    ]


def test_what_cannot_be_told_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    check_tracker(None)
    with pytest.raises(InputError, match="--tracker: tensorbord — one of tensorboard"):
        check_tracker("tensorbord")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in TRACKERS:
        with pytest.raises(
            InputError, match=f"--tracker: {name} — is not installed; pip install {name}"
        ):
            check_tracker(name)
