"""From files to a workshop and out again: originals stay, decisions are kept and can be taken back."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from onmodel.curate.export import export, unread_by_kohya
from onmodel.curate.findings import Finding, Fix
from onmodel.curate.gather import gather
from onmodel.curate.workshop import Decision, Workshop, keep_aliases, mending, open_workshop, still_apply
from onmodel.errors import InputError, StateError
from onmodel.progress import Progress
from onmodel.toon.datasets import write_set


@pytest.fixture
def work(tmp_path: Path) -> Workshop:
    write_set("backgwa_base", tmp_path / "heap" / "base", count=4)
    write_set("preview", tmp_path / "heap" / "more", count=3)
    gather([tmp_path / "heap"], tmp_path / "work", "drawn by a test", "MIT", Progress())
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
    gather([tmp_path / "phone"], tmp_path / "more", "drawn", "MIT", Progress())
    assert unread_by_kohya(open_workshop(tmp_path / "more")) == ["phone/a.avif"]


def test_strict_labels_and_aliases_are_steps_like_any(work: Workshop) -> None:
    set_ = work.decide([
        Decision(0, "strict", "person", subset="base", add=("pose",)),
        keep_aliases(work.folder, {"sneer": "smile"}, "tags.csv"),
    ])  # fmt: skip
    again = open_workshop(work.folder)
    assert (again.strict, again.aliases) == (set_.strict, set_.aliases) == ({"base": ("pose",)}, {"sneer": "smile"})
    cleared = again.decide([Decision(0, "strict", "person", subset="base")])
    back, _ = cleared.undo()
    assert cleared.strict == {"base": ()} and back.strict == {"base": ("pose",)}
    first, _ = back.undo()
    assert first.strict == {} and first.aliases == {}


def test_a_mended_label_says_who_said_it_and_can_be_taken_back(work: Workshop) -> None:
    before = work.pieces["base/001"].words
    last = before[-1]
    finding = Finding("wrong label", "error", "base/001", "style", "seen", Fix((last,), ("noir",), by="tagger 0.98"))
    decision = mending(finding)
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
    again = open_workshop(work.folder).decide([Decision(0, "aside", "person", "base/001", why="ugly")])
    assert [name for name, piece in again.pieces.items() if piece.aside] == ["base/000", "base/001"]
    assert len(journal.read_text().splitlines()) == 2


def test_export_writes_originals_with_mended_captions(work: Workshop, tmp_path: Path) -> None:
    decisions = [
        Decision(0, "tag", "person", "base/000", tuple(work.pieces["base/000"].words), ("1girl", "backgwa", "sad")),
        Decision(0, "aside", "person", "base/001", why="ugly"),
        Decision(0, "repeats", "person", subset="base", repeats=5),
    ]
    counts = export(work.decide(decisions), tmp_path / "out", True, Progress())
    assert counts == {"5_base": 3, "1_more": 3}
    original = tmp_path / "heap" / "base" / "000.png"
    assert (tmp_path / "out" / "5_base" / "000.png").read_bytes() == original.read_bytes()
    assert (tmp_path / "out" / "5_base" / "000.txt").read_text().startswith("1girl, backgwa, sad\n")
    row = json.loads((tmp_path / "out" / "provenance.json").read_text())["pictures"]["5_base/000.png"]
    assert (row["origin"], row["rights"], row["tags"]["sad"]) == ("drawn by a test", "MIT", "person")


def test_a_changed_original_is_noticed_and_nothing_is_written(work: Workshop, tmp_path: Path) -> None:
    (tmp_path / "heap" / "more" / "002.png").write_bytes(b"another")
    with pytest.raises(StateError, match="was changed"):
        export(work, tmp_path / "out", False, Progress())
    assert not (tmp_path / "out").exists()


def test_decisions_are_never_overwritten_by_another_import(work: Workshop, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a data set"):
        gather([tmp_path / "heap"], work.folder, "", "", Progress())


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
    count, refused = gather([tmp_path / "heap.zip"], tmp_path / "work", "", "", Progress())
    assert count == 1 and not (tmp_path / "outside.png").exists()
    reasons = {row["file"].rpartition("/")[2]: row["reason"] for row in refused}
    assert set(reasons) == {"outside.png", "torn.png", "text.png", "link.png"}


def test_numbered_folders_bring_their_repeats(tmp_path: Path) -> None:
    write_set("preview", tmp_path / "set" / "3_girl", count=2)
    gather([tmp_path / "set"], tmp_path / "work", "", "", Progress())
    assert open_workshop(tmp_path / "work").repeats == {"girl": 3}
