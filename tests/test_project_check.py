"""`onmodel doctor PROJECT`: every byte is read, and what can be made again is moved out of the way,
never removed."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from onmodel.checked import Checked, append_table
from onmodel.cli.main import app
from onmodel.engine.project import Project, table_of
from onmodel.errors import BusyError, InputError, StateError
from onmodel.events import Events
from onmodel.hashing import sha256_file
from onmodel.project_check import examine_project
from onmodel.sample.pictures import TABLE
from tests.support.objects import flip, made, release


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two objects, three cached pictures, a published release."""
    place = Project(tmp_path / "p")
    for value in (1, 2):
        made(place, value)
    place.publish(release(place, 3), tmp_path / "p" / "release" / "x")
    for key in ("00", "ab", "ac"):
        picture = place.pictures / key / f"{key * 32}.png"
        picture.parent.mkdir(parents=True)
        Image.effect_noise((16, 16), 40).save(picture)
        append_table(picture.parent / TABLE, {picture.name: Checked.of(picture, picture.stat())})
    place.ledger.close()
    return tmp_path / "p"


def check(folder: Path, *options: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code; what is not well: text by what it is about, with its status."""
    result = CliRunner().invoke(app, ["doctor", str(folder), "--json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    rows = json.loads(result.stdout[result.stdout.index("[") :])
    return result.exit_code, {
        row["about"]: (row["status"], row["text"]) for row in rows if row["status"] != "ok"
    }


def tree(folder: Path) -> dict[str, bytes]:
    """Every file that matters; locks and the ledger's own side files come and go."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".lock", ".db-wal", ".db-shm", ".jsonl")
    }


def files(folder: Path) -> list[Path]:
    """The files that have a hash: of objects and the picture cache."""
    return sorted(
        path
        for kind in ("objects", "pictures")
        for path in (folder / kind).rglob("*")
        if path.is_file() and path.suffix != ".jsonl"
    )


def test_a_whole_project_is_told_in_a_line_for_each_part(folder: Path) -> None:
    code, rows = check(folder)
    assert code == 0 and list(rows) == [
        "objects"
    ]  # the release's object was never recorded as a run
    assert "1 that the ledger does not name" in rows["objects"][1]
    result = CliRunner().invoke(app, ["doctor", str(folder)])
    said = [line for line in result.stdout.splitlines() if line.startswith("ok")]
    assert [line.split(": ")[0].split()[-1] for line in said] == [
        "ledger",
        "objects",
        "pictures",
        "x",
    ]


def test_every_flipped_byte_is_found_even_with_its_old_time_and_the_fix_moves_it_away(
    folder: Path,
) -> None:
    """Without --fix nothing changes; with it nothing is lost, and the project is whole again."""
    for path in files(folder):
        if not path.exists():  # its object was moved away
            continue
        flip(path)
        before = tree(folder)
        code, rows = check(folder)
        assert code == 1 and any(
            path.name in text for status, text in rows.values() if status == "fail"
        ), path
        assert tree(folder) == before
        code, rows = check(folder, "--fix")
        assert code == 0 and any("damaged" in text for _, text in rows.values())
        assert sorted(tree(folder).values()) == sorted(before.values())
        assert not any(status == "fail" for status, _ in check(folder)[1].values())
        shutil.rmtree(folder / "damaged")
    assert not files(folder)


def test_what_the_fix_moved_is_made_again(folder: Path) -> None:
    place = Project(folder)
    run = place.finished("k1")
    assert run is not None
    artifact = place.object(run.kind, run.artifact)
    (artifact.path / "data.json").write_bytes(b"")
    with pytest.raises(StateError, match=f"onmodel doctor {folder} --fix"):
        Project(folder).object("dataset", artifact.hash)
    check(folder, "--fix")
    assert Project(folder).finished("k1") is None and not table_of(artifact.path).exists()
    assert made(Project(folder), 1) == artifact and Project(folder).finished("k1") is not None


