"""From files to a workshop and out again: originals stay, decisions are kept and can be taken
back."""

import io
import json
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from onmodel import locking
from onmodel.cli.dataset import app
from onmodel.curate.decisions import fix_decision, still_apply
from onmodel.curate.export import export, unread_by_kohya
from onmodel.curate.findings import AuditFinding, Fix
from onmodel.curate.gather import gather
from onmodel.curate.workshop import (
    Decision,
    Workshop,
    keep_aliases,
    open_workshop,
)
from onmodel.errors import BusyError, InputError, StateError
from onmodel.events import Events
from onmodel.toon.datasets import write_set


@pytest.fixture
def work(tmp_path: Path) -> Workshop:
    write_set("backgwa_base", tmp_path / "heap" / "base", count=4)
    write_set("preview", tmp_path / "heap" / "more", count=3)
    gather([tmp_path / "heap"], tmp_path / "work", "drawn by a test", "MIT", Events())
    return open_workshop(tmp_path / "work")


def test_a_folder_of_folders_is_read_as_subsets(work: Workshop) -> None:
    assert list(work.pieces)[::4] == ["base/000", "more/000"]
    piece = work.pieces["base/000"]
    assert piece.words[:2] == ["1girl", "backgwa"] and {said.by for said in piece.tags} == {"file"}
    assert (piece.origin, piece.rights) == ("drawn by a test", "MIT")


def test_what_another_trainer_leaves_out_is_told(work: Workshop, tmp_path: Path) -> None:
    assert unread_by_kohya(work) == []
    (tmp_path / "phone").mkdir()
    for name in ("a.avif", "b.PNG"):
        Image.new("RGB", (32, 32), "teal").save(tmp_path / "phone" / name)
    gather([tmp_path / "phone"], tmp_path / "more", "drawn", "MIT", Events())
    assert unread_by_kohya(open_workshop(tmp_path / "more")) == ["phone/a.avif"]


def test_strict_labels_and_aliases_are_steps_like_any(work: Workshop) -> None:
    set_ = work.decide(
        [
            Decision(0, "strict", "person", subset="base", add=("pose",)),
            keep_aliases(work.folder, {"sneer": "smile"}, "tags.csv"),
        ]
    )
    again = open_workshop(work.folder)
    assert (
        (again.strict, again.aliases)
        == (set_.strict, set_.aliases)
        == ({"base": ("pose",)}, {"sneer": "smile"})
    )
    cleared = again.decide([Decision(0, "strict", "person", subset="base")])
    back, _ = cleared.undo()
    assert cleared.strict == {"base": ()} and back.strict == {"base": ("pose",)}
    first, _ = back.undo()
    assert first.strict == {} and first.aliases == {}


def test_a_mended_label_says_who_said_it_and_can_be_taken_back(work: Workshop) -> None:
    before = work.pieces["base/001"].words
    last = before[-1]
    finding = AuditFinding(
        "wrong label",
        "error",
        "base/001",
        "style",
        "seen",
        Fix((last,), ("noir",), by="tagger 0.98"),
    )
    decision = fix_decision(finding)
    assert decision is not None
    mended = work.decide([decision]).pieces["base/001"]
    assert mended.words == [*before[:-1], "noir"] and mended.tags[-1].by == "tagger 0.98"
    back, _ = open_workshop(work.folder).undo()
    assert back.pieces["base/001"].words == before
    with pytest.raises(InputError, match="nothing to take back"):
        back.undo()


def test_a_persons_decision_stands_against_a_rule(work: Workshop) -> None:
    rule = Decision(0, "aside", "rule: blurred", "base/000", why="blurred")
    assert work.decide([rule]).pieces["base/000"].aside == "blurred"
    kept = open_workshop(work.folder).decide([Decision(0, "keep", "person", "base/000")])
    assert kept.decide([rule]).pieces["base/000"].aside == ""


