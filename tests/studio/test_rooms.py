"""The rooms over one small character: what they answer, and what wrong input gets."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from onmodel.curate.workshop import open_workshop
from tests.support.studio import Browser, serving
from tests.support.toon_pictures import toon_picture

COUNT = 10


@dataclass(frozen=True)
class Room:
    """A served workspace with one character, and the character's address."""

    browser: Browser
    folder: Path
    id: str

    @property
    def address(self) -> str:
        return f"/c/{self.id}"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A character that was made as a newcomer makes one: pictures, a trigger, an import."""
    folder = tmp_path_factory.mktemp("workspace")
    with serving(folder) as browser:
        id = browser.form("/new", ("name", "momo")).json()["character"]
        for i in range(COUNT):
            data, caption = toon_picture(i)
            assert browser.upload(f"/upload/{id}", f"{i}.png", data).status == 200
            assert browser.upload(f"/upload/{id}", f"{i}.txt", caption.encode()).status == 200
        made = browser.form(f"/new/{id}/finish", ("trigger", "momochar"))
        assert made.json() == {"goto": f"/c/{id}/run"}
        assert browser.post(f"/c/{id}/data/import").headers["hx-refresh"] == "true"
        yield Room(browser, folder / "momo", id)


def test_every_room_opens_before_anything_was_run(room: Room) -> None:
    for name in ("data", "run", "compare", "results", "merge", "release"):
        answer = room.browser.get(f"{room.address}/{name}")
        assert answer.status == 200 and "momo" in answer.text
        assert "built-in method" not in answer.text  # a word that is none
    assert "momo" in room.browser.get("/").text


def test_the_grid_filters_and_pages(room: Room) -> None:
    found = room.browser.get(f"{room.address}/data/rows?from=2&count=3").json()
    assert found["total"] == COUNT and len(found["rows"]) == 3
    tag = found["rows"][0]["tags"][0][0]
    found = room.browser.get(f"{room.address}/data/rows?q=tag:%22{tag}%22").json()
    assert found["total"] == sum(
        tag in piece.words for piece in open_workshop(room.folder / "data").pieces.values()
    )


@pytest.mark.parametrize(
    ("query", "line"),
    [("foo:x", "query: foo: — keys are"), ('tag:"x', "close the quotes"), ("is:odd", "use kept")],
)
def test_a_wrong_query_is_one_line(room: Room, query: str, line: str) -> None:
    answer = room.browser.get(f"{room.address}/data/rows?q={query.replace(chr(34), '%22')}")
    assert answer.status == 422 and line in answer.json()["error"]


def test_an_edit_is_previewed_done_undone_and_done_again(room: Room) -> None:
    def tagged() -> int:
        return room.browser.get(f"{room.address}/data/rows?q=tag:extra").json()["total"]

    edit = {"q": "", "add": "extra", "remove": "", "replace": "", "front": ""}
    preview = room.browser.post(f"{room.address}/data/edit", {**edit, "preview": True}).json()
    assert preview["changed"] == COUNT and "extra" in preview["rows"][0]["after"]
    assert tagged() == 0
    assert room.browser.post(f"{room.address}/data/edit", edit).json()["changed"] == COUNT
    assert tagged() == COUNT
    assert room.browser.post(f"{room.address}/data/undo").status == 200
    assert tagged() == 0
    assert room.browser.post(f"{room.address}/data/redo").status == 200
    assert tagged() == COUNT
    room.browser.post(f"{room.address}/data/undo")


def test_a_picture_is_excluded_by_hand(room: Room) -> None:
    name = room.browser.get(f"{room.address}/data/rows").json()["rows"][0]["name"]
    room.browser.post(f"{room.address}/data/decide", {"names": [name], "keep": False})
    assert room.browser.get(f"{room.address}/data/rows?q=is:excluded").json()["total"] == 1
    room.browser.post(f"{room.address}/data/undo")


def test_hostile_words_stay_words(room: Room) -> None:
    name = room.browser.get(f"{room.address}/data/rows").json()["rows"][0]["name"]
    words = "<img src=x onerror=alert(1)>"
    room.browser.post(f"{room.address}/data/decide", {"names": [name], "sentence": words})
    answer = room.browser.get(f"{room.address}/data/rows?q=onerror")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["rows"][0]["sentence"] == words
    room.browser.post(f"{room.address}/data/undo")


def test_thumbnails_are_kept_by_content(room: Room) -> None:
    row = room.browser.get(f"{room.address}/data/rows").json()["rows"][0]
    answer = room.browser.get(f"{room.address}/thumb/{row['content']}")
    assert answer.body.startswith(b"\xff\xd8") and "immutable" in answer.headers["cache-control"]
    kept = room.folder.parent / ".studio" / "thumbnails" / row["content"][:2]
    assert (kept / f"{row['content']}.jpg").read_bytes() == answer.body
    assert room.browser.get(f"{room.address}/thumb/{'0' * 64}").status == 422


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../b.png", ".hidden", "con.png"])
def test_an_upload_cannot_leave_its_folder(room: Room, name: str) -> None:
    before = sorted(room.folder.rglob("*"))
    answer = room.browser.upload(f"/upload/{room.id}", name, b"x")
    assert answer.status == 422 and answer.json()["error"].startswith("name: ")
    assert sorted(room.folder.rglob("*")) == before


def test_an_upload_never_overwrites(room: Room) -> None:
    assert room.browser.upload(f"/upload/{room.id}", "0.png", b"x").status == 422
    assert (room.folder / "pictures" / "0.png").read_bytes() == toon_picture(0)[0]


def test_a_zip_is_unpacked_and_what_it_hides_is_told(room: Room) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", toon_picture(0)[0])
        archive.writestr("../../evil.png", b"x")
        archive.writestr("run.exe", b"MZ")
    answer = room.browser.upload(f"/upload/{room.id}", "more.zip", buffer.getvalue())
    assert answer.status == 200 and len(answer.json()["left"]) == 2
    assert [path.name for path in (room.folder / "pictures" / "more").iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "momo", "x" * 300])
def test_a_character_needs_a_free_name(room: Room, name: str) -> None:
    answer = room.browser.form("/new", ("name", name))
    assert answer.status == 422 and answer.json()["error"].startswith("name: ")


def test_unknown_characters_and_pages_are_one_line(room: Room) -> None:
    assert room.browser.get("/c/abc/run").status == 422
    assert room.browser.get("/nothing").status == 404
    page = room.browser.get("/c/abc/run", Accept="text/html")
    assert "is not in this workspace" in page.text and "<html" in page.text


def test_a_body_that_is_no_object_is_refused(room: Room) -> None:
    for value in (None, [], {"names": "all"}, {"names": [1]}):
        assert room.browser.post(f"{room.address}/data/edit", value).status == 422
