"""The studio is killed in the middle of its work: nothing is lost, and no half file is left."""

import http.client
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from onmodel.curate.workshop import JOURNAL, Piece, Said, make_workshop, open_workshop
from onmodel.studio.uploads import UPLOADS, remove_unfinished
from onmodel.studio.workspace import open_workspace
from tests.support.recipes import RECIPE
from tests.support.studio import Browser
from tests.support.studio_process import studio_process
from tests.support.toon_pictures import toon_picture, write_pictures

WAIT = 120  # seconds, on a busy machine
EDITED = 2_000  # pictures
HALF = 300_000  # bytes of an upload that are sent before the kill


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not reached():
        assert time.monotonic() < end, f"waited for {WAIT} seconds"
        time.sleep(0.02)


def made(browser: Browser) -> str:
    """The id of a new character, "momo", without pictures."""
    id: str = browser.form("/new", ("name", "momo")).json()["character"]
    return id


def test_a_run_goes_on_and_is_stopped_by_the_next_studio(tmp_path: Path) -> None:
    (tmp_path / "momo").mkdir()
    long = RECIPE.replace("epochs = 4", "epochs = 4000").replace("threads = 1", "threads = 1\n")
    (tmp_path / "momo" / "recipe.toml").write_text(long)
    (character,) = open_workspace(tmp_path).characters()

    def state() -> str:
        runs = character.project.ledger.runs() if character.started else []
        return next((run.state for run in runs if run.stage == "look"), "")

    with studio_process(tmp_path) as studio:
        studio.browser.form(f"/c/{character.id}/run/start")
        until(lambda: state() == "running")
        studio.kill()
    assert state() == "running"  # its process, not its studio, says so
    with studio_process(tmp_path) as studio:
        page = studio.browser.get("/queue").text
        assert f"/c/{character.id}/run" in page and "/queue/1/stop" in page
        studio.browser.form("/queue/1/stop")
        until(lambda: state() == "paused")
        until(lambda: "/queue/resume/" in studio.browser.get("/queue/rows").text)


def test_an_audit_ends_with_its_studio_and_records_nothing(tmp_path: Path) -> None:
    with studio_process(tmp_path) as studio:
        id = made(studio.browser)
        write_pictures(tmp_path / "momo" / "pictures", 10)
        assert studio.browser.form(f"/new/{id}/finish", ("trigger", "momochar")).status == 200
        assert studio.browser.post(f"/c/{id}/data/import").status == 200
        studio.browser.form(f"/c/{id}/data/job", ("do", "audit"), ("tagger", ""))
        (worker,) = psutil.Process(studio.process.pid).children()
        studio.kill()
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert not (tmp_path / "momo" / "data" / "audit.json").exists()
    with studio_process(tmp_path) as studio:
        assert studio.browser.get(f"/c/{id}/data/rows").json()["total"] == 10


@pytest.mark.parametrize("grown", [False, True], ids=["before it is written", "while it is"])
def test_an_edit_is_made_of_all_pictures_or_of_none(tmp_path: Path, grown: bool) -> None:
    (tmp_path / "momo").mkdir()
    (tmp_path / "momo" / "recipe.toml").write_text(RECIPE)
    data = tmp_path / "momo" / "data"
    tags = tuple(Said(f"tag {i}", "file") for i in range(20))
    row = ("0" * 64, 8, 8, "base", tags, "", "", "")
    pieces = [Piece(f"base/{i}", tmp_path / f"{i}.png", *row) for i in range(EDITED)]
    make_workshop(data, pieces, {"base": 1}, [], {})
    (character,) = open_workspace(tmp_path).characters()
    address = f"/c/{character.id}/data"
    with studio_process(tmp_path) as studio:
        assert studio.browser.get(f"{address}/rows").json()["total"] == EDITED

        def edit() -> None:
            with suppress(OSError, http.client.HTTPException):
                studio.browser.post(f"{address}/edit", {"q": "", "add": "half"})

        thread = threading.Thread(target=edit)
        thread.start()
        if grown:
            until(lambda: (data / JOURNAL).exists())
        studio.kill()
        thread.join()
    with studio_process(tmp_path) as studio:
        changed = studio.browser.get(f"{address}/rows?q=tag:half").json()["total"]
        assert changed in (0, EDITED)
        again = studio.browser.post(f"{address}/edit", {"q": "", "add": "whole"})
        assert again.json()["changed"] == EDITED
        assert studio.browser.post(f"{address}/undo").status == 200
        assert studio.browser.get(f"{address}/rows?q=tag:half").json()["total"] == changed
        assert studio.browser.get(f"{address}/rows?q=tag:whole").json()["total"] == 0
    assert len(open_workshop(data).pieces) == EDITED
    assert not [path for path in data.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["0.png", "many.zip"])
def test_an_upload_leaves_nothing_and_is_sent_again(tmp_path: Path, name: str) -> None:
    data = toon_picture(0)[0]
    uploads, pictures = tmp_path / ".studio" / UPLOADS, tmp_path / "momo" / "pictures"
    with studio_process(tmp_path) as studio:
        id, browser = made(studio.browser), studio.browser
        connection = http.client.HTTPConnection("127.0.0.1", browser.key.port, timeout=WAIT)
        connection.putrequest("POST", f"/upload/{id}?name={name}")
        connection.putheader("Cookie", f"{browser.key.cookie_name}={browser.key.cookie}")
        connection.putheader("Origin", f"http://127.0.0.1:{browser.key.port}")
        connection.putheader("Content-Length", str(2 * HALF))
        connection.endheaders(b"\0" * HALF)
        until(lambda: any(path.is_file() for path in uploads.rglob("*")))
        studio.kill()
        connection.close()
    assert list(pictures.iterdir()) == []
    with studio_process(tmp_path) as studio:
        assert list(uploads.iterdir()) == []
        assert studio.browser.upload(f"/upload/{id}", "0.png", data).status == 200
    assert (pictures / "0.png").read_bytes() == data


def test_what_another_studio_receives_is_left_alone(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    uploads = workspace.own / UPLOADS
    for process in (os.getpid(), os.getppid()):
        (uploads / f"{process}-x").mkdir(parents=True)
    remove_unfinished(workspace)
    assert [path.name for path in uploads.iterdir()] == [f"{os.getppid()}-x"]
