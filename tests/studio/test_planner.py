"""Repeats of several subsets: shares, proposals, and what is not of the data set."""

import tomllib
from pathlib import Path

import pytest

from onmodel.curate.gather import gather
from onmodel.engine.draft import with_repeats
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.starter import StarterSettings, write_starter
from onmodel.studio.datasets import Datasets, OpenDataset
from onmodel.studio.planner import even_repeats, follow, plan, set_repeats
from onmodel.studio.workspace import open_workspace
from tests.support.toon_pictures import write_pictures

SOURCES = """subsets.base = [{ folder = "pictures/base" }]
subsets.outfit = [{ folder = "pictures/outfit" }]
subsets.toons = [{ toon = "reference" }]
"""
DATA = """data = [
  { subset = "base", repeats = 2 },  # the first
  { subset = "outfit", repeats = 3 },
  { subset = "toons" },
]
"""


@pytest.fixture
def opened(tmp_path: Path) -> OpenDataset:
    """10 pictures of "base", 5 of "outfit", and toons that are not of the data set."""
    made = open_workspace(tmp_path).new("momo")
    for name, count in (("base", 10), ("outfit", 5)):
        (made.pictures / name).mkdir(parents=True)
        write_pictures(made.pictures / name, count)
    settings = StarterSettings(pictures=made.pictures / "base", trigger="momochar")
    write_starter(made.folder, settings, None)
    assert made.recipe is not None
    lines = made.recipe.read_text().splitlines(keepends=True)
    changes = {"subsets.base": SOURCES, "data = [": DATA}
    text = "".join(
        next((new for start, new in changes.items() if line.startswith(start)), line)
        for line in lines
    )
    made.recipe.write_text(text)
    gather([made.pictures], made.data, "unknown", "unknown", Events())
    return Datasets().get(made)


def test_shares_follow_pictures_and_repeats(opened: OpenDataset) -> None:
    found = plan(opened, "", {"outfit": 4})
    rows = {row.name: row for row in found.subsets}
    assert (rows["base"].pictures, rows["base"].repeats) == (10, 2)
    assert rows["outfit"].exposures == 5 * 4 * found.epochs
    assert sum(row.share for row in found.subsets) == pytest.approx(1)
    assert found.per_epoch == 20 + 20 + rows["toons"].pictures
    assert not rows["toons"].own  # its repeats are set in the recipe


def test_repeats_are_written_undone_and_redone_beside_comments(opened: OpenDataset) -> None:
    recipe = opened.character.recipe
    assert recipe is not None
    before = recipe.read_text()
    set_repeats(opened, "trained", {"base": 1, "outfit": 6})
    after = recipe.read_text()
    assert "repeats = 6" in after and "# the first" in after
    workshop = opened.workshop.refreshed()
    assert workshop.repeats == {"base": 1, "outfit": 6}
    step = workshop.journal[-1].step
    now = Datasets().get(opened.character)
    follow(now, step, back=True)
    assert recipe.read_text() == before
    follow(now, step, back=False)
    assert recipe.read_text() == after


def test_proposed_repeats_are_of_the_own_subsets(opened: OpenDataset) -> None:
    proposed = even_repeats(opened, plan(opened, "", {}))
    assert set(proposed) == {"base", "outfit"} and min(proposed.values()) >= 1


def test_a_stage_without_data_names_its_subsets_then() -> None:
    text = '[stages.trained]\ndo = "train"\ndataset = "data"  # all of it\n'
    written = with_repeats(text, "trained", {"base": 2, "outfit": 3})
    data = tomllib.loads(written)["stages"]["trained"]["data"]
    assert [tuple(row.values()) for row in data] == [("base", 2), ("outfit", 3)]
    assert "# all of it" in written
    with pytest.raises(InputError, match="is not in the recipe"):
        with_repeats(text, "other", {})
