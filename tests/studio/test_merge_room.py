"""The Merge room: what a merge would be, and the stages that make and measure it."""

import html
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from onmodel.engine.additions import AddedMerge, with_merge
from onmodel.errors import InputError
from onmodel.recipe import load_recipe
from onmodel.studio import jobs as queue
from tests.support.lora_files import write
from tests.support.recipes import RECIPE
from tests.support.studio import Answer, Browser, serving

TEXT = RECIPE.replace("keep_every = 4", "keep_every = 2") + (
    '\n[stages.seen]\ndo = "evaluate"\nmodels = ["look@*"]\nseeds = 1\nsteps = 3\n'
)
NAMES = ("one", "other")


@dataclass(frozen=True)
class MergeRoom:
    """The room of a character with a recipe and two LoRA files that were dropped there."""

    browser: Browser
    folder: Path
    address: str

    def send(self, action: str, *fields: tuple[str, str]) -> Answer:
        files = [("file", f"own-{name}") for name in NAMES]
        return self.browser.form(f"{self.address}/{action}", *files, *fields)

    @property
    def recipe(self) -> str:
        return (self.folder / "recipe.toml").read_text()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MergeRoom]:
    folder = tmp_path / "momo"
    folder.mkdir()
    (folder / "recipe.toml").write_text(TEXT)
    sleep = [sys.executable, "-c", ""]
    monkeypatch.setattr(queue, "_command", lambda character: sleep)
    with serving(tmp_path) as browser:
        id = browser.get("/").text.partition('href="/c/')[2].partition("/")[0]
        for seed, name in enumerate(NAMES):
            made = write(tmp_path / f"{name}.safetensors", seed).read_bytes()
            assert browser.upload(f"/upload/{id}/lora", f"{name}.safetensors", made).status == 200
        yield MergeRoom(browser, folder, f"/c/{id}/merge")


def test_a_plan_shows_rank_size_cosines_and_blocks(room: MergeRoom) -> None:
    page = room.send("plan", ("weight-own-one", "0.5")).text
    assert "Rank 8, Size" in page and "Energy kept 100.0 %" in page
    heat = page.partition('<table class="heat">')[2]
    assert heat.count('<th scope="row">') >= 2 and 'class="shade-8"' in heat
    for name in NAMES:
        assert f'<th scope="col">{name}</th>' in heat
    cut = room.send("plan", ("rank", "2")).text
    assert "Rank 2, Size" in cut


def test_methods_without_weights_are_planned_without_them(room: MergeRoom) -> None:
    assert room.send("plan", ("method", "uniform")).status == 200
    assert room.send("plan", ("method", "ties"), ("rank", "2")).status == 200


@pytest.mark.parametrize(
    ("field", "line"),
    [
        (("rank", "x"), "rank: x — must be a whole number"),
        (("weight-own-one", "x"), "weight: x — must be a number"),
        (("method", "magic"), "method: magic — known: "),
        (("file", "../x"), "is not there any more"),
    ],
)
def test_a_wrong_field_is_one_line(room: MergeRoom, field: tuple[str, str], line: str) -> None:
    answer = room.send("plan", field)
    assert answer.status == 422 and line in html.unescape(answer.json()["error"])


def test_a_merge_is_added_to_the_recipe_with_its_measurement_and_queued(room: MergeRoom) -> None:
    fields = (("weight-own-one", "0.25"), ("rank", "4"), ("name", "both"))
    answer = room.send("add", *fields)
    assert answer.headers["hx-redirect"].endswith("/run"), answer.text
    stages = load_recipe(room.folder / "recipe.toml").stages
    assert 'file = "loras/one.safetensors"' in room.recipe
    assert stages["both"]["models"] == ["one", "other"] and stages["both"]["rank"] == 4
    assert stages["both"]["weights"] == [0.25, 1.0]
    measured = stages["both_measured"]
    assert measured["models"] == ["one", "other", "both"] and measured["steps"] == 3
    assert measured["against"] == ["one", "other"]
    assert "/queue/1/stop" in room.browser.get("/queue").text
    refused = room.send("add", ("name", "look"))
    assert refused.status == 422 and "is a stage of the recipe already" in refused.json()["error"]


def test_a_wrong_merge_leaves_the_recipe_as_it_was(room: MergeRoom) -> None:
    for fields in ([("name", "")], [("name", "b c/d")], [("name", "x"), ("rank", "9999999")]):
        assert room.send("add", *fields).status == 422
    assert room.recipe == TEXT


def test_models_of_the_recipe_are_merged_by_their_names(tmp_path: Path) -> None:
    added = AddedMerge("both", {"look@2": 1.0, "look@4": -0.5}, {}, "", None)
    new = with_merge(TEXT, added, tmp_path / "recipe.toml")
    assert new.startswith(TEXT)
    assert 'models = ["look@2", "look@4"]\nweights = [1.0, -0.5]' in new
    gone = AddedMerge("both", {"look@3": 1.0, "look@4": 1.0}, {}, "uniform", None)
    with pytest.raises(InputError, match="look@3"):
        with_merge(TEXT, gone, tmp_path / "recipe.toml")
