"""No answer is lost, none is counted that was not given."""

import errno
import os
from pathlib import Path

import pytest

from onmodel.errors import BusyError, SpaceError, StateError
from onmodel.judge import votes
from onmodel.judge.votes import Votes, voting
from tests.support.judged_project import lines


def test_answers_undo_and_end_come_back_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    votes = Votes(path)
    votes.vote(0, "left")
    votes.vote(1, "tie")
    votes.undo(1)
    votes.vote(1, "right")
    again = Votes(path)
    assert again.answers == ["left", "right"] and not again.ended
    again.end()
    assert Votes(path).ended and len(lines(path)) == 5
    with pytest.raises(ValueError, match="ended"):
        again.vote(2, "left")


def test_a_torn_line_is_no_answer_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    Votes(path).vote(0, "left")
    with path.open("ab") as file:
        file.write(b'{"pair": 1, "ans')
    votes = Votes(path)
    assert votes.answers == ["left"]
    votes.vote(1, "right")
    assert Votes(path).answers == ["left", "right"] and len(lines(path)) == 2


@pytest.mark.parametrize(
    "line",
    [
        '{"pair": 5, "answer": "left"}',
        '{"pair": 1, "answer": "up"}',
        "[]",
        "no",
        "{}",
        '"end"',
        '["end"]',
        '{"end": 7}',
        '{"end": 1, "x": 2}',
        '{"undo": 1}',
        '{"undo": [0]}',
        "null",
        "1",
        "",
        "[" * 5000,
        '{"pair": 1, "answer": ["left"]}',
        '{"pair": 1, "answer": "left"}\u2028{"pair": 2, "answer": "left"}',
        "\xff\x00",
        '{"pair": 0, "answer": "left"}',
    ],
)
def test_damage_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "votes.jsonl"
    Votes(path).vote(0, "left")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(StateError, match=r"line 2 is damaged .*another --seed$") as told:
        Votes(path)
    assert len(str(told.value).splitlines()) == 1


def test_wrong_order_is_refused_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    votes = Votes(path)
    votes.vote(0, "left")
    before = path.read_bytes()
    for wrong in (
        lambda: votes.vote(0, "left"),
        lambda: votes.vote(2, "left"),
        lambda: votes.undo(1),
    ):
        with pytest.raises(ValueError, match=r"pair|last answer"):
            wrong()
    assert path.read_bytes() == before and votes.answers == ["left"]


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "votes.jsonl"
    votes = Votes(path)
    votes.vote(0, "left")
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SpaceError):
            votes.vote(1, "right")
    assert path.read_bytes() == before and votes.answers == ["left"]
    votes.vote(1, "tie")
    assert Votes(path).answers == ["left", "tie"]


def test_one_process_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "votes.jsonl"
    monkeypatch.setattr(votes, "WAIT", 0.05)
    with voting(path), pytest.raises(BusyError, match="another process"), voting(path):
        pass


def test_more_answers_than_pairs_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    for at in range(3):
        Votes(path).vote(at, "left")
    assert len(Votes(path, 3).answers) == 3
    with pytest.raises(ValueError, match="pair"):
        Votes(path, 3).vote(3, "left")
    with pytest.raises(StateError, match="line 3 is damaged"):
        Votes(path, 2)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_journal_that_is_no_file_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "votes.jsonl"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(StateError, match="regular file"):
        Votes(path)