def test_a_finding_older_than_the_last_change_is_not_mended(work: Workshop) -> None:
    last = work.pieces["base/001"].words[-1]
    fix = Decision(0, "tag", "rule: spelling", "base/001", (last,), ("noir",))
    assert still_apply(work, [fix, fix]) == [fix]
    assert still_apply(work.decide([fix]), [fix]) == []


def test_a_half_written_line_of_the_journal_was_never_decided(work: Workshop) -> None:
    work.decide([Decision(0, "aside", "person", "base/000", why="ugly")])
    journal = work.folder / "journal.jsonl"
    journal.write_text(journal.read_text() + '{"step": 2, "do": "as')
    again = open_workshop(work.folder).decide(
        [Decision(0, "aside", "person", "base/001", why="ugly")]
    )
    assert [name for name, piece in again.pieces.items() if piece.aside] == ["base/000", "base/001"]
    assert len(journal.read_text().splitlines()) == 2


SEPARATORS = "a\u2028b\u2029c\u0085d\x1ce\x0bf\x0cg\rh\ni\ud7ff\U0001f600"


def test_a_journal_that_was_removed_is_noticed(work: Workshop) -> None:
    name = next(iter(work.pieces))
    done = work.decide([Decision(0, "aside", "person", name)])
    (work.folder / "journal.jsonl").unlink()
    assert done.refreshed().pieces == work.pieces
    done = done.decide([Decision(0, "sentence", "person", name, sentence="A girl.")])
    assert done.pieces == open_workshop(work.folder).pieces
    assert (done.pieces[name].sentence, done.pieces[name].aside) == ("A girl.", "")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Decision(0, "tag", "person", add=("a\x1b[31m",)), "holds control characters"),
        (Decision(0, "sentence", "person", sentence="a\0"), "holds control characters"),
        (Decision(0, "tag", "person", add=("a" * 6000, "b" * 6000)), "10000 are allowed"),
    ],
)
def test_words_that_no_caption_file_may_hold_are_not_recorded(
    work: Workshop, row: Decision, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        work.decide([replace(row, picture=next(iter(work.pieces)))])
    assert not (work.folder / "journal.jsonl").exists()


def test_a_reason_may_hold_any_sign_that_ends_a_line_elsewhere(work: Workshop) -> None:
    work.decide([Decision(0, "aside", "person", "base/000", why=SEPARATORS)])
    again = open_workshop(work.folder).decide(
        [Decision(0, "keep", "person", "base/001", why="\u0085")]
    )
    assert again.pieces["base/000"].aside == SEPARATORS and len(again.journal) == 2


def test_a_journal_of_an_older_version_with_such_signs_is_read(work: Workshop) -> None:
    row = {"step": 1, "do": "aside", "by": "person", "picture": "base/000", "why": "a\u2028b"}
    (work.folder / "journal.jsonl").write_bytes(
        json.dumps(row, ensure_ascii=False).encode() + b"\n"
    )
    assert open_workshop(work.folder).pieces["base/000"].aside == "a\u2028b"


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "5",
        "null",
        "{}",
        '{"do": "aside"}',
        '{"do": 5, "by": "x", "step": 1, "picture": "base/000"}',
        '{"do": "tag", "by": "x", "step": 1, "picture": "gone/1"}',
        '{"do": "add", "by": "x", "step": 1, "piece": 5}',
        '{"do": "tag", "by": "x", "step": "one", "picture": "base/000", "add": 5}',
        "{",
        "\\xff",
    ],
)
def test_a_damaged_journal_is_named(work: Workshop, line: str) -> None:
    (work.folder / "journal.jsonl").write_text(line + "\n")
    with pytest.raises(StateError, match=r"journal\.jsonl: line 1 is damaged"):
        open_workshop(work.folder)


def test_steps_that_are_decided_at_once_follow_each_other(work: Workshop) -> None:
    stale = [open_workshop(work.folder) for _ in range(6)]

    def decide(i: int) -> None:
        stale[i].decide([Decision(0, "aside", "person", f"base/00{i % 4}", why=f"{i}")])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(decide, range(6)))
    state = open_workshop(work.folder)
    assert [row.step for row in state.journal] == [1, 2, 3, 4, 5, 6]
    assert {row.why for row in state.journal} == set("012345")
    _, step = stale[0].undo()
    assert step == 6


