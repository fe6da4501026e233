"""Pictures without a caption: the trigger alone, or with a tagger's tags."""

from pathlib import Path

from onmodel.curate.gather import gather
from onmodel.curate.workshop import open_workshop
from onmodel.dataset.manifest import read_items
from onmodel.evaluate.observers.files import TOON_ASSETS
from onmodel.events import Events
from onmodel.stages import curate
from onmodel.stages.base import Inputs
from onmodel.toon.datasets import write_set
from tests.support.contexts import context, said

TAGGER = TOON_ASSETS / "tagger"


def without_captions(folder: Path, count: int = 3) -> Path:
    write_set("backgwa_base", folder, count=count)
    for path in folder.glob("*.txt"):
        path.unlink()
    return folder


def test_an_import_tags_what_has_no_caption(tmp_path: Path) -> None:
    folder = without_captions(tmp_path / "set")
    (folder / "000.txt").write_text("1girl, by hand")
    gather([folder], tmp_path / "work", "", "", Events(), tagger=str(TAGGER))
    pieces = open_workshop(tmp_path / "work").pieces
    assert pieces["set/000"].words == ["1girl", "by hand"]
    tags = pieces["set/001"].tags
    assert len(tags) > 3 and all(one.by.startswith("tagger ") for one in tags)


def test_a_recipe_shows_the_trigger_alone_or_with_a_taggers_tags(tmp_path: Path) -> None:
    folder, other = (without_captions(tmp_path / name) for name in ("set", "other"))
    tables = {"plain": {"folder": folder}, "tagged": {"folder": other, "tagger": TAGGER}}
    settings = curate.Settings.model_validate(
        {"do": "curate", "subsets": {name: [table] for name, table in tables.items()}}
    )
    where = context(tmp_path / "run", lambda: None, "data")
    items = read_items(curate.run(Inputs({}), settings, where).path)
    assert {item.tags for item in items if item.subset == "plain"} == {"backgwa"}
    for item in items:
        if item.subset == "tagged":
            assert item.tags.startswith("backgwa, ") and item.tags.count(",") > 3
    assert "plain: 3 of 3 pictures have no caption: the trigger alone" in said(where)
    assert "tagged: 3 of 3 pictures have no caption: the trigger and the tagger's tags" in said(
        where
    )
    assert any("the trigger alone" in note for note in curate.estimate(settings, {}).notes)
