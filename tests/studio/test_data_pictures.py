"""Crops, masks, charts and repeats of the data room."""

import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.curate.workshop import open_workshop
from onmodel.dataset.manifest import read_items
from onmodel.recipe import load_recipe
from onmodel.stages import curate
from onmodel.stages.base import Inputs
from onmodel.studio.known_split import known_split
from onmodel.studio.training_set import use_dataset
from onmodel.studio.workspace import CharacterFolder, open_workspace
from tests.support.contexts import context
from tests.support.studio import DataRoom, serving
from tests.support.toon_pictures import toon_picture

COUNT = 12
NAME = "pictures/3"
WAIT = 120  # seconds for a process that loads observers, on a busy machine


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataRoom]:
    """An imported data set whose first picture is there twice."""
    folder = tmp_path_factory.mktemp("workspace")
    with serving(folder) as browser:
        files = {f"{i}.png": toon_picture(i)[0] for i in range(COUNT)}
        files |= {f"{i}.txt": toon_picture(i)[1].encode() for i in range(COUNT)}
        files["copy.png"], files["copy.txt"] = files["0.png"], files["0.txt"]
        yield DataRoom.made(browser, folder, files)


@pytest.fixture(scope="module")
def audited(room: DataRoom) -> DataRoom:
    room.form("job", ("do", "audit"))
    assert "mistake" not in ended(room)
    return room


def ended(room: DataRoom) -> str:
    until = time.monotonic() + WAIT
    while "data-ended" not in (shown := room.get("job").text):
        assert time.monotonic() < until, shown
        time.sleep(0.2)
    return shown


def row_of(room: DataRoom, name: str = NAME) -> Any:
    return next(row for row in room.get("rows").json()["rows"] if row["name"] == name)


def image(room: DataRoom, path: str) -> Image.Image:
    address = room.address.removesuffix("/data")
    return Image.open(io.BytesIO(room.browser.get(f"{address}/{path}").body))


def character_of(room: DataRoom) -> CharacterFolder:
    return next(
        one for one in open_workspace(room.folder.parent).characters() if one.name == "momo"
    )


def test_a_crop_changes_the_thumbnail_and_is_undone(room: DataRoom) -> None:
    before = row_of(room)
    body = {"name": NAME, "turn": 90, "box": [0, 0, 32, 64]}
    assert room.post("crop", body).status == 200
    after = row_of(room)
    assert after["content"] != before["content"] and after["crop"]["box"] == [0, 0, 32, 64]
    assert image(room, f"thumb/{after['content']}").size == (32, 64)
    assert image(room, f"picture/{after['content']}?turn=0").size == (64, 64)  # all of it
    assert [row["name"] for row in room.get("rows?q=is:cropped").json()["rows"]] == [NAME]
    assert room.post("turn", {"names": [NAME], "by": 90}).json() == {"turned": 1}
    assert image(room, f"thumb/{row_of(room)['content']}").size == (64, 32)
    room.post("undo")
    room.post("undo")
    assert row_of(room) == before
    room.post("redo")
    assert row_of(room) == after
    room.post("undo")


@pytest.mark.parametrize(
    "body",
    [
        {"name": NAME, "turn": 45, "box": []},
        {"name": NAME, "turn": 0, "box": [0, 0, 3, 3]},
        {"name": NAME, "turn": 0},
        {"name": "x/y", "turn": 0, "box": []},
    ],
)
def test_a_wrong_crop_is_one_line(room: DataRoom, body: dict[str, object]) -> None:
    answer = room.post("crop", body)
    assert answer.status == 422 and len(answer.json()["error"].splitlines()) == 1


def test_a_painted_mask_is_kept_shown_and_undone(room: DataRoom) -> None:
    overlay = Image.new("RGBA", (64, 64))
    overlay.paste((214, 40, 40, 255), (0, 0, 32, 64))
    buffer = io.BytesIO()
    overlay.save(buffer, "PNG")
    address = f"{room.address}/mask?name={NAME}"
    assert room.browser.send("POST", address, buffer.getvalue(), {}).status == 200
    row = row_of(room)
    shown = image(room, f"mask/{row['content']}").getchannel("A")
    assert (shown.getpixel((10, 10)), shown.getpixel((50, 10))) == (255, 0)
    assert room.get("rows?q=is:masked").json()["total"] == 1
    assert (room.folder / "data" / "masks" / f"{row['mask']}.png").is_file()
    assert not list((room.folder / "pictures").rglob("mask*"))  # the user's folder
    room.post("undo")
    assert row_of(room)["mask"] == ""
    assert room.browser.send("POST", address, b"no picture", {}).status == 422