def test_a_second_writer_is_told_who_holds_the_folder(
    work: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys, pathlib\nfrom onmodel.locking import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(locking.__file__).parents[1])}
    command = [sys.executable, "-c", code, str(work.folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        monkeypatch.setattr(locking, "PATIENCE", 0.2)
        for write in (
            lambda: work.decide([Decision(0, "keep", "person", "base/000")]),
            work.undo,
            lambda: CliRunner().invoke(
                app, ["decide", str(work.folder), "base/000"], catch_exceptions=False
            ),
            lambda: CliRunner().invoke(app, ["fix", str(work.folder), "x"], catch_exceptions=False),
        ):
            with pytest.raises(BusyError, match=f"written by process {other.pid}"):
                write()
        assert open_workshop(work.folder).journal == ()
        other.communicate("")
    assert len(work.decide([Decision(0, "keep", "person", "base/000")]).journal) == 1


def test_export_writes_originals_with_mended_captions(work: Workshop, tmp_path: Path) -> None:
    decisions = [
        Decision(
            0,
            "tag",
            "person",
            "base/000",
            tuple(work.pieces["base/000"].words),
            ("1girl", "backgwa", "sad"),
        ),
        Decision(0, "aside", "person", "base/001", why="ugly"),
        Decision(0, "repeats", "person", subset="base", repeats=5),
    ]
    counts = export(work.decide(decisions), tmp_path / "out", True, Events())
    assert counts == {"5_base": 3, "1_more": 3}
    original = tmp_path / "heap" / "base" / "000.png"
    assert (tmp_path / "out" / "5_base" / "000.png").read_bytes() == original.read_bytes()
    assert (tmp_path / "out" / "5_base" / "000.txt").read_text().startswith("1girl, backgwa, sad\n")
    row = json.loads((tmp_path / "out" / "provenance.json").read_text())["pictures"][
        "5_base/000.png"
    ]
    assert (row["origin"], row["rights"], row["tags"]["sad"]) == (
        "drawn by a test",
        "MIT",
        "person",
    )


def test_a_changed_original_is_noticed_and_nothing_is_written(
    work: Workshop, tmp_path: Path
) -> None:
    (tmp_path / "heap" / "more" / "002.png").write_bytes(b"another")
    with pytest.raises(StateError, match="was changed"):
        export(work, tmp_path / "out", False, Events())
    assert not (tmp_path / "out").exists()


def test_decisions_are_never_overwritten_by_another_import(work: Workshop, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a data set"):
        gather([tmp_path / "heap"], work.folder, "", "", Events())


def test_a_hostile_zip_loses_nothing_and_writes_nowhere_else(tmp_path: Path) -> None:
    good = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(good, "PNG")
    with zipfile.ZipFile(tmp_path / "heap.zip", "w") as archive:
        archive.writestr("set/good.png", good.getvalue())
        archive.writestr("set/good.txt", "1girl, backgwa")
        archive.writestr("../outside.png", good.getvalue())
        archive.writestr("set/torn.png", good.getvalue()[:60])
        archive.writestr("set/text.png", b"no picture")
        link = zipfile.ZipInfo("set/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    count, refused, _ = gather([tmp_path / "heap.zip"], tmp_path / "work", "", "", Events())
    assert count == 1 and not (tmp_path / "outside.png").exists()
    reasons = {row["file"].rpartition("/")[2]: row["reason"] for row in refused}
    assert set(reasons) == {"outside.png", "torn.png", "text.png", "link.png"}


def test_numbered_folders_bring_their_repeats(tmp_path: Path) -> None:
    write_set("preview", tmp_path / "set" / "3_girl", count=2)
    gather([tmp_path / "set"], tmp_path / "work", "", "", Events())
    assert open_workshop(tmp_path / "work").repeats == {"girl": 3}
