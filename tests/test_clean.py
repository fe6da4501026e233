"""`onmodel clean`: what no recipe needs any more is told with its bytes, and freed only when asked
to."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.engine import clean, local
from onmodel.engine.project import KEY_DIGITS, Project
from onmodel.errors import BusyError, InputError
from onmodel.events import Events
from onmodel.hashing import TEMPORARY_PREFIX, write_atomic, write_json
from onmodel.ledger.store import RunStart
from onmodel.recipe import Recipe, load_recipe
from tests.support.objects import made

RECIPE = """
[recipe]
name = "two"
character = "toon:backgwa"
seed = {seed}
date = "2026-11-22"

[stages.data]
do = "curate"
subsets.base = [{{ toon = "backgwa_base", count = 2 }}]

[stages.more]
do = "curate"
subsets.base = [{{ dataset = "data", subset = "base" }}]
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which two recipes of two data sets each are done, and the recipes beside it."""
    home = tmp_path_factory.mktemp("clean")
    place = Project(home / "p")
    with place.writing():
        for seed in (1, 2):
            (home / f"{seed}.toml").write_text(RECIPE.format(seed=seed))
            local.run(load_recipe(home / f"{seed}.toml"), place, Events())
    place.ledger.close()
    return home


@pytest.fixture
def home(whole: Path, tmp_path: Path) -> Path:
    """A copy, with leftovers of 3, 5 and 7 bytes, and two cached pictures: one that nothing shows,
    one of recipe 1."""
    shutil.copytree(whole, tmp_path / "home")
    folder = tmp_path / "home" / "p"
    (folder / "logs").mkdir(exist_ok=True)
    (folder / "logs" / f"{TEMPORARY_PREFIX}a").write_bytes(b"123")
    scratch = Project(folder).scratch("f" * 64)
    (scratch / "state").write_bytes(b"12345")
    write_atomic(folder / "damaged" / "objects" / "ab" / "x", b"1234567")
    write_atomic(folder / "pictures" / "ab" / ("ab" * 32 + ".png"), b"12345678901")
    shown = next(
        path
        for hash, path in Project(folder).objects().items()
        if hash in kept(tmp_path / "home", 1)
    )
    image = next((shown / "images").glob("*.png"))
    (folder / "pictures" / "cd").mkdir()
    os.link(image, folder / "pictures" / "cd" / image.name)
    return tmp_path / "home"


def recipe(home: Path, number: int) -> Recipe:
    return load_recipe(home / f"{number}.toml")


def kept(home: Path, number: int) -> set[str]:
    """The objects of a recipe."""
    return {
        a.hash
        for a in local.finished(
            recipe(home, number), Project(home / "p"), Events()
        ).artifacts.values()
    }


def ran(home: Path, *words: str) -> dict[str, dict[str, object]]:
    result = CliRunner().invoke(app, ["clean", str(home / "p"), "--json", *words])
    assert result.exit_code == 0, result.exception
    table: dict[str, dict[str, object]] = json.loads(result.stdout[result.stdout.index("{") :])
    return table


def snapshot(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith("onmodel.db") and path.suffix != ".lock"
    }


def test_nothing_is_removed_without_yes(home: Path) -> None:
    before = snapshot(home)
    for words in ([], [str(home / "1.toml")]):
        ran(home, *words)
        assert snapshot(home) == before


def test_without_a_recipe_only_leftovers_are_freed(home: Path) -> None:
    objects = set(Project(home / "p").objects())
    told = ran(home)
    assert {kind: row["bytes"] for kind, row in told["kinds"].items()} == {  # type: ignore[index]
        "temporaries": 3,
        "scratch": 5,
        "damaged": 7,
        "objects": 0,
        "pictures": 0,
    }
    assert ran(home, "--yes")["kinds"] == told["kinds"]
    assert (
        set(Project(home / "p").objects()) == objects
        and len(list((home / "p" / "pictures").rglob("*.png"))) == 2
    )
    again = ran(home, "--yes")["kinds"]
    assert not any(row["paths"] for row in again.values())  # type: ignore[index]


@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 2)])
def test_what_a_recipe_has_done_stays_done(numbers: tuple[int, ...], home: Path) -> None:
    wanted = set().union(*(kept(home, number) for number in numbers))
    ran(home, *(str(home / f"{number}.toml") for number in numbers), "--yes")
    place = Project(home / "p")
    assert set(place.objects()) == wanted
    left = [path.name[:2] for path in place.pictures.rglob("*.png")]
    assert "ab" not in left and (len(left) == 1) == (1 in numbers or bool(left))
    for number in numbers:
        assert kept(home, number) <= wanted and len(kept(home, number)) >= 1
        assert all(
            place.finished(cell.key) for cell in local.cells(recipe(home, number), place, Events())
        )
    assert not [
        path
        for path in place.folder.rglob("*.jsonl")
        if path.parents[1].name == "objects" and path.stem not in wanted
    ]


def test_a_recipe_whose_first_object_was_deleted_keeps_the_others(home: Path) -> None:
    place = Project(home / "p")
    steps = {cell.step.name: cell.key for cell in local.cells(recipe(home, 1), place, Events())}
    done = {name: place.finished(key) for name, key in steps.items()}
    assert done["data"] and done["more"]
    shutil.rmtree(place.place(done["data"].artifact))
    told = ran(home, str(home / "1.toml"), "--yes")
    assert place.place(done["more"].artifact).is_dir()
    assert "these stages are not done: data of two" in told["notes"][0]  # type: ignore[index]
    assert (home / "p" / "pictures" / "ab").exists() and told["kinds"]["pictures"] == {
        "bytes": 0,
        "paths": [],
    }


def test_scratch_that_a_recipe_goes_on_from_is_kept(home: Path) -> None:
    place = Project(home / "p")
    first, second = (
        {cell.step.name: cell.key for cell in local.cells(recipe(home, number), place, Events())}
        for number in (1, 2)
    )
    for key in (first["more"], second["more"]):
        place.scratch(key).joinpath("state").write_bytes(b"1")
        place.ledger.start(
            RunStart(key, "r", "s", "curate", {}, {}, "toon"), {}, "2026-11-22T00:00:00+00:00"
        )
    assert len(ran(home)["kinds"]["scratch"]["paths"]) == 1  # type: ignore[index, call-overload, arg-type]
    ran(home, str(home / "1.toml"), "--yes")
    assert [path.name for path in (home / "p" / "scratch").iterdir()] == [
        first["more"][:KEY_DIGITS]
    ]


def test_an_object_that_is_not_recorded_yet_is_kept_for_its_recipe(home: Path) -> None:
    place = Project(home / "p")
    orphan = made(place, 7)
    key = next(
        cell.key
        for cell in local.cells(recipe(home, 1), place, Events())
        if cell.step.name == "more"
    )
    place.ledger.start(
        RunStart(key, "r", "s", "curate", {}, {}, "toon"), {}, "2026-11-22T00:00:00+00:00"
    )
    write_json(place.scratch(key) / "commit.json", {"kind": "dataset", "hash": orphan.hash})
    ran(home, str(home / "1.toml"), "--yes")
    assert orphan.path.is_dir()


@pytest.mark.parametrize("place", ["damaged", "pictures/ab", "objects/ab", "scratch"])
def test_nothing_outside_the_project_is_freed(place: str, home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    inner = outside / ("a" * 64)
    inner.mkdir(parents=True)
    for name in ("ab" * 32 + ".png", f"{TEMPORARY_PREFIX}x", "mine.txt"):
        (outside / name).write_bytes(b"mine")
    (inner / "mine.txt").write_bytes(b"mine")
    (outside / ("e" * KEY_DIGITS)).mkdir()
    before = snapshot(outside)
    link = home / "p" / place
    shutil.rmtree(link, ignore_errors=True)
    link.symlink_to(outside)
    ran(home, str(home / "1.toml"))
    ran(home, str(home / "1.toml"), "--yes")
    assert {
        name: size for name, size in before.items() if TEMPORARY_PREFIX not in name
    }.items() <= snapshot(outside).items()


def test_files_of_a_person_are_left_alone(home: Path) -> None:
    folder = home / "p"
    names = (
        "notes.txt",
        "objects/readme",
        "objects/ab/x",
        "scratch/y",
        "release/n/card",
        "pictures/ab/mine.png",
    )
    mine = [folder / name for name in names]
    for path in mine:
        write_atomic(path, b"mine")
    ran(home, str(home / "1.toml"), "--yes")
    assert all(path.exists() for path in mine)


def test_bytes_count_what_really_comes_free(home: Path) -> None:
    """A file with a second name in what is kept frees nothing; one whose names all go counts
    once."""
    damaged = home / "p" / "damaged" / "objects" / "ab"
    os.link(damaged / "x", damaged / "y")
    write_atomic(home / "outside", b"1234")
    os.link(home / "outside", damaged / "z")
    assert ran(home)["kinds"]["damaged"]["bytes"] == 7  # type: ignore[index, call-overload]


def test_another_writer_and_wrong_arguments_are_one_line(home: Path, tmp_path: Path) -> None:
    with Project(home / "p").writing():
        clean.survey(Project(home / "p"), [], Events())
        with pytest.raises(BusyError):
            clean.free(Project(home / "p"), [], Events())
    for words in ([str(tmp_path)], [str(home / "p"), str(home / "none.toml")]):
        assert isinstance(CliRunner().invoke(app, ["clean", *words, "--yes"]).exception, InputError)
    assert not (tmp_path / "onmodel.db").exists()