def test_a_detector_masks_the_selection_as_one_step(room: DataRoom) -> None:
    assert room.post("masks", {"names": [NAME], "source": "person"}).status == 200
    assert "New masks: 1" in ended(room)
    assert row_of(room)["mask"]
    room.post("masks", {"names": [NAME], "source": "none"})
    assert row_of(room)["mask"] == ""
    room.post("undo")
    room.post("undo")
    assert room.post("masks", {"q": "", "source": "odd"}).status == 422
    wrong = room.post("masks", {"q": "", "source": "head", "hub": "/etc"})
    assert wrong.status == 422 and wrong.json()["error"].startswith("detector: ")


def test_a_bar_of_the_coverage_finds_as_many_pictures_as_it_says(room: DataRoom) -> None:
    shown = room.get("coverage").text
    bars = re.findall(r'data-query="([^"]*)".*?<b>(\d+)</b>', shown)
    assert len(bars) > 10
    for query, number in bars:
        query = query.replace("&#34;", '"').replace(" ", "%20").replace('"', "%22")
        assert room.get(f"rows?q={query}").json()["total"] == int(number)


def test_a_table_of_two_attributes_finds_its_cells(room: DataRoom) -> None:
    shown = room.get("cross?one=subset&other=expression").text
    cells = re.findall(r'data-query="([^"]*)"[^>]*>(\d+)<', shown)
    assert sum(int(number) for _, number in cells) == COUNT + 1
    query, number = cells[0]
    query = query.replace("&#34;", "%22").replace(" ", "%20")
    assert room.get(f"rows?q={query}").json()["total"] == int(number)
    assert room.get("cross?one=odd&other=subset").status == 422


def test_the_split_is_unknown_before_an_audit(room: DataRoom) -> None:
    if (room.folder / "data" / "audit.json").exists():
        pytest.skip("audited by an earlier test")
    answer = room.get("rows?q=split:heldout")
    assert answer.status == 422 and "audit the data set first" in answer.json()["error"]
    assert "Held-out pictures are counted too" in room.get("planner").text


def test_the_split_is_the_one_that_the_run_makes(audited: DataRoom, tmp_path: Path) -> None:
    character = character_of(audited)
    found = known_split(character, open_workshop(character.data)).split
    assert len(found) == COUNT + 1
    assert use_dataset(character) and character.recipe is not None

    def no_base() -> None:
        raise AssertionError("a data set needs no base")

    recipe = load_recipe(character.recipe)
    settings = curate.Settings.model_validate(recipe.stages["data"])
    made = curate.run(Inputs({}), settings, context(tmp_path / "stage", no_base, "data"))
    names = {"heldout": "heldout", "train": "training"}
    ran = {f"pictures/{Path(item.file).stem}": names[item.split] for item in read_items(made.path)}
    assert set(ran.values()) == set(found.values()) == set(names.values())
    assert ran.items() <= found.items() and len(ran) >= COUNT  # a copy is taken once
    held = audited.get("rows?q=split:heldout").json()
    assert {row["name"] for row in held["rows"]} == {n for n, s in found.items() if s == "heldout"}
    assert "split:heldout" in audited.get("complete?word=split:h").json()


def test_repeats_are_planned_then_written_and_undone(audited: DataRoom) -> None:
    recipe = audited.folder / "recipe.toml"
    before = recipe.read_text()
    held = audited.get("rows?q=split:heldout").json()["total"]
    shown = audited.get("planner/numbers?stage=trained&repeats.base=7").text
    assert f"{COUNT + 1 - held} × 7 × 10" in shown
    assert f"{(COUNT + 1 - held) * 70:,}" in shown and "100%" in shown
    assert recipe.read_text() == before  # nothing is written yet
    answer = audited.form("planner", ("stage", "trained"), ("repeats.base", "7"))
    assert answer.headers["hx-trigger"] == "dataset-changed"
    assert "repeats = 7" in recipe.read_text()
    assert recipe.read_text().count("\n") == before.count("\n")  # comments stay
    audited.post("undo")
    assert recipe.read_text() == before
    audited.post("redo")
    assert "repeats = 7" in recipe.read_text()
    audited.post("undo")
    assert audited.form("planner", ("stage", "trained"), ("repeats.base", "x")).status == 422
    assert audited.get("planner?stage=data").status == 422
