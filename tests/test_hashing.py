import errno
import os
from pathlib import Path

import pytest

from onmodel.errors import SpaceError, StateError
from onmodel.hashing import TEMPORARY_PREFIX, read_json, sweep, tree_hash, write_atomic, write_json


def test_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_full_disk_keeps_the_old_file_and_leaves_no_orphan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpaceError, match="free some room"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_tree_hash_sees_names_and_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "x.json", {"k": 1})
    first = tree_hash(tmp_path)
    write_json(tmp_path / "a" / "x.json", {"k": 2})
    second = tree_hash(tmp_path)
    (tmp_path / "a" / "x.json").rename(tmp_path / "a" / "y.json")
    assert len({first, second, tree_hash(tmp_path)}) == 3


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{")
    with pytest.raises(StateError, match=r"s\.json"):
        read_json(tmp_path / "s.json")


def test_sweep_removes_only_our_temporaries(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}abc").write_text("")
    (tmp_path / "mine.txt").write_text("")
    sweep(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
