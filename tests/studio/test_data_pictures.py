"""Crops, masks, charts and repeats of the data room."""

import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.curate.gather import gather
from onmodel.curate.workshop import held, open_workshop
from onmodel.dataset.manifest import read_items
from onmodel.events import Events
from onmodel.recipe import load_recipe
from onmodel.stages import curate
from onmodel.stages.base import Inputs
from onmodel.starter import StarterSettings, write_starter
from onmodel.studio.charts import cross_table
from onmodel.studio.datasets import Datasets
from onmodel.studio.known_split import known_split
from onmodel.studio.requests import found
from onmodel.studio.training_set import use_dataset
from onmodel.studio.workspace import CharacterFolder, open_workspace
from tests.support.contexts import context
from tests.support.studio import DataRoom, serving
from tests.support.toon_pictures import toon_picture, write_pictures

COUNT = 12
NAME = "pictures/3"
REPEATS = ("pictures/0", "pictures/copy")
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


def at_once(count: int, ask: Callable[[int], int]) -> list[int]:
    """The statuses of as many requests at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


def test_turns_at_the_same_time_add_up(room: DataRoom) -> None:
    body = {"names": [NAME], "by": 90}
    assert at_once(5, lambda _: room.post("turn", body).status) == [200] * 5
    assert row_of(room)["crop"]["turn"] == 90
    for _ in range(5):
        room.post("undo")


def test_one_of_several_sentences_at_the_same_time_is_taken(room: DataRoom) -> None:
    body = {"names": [NAME], "seen": row_of(room)["sentence"]}

    def say(number: int) -> int:
        return room.post("decide", {**body, "sentence": f"Sentence {number}."}).status

    assert sorted(at_once(8, say)) == [200] + [422] * 7
    room.post("undo")


def mask_address(room: DataRoom, name: str = NAME) -> str:
    return f"{room.address}/mask?name={name}&content={row_of(room, name)['content']}"


def half_covered() -> bytes:
    """An overlay whose left half is not learnt, as a PNG."""
    overlay = Image.new("RGBA", (64, 64))
    overlay.paste((214, 40, 40, 255), (0, 0, 32, 64))
    buffer = io.BytesIO()
    overlay.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_painted_mask_is_kept_shown_and_undone(room: DataRoom) -> None:
    address = mask_address(room)
    assert room.browser.send("POST", address, half_covered(), {}).status == 200
    row = row_of(room)
    shown = image(room, f"mask?name={NAME}").getchannel("A")
    assert (shown.getpixel((10, 10)), shown.getpixel((50, 10))) == (255, 0)
    for query, number in (("is:masked", 1), ("Is:MASKED", 1), ("-is:Masked", COUNT)):
        assert room.get(f"rows?q={query}").json()["total"] == number
    assert (room.folder / "data" / "masks" / f"{row['mask']}.png").is_file()
    assert not list((room.folder / "pictures").rglob("mask*"))  # the user's folder
    room.post("undo")
    assert row_of(room)["mask"] == ""
    assert room.browser.send("POST", address, b"no picture", {}).status == 422


def test_a_mask_of_what_was_cropped_meanwhile_is_refused(room: DataRoom) -> None:
    address = mask_address(room)
    room.post("crop", {"name": NAME, "turn": 0, "box": [0, 0, 32, 64]})
    answer = room.browser.send("POST", address, half_covered(), {})
    assert answer.status == 422 and "turned or cropped meanwhile" in answer.json()["error"]
    assert row_of(room)["mask"] == ""
    room.post("undo")


def test_repeats_have_a_mask_each(room: DataRoom) -> None:
    for masked, other in (REPEATS, REPEATS[::-1]):
        painted = room.browser.send("POST", mask_address(room, masked), half_covered(), {})
        assert painted.status == 200
        assert row_of(room, masked)["content"] == row_of(room, other)["content"]
        shown = [image(room, f"mask?name={name}").getchannel("A") for name in (masked, other)]
        assert [one.getextrema() for one in shown] == [(0, 255), (0, 0)]
        room.post("undo")


def test_a_mask_that_comes_beside_a_picture_later_is_shown_and_so_is_its_change(
    room: DataRoom,
) -> None:
    assert row_of(room)["mask"] == ""
    path = room.folder / "pictures" / "masks" / "3.png"
    path.parent.mkdir()
    shown = []
    for value in (0, 255):  # first the folder changes, then the file alone
        Image.new("L", (64, 64), value).save(path)
        shown.append(row_of(room)["mask"])
        assert image(room, f"mask?name={NAME}").getchannel("A").getextrema() == (255 - value,) * 2
    assert len({"", *shown}) == 3
    shutil.rmtree(path.parent)
    assert row_of(room)["mask"] == ""


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


def test_upper_and_lower_case_of_a_key_are_the_same(room: DataRoom) -> None:
    words = room.get("complete?word=shows:expression").json()
    assert words
    for word in words:
        lower, upper = (room.get(f"rows?q={text}").json() for text in (word, word.upper()))
        assert lower == upper and lower["total"]


def test_a_table_of_two_attributes_finds_its_cells(room: DataRoom) -> None:
    shown = room.get("cross?one=subset&other=expression").text
    cells = re.findall(r'data-query="([^"]*)"[^>]*>(\d+)<', shown)
    assert sum(int(number) for _, number in cells) == COUNT + 1
    query, number = cells[0]
    query = query.replace("&#34;", "%22").replace(" ", "%20")
    assert room.get(f"rows?q={query}").json()["total"] == int(number)
    assert room.get("cross?one=odd&other=subset").status == 422


def test_a_subset_with_a_wide_space_finds_its_cells(tmp_path: Path) -> None:
    made = open_workspace(tmp_path).new("momo")
    folder = made.pictures / "art\u3000momo"
    folder.mkdir(parents=True)
    write_pictures(folder, 8)
    write_starter(made.folder, StarterSettings(pictures=folder, trigger="momochar"), None)
    gather([folder], made.data, "unknown", "unknown", Events())
    opened = Datasets().get(made)
    cells = [cell for row in cross_table(opened, "subset", "expression").cells for cell in row]
    assert sum(cell.pictures for cell in cells) == 8
    for cell in cells:
        assert len(found(opened, cell.query)) == cell.pictures


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
    assert audited.get("rows?q=Split:HeldOut").json() == held
    assert "split:heldout" in audited.get("complete?word=split:h").json()


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("crop", {"name": REPEATS[0], "turn": 90, "box": []}),
        ("decide", {"names": [REPEATS[1]], "keep": False}),
    ],
)
def test_the_split_is_unknown_after_pictures_changed_until_the_next_audit(
    audited: DataRoom, action: str, body: dict[str, object]
) -> None:
    assert audited.post(action, body).status == 200
    answer = audited.get("rows?q=split:heldout")
    assert answer.status == 422 and "audit the data set anew" in answer.json()["error"]
    audited.post("undo")
    assert audited.get("rows?q=split:heldout").status == 200


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
    long = audited.form("planner", ("stage", "trained"), ("repeats.base", "9" * 5000))
    assert long.status == 422 and "whole number" in long.text


def test_repeats_are_not_written_while_another_writes_the_data_set(
    room: DataRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onmodel.locking.PATIENCE", 0.1)
    recipe = room.folder / "recipe.toml"
    before = recipe.read_text()
    fields = (("stage", "trained"), ("repeats.base", "9"))
    with held(room.folder / "data"):
        assert room.form("planner", *fields).status == 409
    assert recipe.read_text() == before