def test_a_file_too_many_leaves_its_object_where_it_is(folder: Path) -> None:
    run = Project(folder).finished("k1")
    assert run is not None
    place = Project(folder).place(run.artifact)
    for name in (".DS_Store", "notes.txt"):
        (place / name).write_text("mine")
    assert check(folder)[0] == 1
    assert check(folder, "--fix")[0] == 0
    assert Project(folder).object(run.kind, run.artifact).hash == run.artifact
    assert sorted(path.name for path in (folder / "damaged").rglob("*") if path.is_file()) == [
        ".DS_Store",
        "notes.txt",
    ]


@pytest.mark.parametrize(
    "file", ["README.md", "sub/a.png", "x.bin", "lineage.json", "checksums.txt"]
)
def test_a_release_that_was_changed_is_told_and_left_alone(file: str, folder: Path) -> None:
    before = tree(folder / "release")
    flip(folder / "release" / "x" / file)
    code, rows = check(folder, "--fix")
    assert code == 1 and rows["release x"][0] == "fail"
    assert tree(folder / "release").keys() == before.keys()


def overwrite(path: Path) -> None:
    path.write_bytes(b"no ledger" * 1000)


def zero_page(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(4096) + data[8192:])


def bad_row(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE runs SET settings = '{' WHERE key = 'k1'")


DAMAGES: dict[str, tuple[Callable[[Path], object], bool]] = {  # and whether rows are left
    "overwritten": (overwrite, False),
    "emptied": (lambda path: path.write_bytes(b""), False),
    "gone": (lambda path: path.unlink(), False),
    "a page of zeros": (zero_page, False),
    "a row": (bad_row, True),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_ledger_is_begun_anew_with_what_can_be_read(damage: str, folder: Path) -> None:
    do, left = DAMAGES[damage]
    path = folder / "onmodel.db"
    do(path)
    was = path.read_bytes() if path.exists() else None
    code, rows = check(folder)
    assert code == 1 and rows["ledger"][0] == "fail"
    if damage != "a row":
        with pytest.raises(StateError, match=f"onmodel doctor {folder} --fix"):
            Project(folder).ledger.finished("k1")
    assert (path.read_bytes() if path.exists() else None) == was
    code, rows = check(folder, "--fix")
    assert code == 0 and rows["ledger"][0] == "warn"
    if was is not None:
        assert (folder / "damaged" / "onmodel.db").read_bytes() == was
    place = Project(folder)
    assert place.finished("k1") is None and (place.finished("k2") is not None) == left
    assert check(folder)[0] == 0 and len(place.objects()) == 3


def test_a_ledger_of_a_newer_onmodel_is_never_fixed(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "onmodel.db")) as db, db:
        db.execute("PRAGMA user_version = 99")
    before = (folder / "onmodel.db").read_bytes()
    code, rows = check(folder, "--fix")
    assert code == 1 and "newer onmodel" in rows["ledger"][1]
    assert (folder / "onmodel.db").read_bytes() == before


def test_leftovers_are_told_with_their_command(folder: Path) -> None:
    (folder / "pictures" / "ab" / ".onmodel-torn").write_bytes(b"123")
    Project(folder).scratch("f" * 64).joinpath("state").write_bytes(b"12345")
    _, rows = check(folder)
    assert rows["temporaries"][1] == "1 that no run needs, 3 bytes" and rows["scratch"][1].endswith(
        "5 bytes"
    )


def test_no_project_and_wrong_options_are_one_line(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="not a project folder"):
        examine_project(tmp_path, False, Events())
    assert not list(tmp_path.glob("onmodel.db*"))
    for words in (["doctor", "--fix"], ["doctor", str(folder), "--base", "toon"]):
        assert isinstance(CliRunner().invoke(app, words).exception, InputError)


def test_nothing_is_fixed_while_another_process_writes(folder: Path) -> None:
    with Project(folder).writing():
        assert check(folder)[0] == 0
        with pytest.raises(BusyError):
            examine_project(folder, True, Events())


def test_a_picture_that_the_cache_never_recorded_is_judged_by_its_own_checksums(
    folder: Path,
) -> None:
    (picture,) = (folder / "pictures" / "ab").glob("*.png")
    (picture.parent / TABLE).unlink()
    assert check(folder)[0] == 0
    before = sha256_file(picture)
    os.truncate(picture, picture.stat().st_size - 9)
    assert sha256_file(picture) != before and check(folder)[0] == 1
