"""Tags of many pictures are edited as one step."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onmodel.cli.dataset import app
from onmodel.curate.bulk import TagEdit, changes, edit_tags, parse_edit
from onmodel.curate.gather import gather
from onmodel.curate.workshop import Workshop, open_workshop
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.toon.datasets import write_set


@pytest.fixture
def work(tmp_path: Path) -> Workshop:
    write_set("backgwa_base", tmp_path / "base", count=4)
    gather([tmp_path / "base"], tmp_path / "work", "", "", Events())
    return open_workshop(tmp_path / "work")


@pytest.mark.parametrize(
    ("edit", "after"),
    [
        (parse_edit(remove="b"), "a c"),
        (parse_edit(remove="x"), "a b c"),
        (parse_edit(replace="b=y"), "a y c"),
        (parse_edit(replace="b=c"), "a c"),
        (parse_edit(add="x, a"), "a b c x"),
        (parse_edit(add="x, y", place="first"), "x y a b c"),
        (parse_edit(front="c, x"), "c a b"),
        (parse_edit(remove="a", replace="b=y", add="x", front="x"), "x y c"),
    ],
)
def test_an_edit_removes_replaces_adds_and_moves(edit: TagEdit, after: str) -> None:
    assert " ".join(edit.of(("a", "b", "c"))) == after


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "edit: .*name tags"),
        ({"replace": "a"}, "replace: .*write old=new"),
        ({"replace": "a="}, "replace: .*write old=new"),
        ({"replace": "a=b, a=c"}, "replace: a — becomes b or c; name it once"),
        ({"add": "x", "place": "middle"}, "place: .*first or last"),
    ],
)
def test_a_wrong_edit_is_one_line(fields: dict[str, str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        parse_edit(**fields)


def test_only_pictures_that_change_are_recorded_and_other_sources_stay(work: Workshop) -> None:
    first, second, *_ = work.pieces.values()
    rows = changes([first, second], parse_edit(remove=first.words[-1], add="extra"))
    assert [row.picture for row in rows] == [first.name, second.name]
    done = edit_tags(work, rows)
    after = done.pieces[first.name].tags
    assert after[-1].tag == "extra" and after[-1].by == "person"
    assert {said.by for said in after[:-1]} == {"file"}
    assert changes([done.pieces[first.name]], parse_edit(add="extra")) == []


def test_an_edit_of_many_pictures_is_one_step_back_and_forth(work: Workshop) -> None:
    before = {name: piece.words for name, piece in work.pieces.items()}
    pieces = list(work.pieces.values())
    done = edit_tags(work, changes(pieces, parse_edit(add="extra", place="first")))
    back, step = done.undo()
    assert {name: piece.words for name, piece in back.pieces.items()} == before
    again, redone = back.redo()
    assert redone == step and again.pieces == done.pieces
    assert open_workshop(work.folder).pieces == done.pieces


def test_redo_ends_where_something_else_was_decided(work: Workshop) -> None:
    pieces = list(work.pieces.values())
    one = edit_tags(work, changes(pieces, parse_edit(add="one")))
    two = edit_tags(one, changes(list(one.pieces.values()), parse_edit(add="two")))
    back, _ = two.undo()
    back, _ = back.undo()
    again, _ = back.redo()
    assert again.pieces == one.pieces  # the earlier of the two
    again, _ = again.redo()
    assert again.pieces == two.pieces
    with pytest.raises(InputError, match="nothing was taken back"):
        again.redo()
    back, _ = again.undo()
    other = edit_tags(back, changes(list(back.pieces.values()), parse_edit(add="other")))
    with pytest.raises(InputError, match="nothing was taken back"):
        other.redo()


def said(*words: str) -> str:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_commands_list_and_edit_what_a_query_finds(work: Workshop) -> None:
    folder = str(work.folder)
    name = next(iter(work.pieces))
    assert said("list", folder, f"name:{name}") == f"{name}: {', '.join(work.pieces[name].words)}\n"
    edit = ("tags", folder, f"name:{name}", "--add", "extra")
    assert "1 pictures would change" in said(*edit, "--dry-run")
    assert open_workshop(work.folder).pieces == work.pieces
    assert "1 pictures changed" in said(*edit)
    listed = json.loads(said("list", folder, "tag:extra", "--json"))
    assert [row["name"] for row in listed] == [name] and listed[0]["words"][-1] == "extra"
    assert said("tags", folder, "--remove", "Extra") == "no change\n"
    said("undo", folder)
    assert said("list", folder, "tag:extra") == ""
    assert "is done again" in said("redo", folder)
    assert said("list", folder, "tag:extra").startswith(name)
