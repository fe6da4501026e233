import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from onmodel import checked
from onmodel.engine import project
from onmodel.engine.clean import survey
from onmodel.engine.project import Project
from onmodel.errors import BusyError, InputError, StateError
from onmodel.events import Events
from onmodel.hashing import TEMPORARY_PREFIX, write_atomic
from onmodel.ledger.store import RunStart
from onmodel.project_check import examine_project
from onmodel.release.folder import CHECKSUMS, hashes
from tests.support.objects import fill, flip, made, release


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


def hold(
    folder: Path,
    held: "multiprocessing.synchronize.Event",
    done: "multiprocessing.synchronize.Event",
) -> None:
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
        RunStart("k", "r", "preview", "train", {"epochs": 2}, {"data": "h"}, "toon"),
        {},
        "2026-11-22T00:00:00+00:00",
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


# --- objects that were changed on the disk
# ---------------------------------------------------------------------------


def rewrite(path: Path) -> None:
    path.write_bytes(b"anything")


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a changed picture": (
        lambda folder: rewrite(folder / "pictures" / "a.png"),
        "pictures/a.png",
        "was changed",
    ),
    "a changed history": (
        lambda folder: rewrite(folder / "lineage.json"),
        "lineage.json",
        "was changed",
    ),
    "a cut file": (lambda folder: os.truncate(folder / "data.json", 1), "data.json", "was changed"),
    "an emptied file": (
        lambda folder: os.truncate(folder / "data.json", 0),
        "data.json",
        "was changed",
    ),
    "a file that is gone": (
        lambda folder: (folder / "lineage.json").unlink(),
        "lineage.json",
        "is missing",
    ),
    "a folder that is gone": (
        lambda folder: shutil.rmtree(folder / "pictures"),
        "pictures/a.png",
        "is missing",
    ),
    "a file too many": (
        lambda folder: rewrite(folder / "pictures" / ".DS_Store"),
        ".DS_Store",
        "is no part of",
    ),
    "a renamed file": (
        lambda folder: (folder / "data.json").rename(folder / "d.json"),
        "data.json",
        "is missing",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_object_is_never_used_and_its_file_is_named(damage: str, tmp_path: Path) -> None:
    artifact = made(Project(tmp_path))
    do, file, what = DAMAGES[damage]
    do(artifact.path)
    for use in (lambda p: p.object("dataset", artifact.hash), lambda p: p.artifacts("dataset")):
        with pytest.raises(StateError) as told:
            use(Project(tmp_path))
        assert file in str(told.value) and what in str(told.value)


def test_an_object_without_a_record_of_its_files_is_read_whole(tmp_path: Path) -> None:
    artifact = made(Project(tmp_path))
    project.table_of(artifact.path).unlink()
    assert Project(tmp_path).object("dataset", artifact.hash) == artifact
    rewrite(artifact.path / "data.json")
    with pytest.raises(StateError, match=artifact.hash):
        Project(tmp_path).object("dataset", artifact.hash)


def test_a_file_that_looks_as_it_did_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = made(Project(tmp_path / "p"))
    shutil.copytree(tmp_path / "p", tmp_path / "copy")
    read: list[str] = []

    def watched(path: Path) -> str:
        read.append(path.name)
        return real(path)

    real = checked.sha256_file
    monkeypatch.setattr(checked, "sha256_file", watched)
    Project(tmp_path / "p").object("dataset", artifact.hash)
    assert not read
    os.utime(artifact.path / "data.json")
    Project(tmp_path / "p").object("dataset", artifact.hash)
    assert read == ["data.json"]
    read.clear()
    for expected in (3, 0):  # a copy is read once, by a process that may write
        place = Project(tmp_path / "copy")
        with place.writing():
            place.object("dataset", artifact.hash)
        assert len(read) == expected
        read.clear()


def test_an_object_that_was_deleted_or_moved_away_is_made_again(tmp_path: Path) -> None:
    place = Project(tmp_path)
    artifact = made(place)
    assert place.finished("k1") is not None
    place.set_aside(artifact.path)
    assert place.finished("k1") is None and place.artifacts("dataset") == []
    assert (
        tmp_path / "damaged" / "objects" / artifact.hash[:2] / artifact.hash / "data.json"
    ).exists()
    assert made(place) == artifact
    assert place.finished("k1") is not None


def test_a_stage_that_makes_a_damaged_object_again_replaces_it(tmp_path: Path) -> None:
    artifact = made(Project(tmp_path))
    flip(artifact.path / "data.json")
    assert made(Project(tmp_path)) == artifact
    assert project.fault_of(artifact.path) is None
    assert [path.name for path in (tmp_path / "damaged").rglob("data.json")] == ["data.json"]


# --- locks and leftovers
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    ["", "process 1", "999999999 1.0 {node}", "{own} 1.0 {node}", "\udcff 1 2", "x 1.0 {node}"],
)
def test_a_stale_note_of_the_writer_names_nobody(said: str, tmp_path: Path) -> None:
    import platform

    text = said.format(node=platform.node(), own=os.getpid())
    place = Project(tmp_path)
    with place.writing():
        (tmp_path / "writer.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
        with (
            pytest.raises(BusyError, match="is being written by another process"),
            Project(tmp_path).writing(),
        ):
            pass


def test_the_writer_takes_its_note_along(tmp_path: Path) -> None:
    with Project(tmp_path).writing():
        assert (tmp_path / "writer.txt").exists()
    assert not (tmp_path / "writer.txt").exists()


PLACES = [
    ".",
    "report",
    "release",
    "logs",
    "objects",
    "objects/ab",
    "pictures",
    "pictures/0f",
    "scratch",
    f"scratch/{'2' * 24}",
    f"scratch/{'2' * 24}/out",
    f"scratch/{'2' * 24}/features",
]


@pytest.mark.parametrize("place", PLACES)
def test_what_a_killed_process_left_is_removed_when_writing_begins(
    place: str, tmp_path: Path
) -> None:
    opened = Project(tmp_path)
    folder = tmp_path / place
    (folder / f"{TEMPORARY_PREFIX}tree" / "deep").mkdir(parents=True)
    (folder / f"{TEMPORARY_PREFIX}file").write_bytes(b"half")
    (folder / "kept.txt").write_text("")
    with opened.writing():
        pass
    assert not list(tmp_path.rglob(f"{TEMPORARY_PREFIX}*")) and (folder / "kept.txt").exists()


def test_what_a_report_writes_is_not_removed_by_a_run_that_begins(tmp_path: Path) -> None:
    reading, writing = Project(tmp_path), Project(tmp_path)
    with reading.results():
        half = [tmp_path / f"{TEMPORARY_PREFIX}s", tmp_path / "report" / f"{TEMPORARY_PREFIX}p"]
        half[1].parent.mkdir()
        for path in half:
            path.write_bytes(b"half")
        with writing.writing():
            assert all(path.exists() for path in half)
    with writing.writing(), reading.results():
        assert not any(path.exists() for path in half)


def test_only_scratch_of_finished_stages_is_removed(tmp_path: Path) -> None:
    place = Project(tmp_path)
    keys = {"finished": "1" * 64, "begun": "2" * 64, "made again": "3" * 64, "unknown": "4" * 64}
    for key in keys.values():
        (place.scratch(key) / "state.json").write_text("{}")
    for key, done in (
        (keys["finished"], True),
        (keys["begun"], False),
        (keys["made again"], True),
        (keys["made again"], False),
    ):
        run = place.ledger.start(
            RunStart(key, "r", "s", "train", {}, {}, "toon"), {}, "2026-11-22T00:00:00+00:00"
        )
        if done:
            place.ledger.finish(run, "run", "h", 1.0, "2026-11-22T00:00:01+00:00")
    (tmp_path / "scratch" / "mine").mkdir()
    with place.writing():
        pass
    assert {path.name[0] for path in (tmp_path / "scratch").iterdir()} == {"2", "3", "4", "m"}


# --- folders that cannot be used
# -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file", "file/inner", "n" * 300, "link"])
def test_a_folder_that_cannot_be_made_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(InputError, match=r"^project: .* cannot be written"):
        Project(tmp_path / name)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A project with one object, on a mount that cannot be written."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    place = Project(folder / "p")
    made(place)
    place.ledger.close()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    yield folder / "p"
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_project_on_a_read_only_mount_is_read_and_not_written(read_only: Path) -> None:
    place = Project(read_only)
    assert len(place.artifacts("dataset")) == 1 and place.finished("k1") is not None
    assert all(row.status == "ok" for row in examine_project(read_only, False, Events()))
    assert not any(survey(place, [], Events()).paths.values())
    for hold in (place.writing, place.results):
        with pytest.raises(InputError, match="cannot be written"), hold():
            pass
    with pytest.raises(InputError, match="cannot be written"):
        Project(read_only.parent / "new")


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs a user without rights")
@pytest.mark.parametrize("live", [False, True])
def test_a_project_of_another_user_is_read(live: bool, tmp_path: Path) -> None:
    """Also while its owner writes, when the ledger's log holds what the file does not."""
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:  # a worker of pytest-xdist adds a folder
        parent.chmod(0o755)
    place = Project(tmp_path / "p")
    made(place)
    if not live:
        place.ledger.close()
    code = f"""
import os
from pathlib import Path
import psutil, onmodel.errors, onmodel.engine.project, onmodel.hashing
onmodel.hashing.hash_json({{"a": "b"}})  # what is imported late is out of reach after this
os.setgroups([]); os.setgid(65534); os.setuid(65534)
place = onmodel.engine.project.Project(Path({str(tmp_path / "p")!r}))
print(len(place.artifacts("dataset")))
try:
    with place.writing(): pass
except onmodel.errors.InputError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert (
        ran.stdout.startswith("1\nproject: ")
        and "cannot be written (Permission denied)" in ran.stdout
    )


# --- publishing
# -------------------------------------------------------------------------------------------------


def test_publish_replaces_what_was_published_as_a_whole(tmp_path: Path) -> None:
    place, target = Project(tmp_path), tmp_path / "release" / "x"
    place.publish(release(place, 1), target)
    new = release(place, 2)
    (target / "README.md").unlink()  # what is missing is nobody's
    place.publish(new, target)
    assert hashes(target) == hashes(new.path) and [
        path.name for path in target.parent.iterdir()
    ] == ["x"]


OWN: dict[str, tuple[Callable[[Path], object], str]] = {
    "an added file": (lambda folder: (folder / "notes.txt").write_text("mine"), "notes.txt"),
    "an added hidden file": (lambda folder: (folder / ".env").write_text("mine"), ".env"),
    "an added file in a folder": (
        lambda folder: (folder / "sub" / "b.png").write_text("mine"),
        "b.png",
    ),
    "a changed card": (lambda folder: (folder / "README.md").write_text("mine"), "README.md"),
    "a link": (lambda folder: (folder / "other").symlink_to(folder.parent), "other"),
    "other checksums": (lambda folder: (folder / CHECKSUMS).write_text("mine"), "README.md"),
    "no checksums": (lambda folder: (folder / CHECKSUMS).unlink(), "README.md"),
    "a file in its place": (lambda folder: (shutil.rmtree(folder), folder.write_text("mine")), "x"),
}


@pytest.mark.parametrize("own", OWN)
def test_files_that_a_person_put_into_a_release_are_named_and_nothing_is_replaced(
    own: str, tmp_path: Path
) -> None:
    place, target = Project(tmp_path), tmp_path / "release" / "x"
    place.publish(release(place, 1), target)
    do, name = OWN[own]
    do(target)
    before = contents(target)
    with pytest.raises(InputError, match=f"{name}.*move it elsewhere"):
        place.publish(release(place, 2), target)
    assert contents(target) == before
    shutil.move(target, tmp_path / "elsewhere")  # the remedy
    place.publish(release(place, 2), target)


def contents(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {
        str(file.relative_to(path)): b"" if file.is_symlink() else file.read_bytes()
        for file in path.rglob("*")
        if file.is_symlink() or file.is_file()
    }


def test_publishing_the_same_again_leaves_own_files_alone(tmp_path: Path) -> None:
    place, target = Project(tmp_path), tmp_path / "release" / "x"
    artifact = release(place, 1)
    place.publish(artifact, target)
    (target / "notes.txt").write_text("mine")
    place.publish(artifact, target)
    assert (target / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("file", ["x.bin", "README.md", "sub/a.png", CHECKSUMS])
def test_a_damaged_release_is_not_published(file: str, tmp_path: Path) -> None:
    place, target = Project(tmp_path), tmp_path / "release" / "x"
    place.publish(release(place, 1), target)
    artifact, before = release(place, 2), contents(target)
    flip(artifact.path / file)
    with pytest.raises(StateError, match="does not have the hash"):
        place.publish(artifact, target)
    assert contents(target) == before


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_umask_gives(mask: int, mode: int, tmp_path: Path) -> None:
    place = Project(tmp_path)
    artifact = release(place, 1)
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "own.txt", b"")
        place.publish(artifact, tmp_path / "release" / "x")
    finally:
        os.umask(before)
    files = [
        tmp_path / "own.txt",
        *(path for path in (tmp_path / "release" / "x").rglob("*") if path.is_file()),
    ]
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}
