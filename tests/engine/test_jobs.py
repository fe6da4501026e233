"""Files by their hash, and what a worker is sent."""

import os
from pathlib import Path

import pytest

from onmodel.engine.cluster.jobs import (
    Lacking,
    SentBase,
    Workplace,
    with_folder,
    without_folders,
)
from onmodel.engine.cluster.planner import hashed
from onmodel.engine.cluster.reports import Replay, Report, Reporter, labelled
from onmodel.engine.cluster.store import Store
from onmodel.errors import InputError, StateError
from onmodel.events import TaskAdvanced, TaskEnded, TaskStarted
from onmodel.families.registry import base_sha256, parse_base
from onmodel.hashing import sha256_bytes
from onmodel.stages.release import Settings
from tests.support.events import Recorded


def test_a_full_store_forgets_what_was_used_longest_ago(tmp_path: Path) -> None:
    store, names = Store(tmp_path, 250), []
    for number in range(4):
        content = bytes([number]) * 100
        names.append(sha256_bytes(content))
        store.add(names[-1], [content[:30], content[30:]])
        path = tmp_path / "files" / names[-1][:2] / names[-1]
        os.utime(path, (number, number))
    assert store.put(names[0], tmp_path / "used")  # so it is the newest
    store.trim()
    assert [store.has(name) for name in names] == [True, False, False, True]
    assert not store.put(names[1], tmp_path / "gone")


def test_a_file_that_arrives_damaged_is_not_kept(tmp_path: Path) -> None:
    store, name = Store(tmp_path, 1000), sha256_bytes(b"whole")
    with pytest.raises(StateError, match="did not arrive"):
        store.add(name, [b"wh", b"ale"])
    assert not store.has(name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_job_has_names_in_place_of_paths(tmp_path: Path) -> None:
    licence = tmp_path / "home" / "licence.txt"
    licence.parent.mkdir()
    licence.write_text("MIT")
    table = {"do": "release", "model": "m", "evaluation": "e", "title": "T", "file_name": "f"}
    settings = Settings.model_validate(table | {"license_file": licence})
    sent, paths = without_folders(settings)
    assert str(sent.license_file) == "license_file/licence.txt"
    assert paths == {"license_file/licence.txt": licence}
    assert with_folder(sent, Path("/w")).license_file == Path("/w/license_file/licence.txt")
    assert sent.told() == settings.told()


def test_a_base_in_a_folder_is_sent_once(tiny_anima: Path, tmp_path: Path) -> None:
    settings = parse_base({"family": "anima", "folder": tiny_anima, "device": "cpu"})
    sent, paths = without_folders(settings)
    files, sources = hashed(paths)
    base = SentBase(sent, base_sha256(settings), "anima", files)
    place = Workplace(tmp_path, 10**9)
    with pytest.raises(Lacking) as lacking:
        place.check_base(base)
    assert set(lacking.value.hashes) == set(sources)
    for sha256 in lacking.value.hashes:
        place.store.add(sha256, [sources[sha256].read_bytes()])
    assert place.family(base) is place.family(base)
    Workplace(tmp_path, 0).store.trim()  # the base stays
    Workplace(tmp_path, 10**9).check_base(base)


def test_another_base_on_the_machine_is_refused(tmp_path: Path) -> None:
    base = SentBase(parse_base("toon"), "0" * 64, "toon", {})
    with pytest.raises(InputError, match=r"base: toon is \w{12} on this machine, 0{12} on the"):
        Workplace(tmp_path, 0).family(base)


def test_reports_become_the_same_events_at_the_head() -> None:
    sent: list[Report] = []
    with Reporter(sent.extend) as reporter:
        with reporter.events.task("pictures", total=3) as task:
            task.advance(2, "half")
            task.note("a note")
        reporter.record([{"step": 1}])
    heard, rows = Recorded(), []
    Replay(labelled(heard, "first"), rows.extend)(sent)
    started, advanced, _, ended = heard.events
    assert isinstance(started, TaskStarted) and started.name == "first: pictures"
    assert advanced == TaskAdvanced(started, 2, "half")
    assert heard.text == "  first: a note\n"
    assert isinstance(ended, TaskEnded) and ended.task is started and ended.completed
    assert rows == [{"step": 1}]


def test_a_lost_job_leaves_no_task_open() -> None:
    sent: list[Report] = []
    reporter = Reporter(sent.extend)
    with reporter:
        reporter.events(TaskStarted("train", 9))
    heard = Recorded()
    replay = Replay(heard, lambda rows: None)
    replay(sent)
    replay.close()
    assert isinstance(heard.events[-1], TaskEnded) and not heard.events[-1].completed
