"""What a data set says of its pictures comes back: origins, rights, speakers, papers, and the
models that made some."""

import dataclasses
import json
from pathlib import Path

import pytest
from PIL import Image

from onmodel.curate.export import export
from onmodel.curate.gather import gather
from onmodel.curate.provenance import own_models, read_known, self_taught
from onmodel.curate.workshop import Decision, Workshop, keep_models, open_workshop, piece_as_table
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import sha256_file
from onmodel.ledger.lineage import Lineage, add
from onmodel.toon.datasets import write_set

LORA, BASE = "a" * 64, "b" * 64


def history(trigger: str = "backgwa") -> Lineage:
    sheet = add([], "character", name="BACKGWA", sheet={"trigger": trigger})
    return add(
        [sheet, add([], "base", name="toon", sha256=BASE)],
        "model",
        name="release",
        origin="onmodel",
        sha256=LORA,
    )


@pytest.fixture
def exported(tmp_path: Path) -> Workshop:
    """Two drawn pictures, one of them on green paper; one that a model made; exported to
    tmp_path/out."""
    write_set("backgwa_base", tmp_path / "heap" / "base", count=2)
    clear = Image.new("RGBA", (48, 32), (200, 20, 20, 0))
    clear.paste((0, 0, 255, 255), (0, 0, 24, 32))
    clear.save(tmp_path / "heap" / "base" / "001.png")
    gather(
        [tmp_path / "heap"],
        tmp_path / "work",
        "drawn by the author",
        "own work",
        Events(),
        "#20A040",
    )
    work = open_workshop(tmp_path / "work")
    Image.new("RGB", (32, 32), (9, 90, 200)).save(tmp_path / "work" / "made.png")
    made = dataclasses.replace(
        work.pieces["base/000"],
        name="new/0",
        path=tmp_path / "work" / "made.png",
        subset="new",
        sha256=sha256_file(tmp_path / "work" / "made.png"),
        width=32,
        height=32,
        origin=f"generated:{LORA}",
        rights="MIT",
        told="template",
        made={"model": "release", "seed": 7},
    )
    keep_models(work.folder, {LORA: history(), "c" * 64: history("another")})
    work = work.decide(
        [
            Decision(0, "add", "synthesis", "new/0", piece=piece_as_table(made)),
            Decision(0, "tag", "person", "base/000", add=("head tilt",)),
            Decision(0, "sentence", "captioner eyes", "base/000", sentence="backgwa smiles."),
        ]
    )
    export(work, tmp_path / "out", False, Events())
    return work


def test_what_is_known_comes_back(exported: Workshop, tmp_path: Path) -> None:
    gather(
        [tmp_path / "out" / "base", tmp_path / "out" / "new"],
        tmp_path / "again",
        "?",
        "?",
        Events(),
    )
    again = open_workshop(tmp_path / "again")
    for name in ("base/000", "base/001", "new/0"):
        old, new = exported.pieces[name], again.pieces[name]
        assert dataclasses.replace(new, path=old.path) == old
    assert again.pieces["base/001"].paper == "#20a040" and again.pieces["base/000"].paper == ""
    assert (
        again.pieces["base/000"].told == "captioner eyes"
        and again.pieces["base/000"].tags[-1].by == "person"
    )
    assert again.models == {LORA: history()}  # and not those that made none of these


def test_an_added_picture_can_be_taken_back(exported: Workshop) -> None:
    with pytest.raises(InputError, match="already"):
        exported.decide(
            [Decision(0, "add", "x", "new/0", piece=piece_as_table(exported.pieces["new/0"]))]
        )
    back, _ = exported.undo()
    assert "new/0" not in back.pieces and back.pieces["base/000"].sentence != "backgwa smiles."


def test_another_file_under_the_name_is_not_believed(exported: Workshop, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), (1, 2, 3)).save(tmp_path / "out" / "new" / "0.png")
    gather([tmp_path / "out" / "new"], tmp_path / "again", "from a friend", "?", Events())
    piece = open_workshop(tmp_path / "again").pieces["new/0"]
    assert (piece.origin, piece.made, piece.told) == ("from a friend", {}, "file")


@pytest.mark.parametrize("harm", ["not json", "no pictures", "paper", "history", "name"])
def test_damage_is_named(exported: Workshop, tmp_path: Path, harm: str) -> None:
    path = tmp_path / "out" / "provenance.json"
    table = json.loads(path.read_text())
    if harm == "no pictures":
        del table["pictures"]
    elif harm == "paper":
        table["pictures"]["base/001.png"]["paper"] = "url(x)"
    elif harm == "history":
        next(iter(table["models"][LORA].values()))["name"] = "another"
    elif harm == "name":
        table["models"]["../outside"] = table["models"].pop(LORA)
    path.write_text("{" if harm == "not json" else json.dumps(table))
    with pytest.raises(InputError, match=r"provenance: .* (is damaged|not valid JSON)"):
        read_known(tmp_path / "out" / "base")
    assert read_known(tmp_path / "heap").pictures == {}


def test_whose_ancestors_made_it() -> None:
    models = {
        LORA: history(),
        BASE: add([], "base", name="toon", sha256=BASE),
        "c" * 64: history("another"),
        "d" * 64: add(
            [],
            "model",
            origin="unknown",
            sha256="d" * 64,
            claims={"modelspec.trigger_phrase": "backgwa"},
        ),
    }
    assert own_models(models, "backgwa") == {LORA, BASE, "d" * 64}
    assert own_models(models, "backgwa", "e" * 64) == {LORA, "d" * 64}
    origins = [f"generated:{LORA}", "drawn", f"generated:{'c' * 64}", "drawn"]
    rows = self_taught(["x", "x", "x", "y"], origins, {LORA})
    assert (rows["x"].pictures, rows["x"].generated, rows["x"].own) == (3, 2, 1)
    assert rows["x"].share == pytest.approx(1 / 3) and rows["y"].share == 0
