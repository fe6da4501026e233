"""Base models from the hub, in the browser, against a local stand-in of the hub. The real
repositories were not reached."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onmodel.families.published import RECORD, downloaded_rows, published_bases
from onmodel.families.registry import licence_rows
from tests.support.hub import Hub, running
from tests.support.studio import Answer, Browser, serving
from tests.support.toon_pictures import write_pictures

FILES = {
    "split/anima-base-v1.0.safetensors": bytes(range(256)) * 40,
    "split/qwen_3_06b_base.safetensors": b"encoder" * 100,
    "split/qwen_image_vae.safetensors": b"vae" * 100,
    "tokenizer/vocab.json": b'{"a": 1}',
    "t5_tokenizer/tokenizer.json": b'{"b": 1}',
}
LICENCE = licence_rows()[published_bases()["anima"].licence].licence


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running() as hub:
        hub.files |= FILES
        for name in ("circlestone-labs/Anima", "circlestone-labs/Anima-Base-v1.0-Diffusers"):
            hub.repositories[name] = {}
        for name, value in {
            "HF_ENDPOINT": hub.address,
            "HF_TOKEN": hub.token,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)  # of the process that downloads
        yield hub


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    (tmp_path / "workspace").mkdir()
    with serving(tmp_path / "workspace") as browser:
        yield browser


def download(browser: Browser, name: str = "anima") -> str:
    """The part of the page after a download has ended."""
    answer = browser.form("/bases", ("base", name), ("accepted", LICENCE.name))
    assert answer.status == 200, answer.text
    while "Downloading" in (page := browser.get("/bases").text):
        time.sleep(0.1)
    return page


def test_a_base_is_downloaded_and_a_character_begins_on_it(
    hub: Hub, browser: Browser, tmp_path: Path
) -> None:
    assert 'value="hub:anima"' not in browser.get("/").text
    assert LICENCE.title in browser.get("/bases").text
    assert "anima is here." in download(browser)
    assert '<option value="hub:anima">' in browser.get("/").text
    id = _new(browser, tmp_path)
    answer = browser.form(f"/new/{id}/finish", ("trigger", "momochar"), ("base", "hub:anima"))
    assert answer.status == 200, answer.text
    recipe = (tmp_path / "workspace" / "momo" / "recipe.toml").read_text()
    folder = tmp_path / "workspace" / ".studio" / "bases" / "anima"
    for name in ("dit", "text_encoder", "vae", "tokenizers"):
        assert f"{name} = " in recipe
    assert os.path.relpath(folder, tmp_path / "workspace") in recipe
    assert (folder / "models/vae/qwen_image_vae.safetensors").read_bytes() == b"vae" * 100


def test_a_failed_download_is_one_line_and_continues(hub: Hub, browser: Browser) -> None:
    hub.hashes["split/qwen_image_vae.safetensors"] = "0" * 64
    page = download(browser)
    assert "qwen_image_vae.safetensors" in page and 'class="mistake"' in page
    assert 'value="hub:anima"' not in browser.get("/").text
    hub.hashes.clear()
    before = len(hub.requests)
    assert "anima is here." in download(browser)
    again = [row for row in hub.requests[before:] if "/resolve/" in row]
    assert not any("anima-base" in row for row in again)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ([("base", "anima")], "licence: "),
        ([("base", "anima"), ("accepted", "MIT")], "licence: "),
        ([("base", "../anima"), ("accepted", LICENCE.name)], "base: "),
        ([], "base: "),
    ],
)
def test_nothing_is_downloaded_without_a_known_base_and_its_licence(
    hub: Hub, browser: Browser, fields: list[tuple[str, str]], line: str
) -> None:
    answer: Answer = browser.form("/bases", *fields)
    assert answer.status == 422 and line in answer.text
    assert hub.requests == []


@pytest.mark.parametrize("base", ["hub:anima", "hub:../../x", "hub:"])
def test_a_base_that_is_not_here_is_refused(browser: Browser, tmp_path: Path, base: str) -> None:
    id = _new(browser, tmp_path)
    answer = browser.form(f"/new/{id}/finish", ("trigger", "momochar"), ("base", base))
    assert answer.status == 422 and answer.json()["error"].startswith("base: ")


def _new(browser: Browser, tmp_path: Path) -> str:
    """A new character with pictures."""
    id: str = browser.form("/new", ("name", "momo")).json()["character"]
    write_pictures(tmp_path / "workspace" / "momo" / "pictures", 10)
    return id


def test_a_record_that_leads_out_of_its_folder_offers_nothing(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "base": "anima",
        "licence": "x",
        "licence_link": None,
        "accepted": "",
        "files": [],
    }
    (tmp_path / RECORD).write_text(json.dumps(row | {"fields": {"vae": "models/vae.safetensors"}}))
    assert downloaded_rows(tmp_path) == [f"vae={tmp_path / 'models/vae.safetensors'}"]
    (tmp_path / RECORD).write_text(json.dumps(row | {"fields": {"vae": "../vae.safetensors"}}))
    assert downloaded_rows(tmp_path) == []
