"""The Release room: what it shows of a release, checks, and would send to the hub."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import pytest

from onmodel.engine.project import Project
from onmodel.hashing import sha256_file
from onmodel.studio.workspace import open_workspace
from tests.support.browser import chromium
from tests.support.built_release import NAME, build
from tests.support.pages import faults_of
from tests.support.studio import Answer, Browser, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@dataclass(frozen=True)
class ReleaseRoom:
    """A served project with one release, and the page's address."""

    browser: Browser
    folder: Path
    address: str

    def get(self, path: str) -> Answer:
        return self.browser.get(f"{self.address}/{NAME}/{path}", HX_Request="true")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, tiny_anima: Path) -> Iterator[ReleaseRoom]:
    workspace = tmp_path_factory.mktemp("workspace")
    project = Project(workspace / "shown")
    made = build(tmp_path_factory.mktemp("work"), tiny_anima)
    folder = project.folder / "release" / NAME
    shutil.copytree(made.path / NAME, folder)
    [character] = open_workspace(workspace).characters()
    with serving(workspace) as browser:
        yield ReleaseRoom(browser, folder, f"/c/{character.id}/release")


def test_samples_files_and_licence_are_shown(room: ReleaseRoom) -> None:
    page = room.browser.get(room.address).text
    samples = re.findall(rf'<img src="({room.address}/{NAME}/file/images/[^"]+)"', page)
    assert len(samples) >= 2
    assert room.browser.get(samples[0]).headers["content-type"] == "image/png"
    assert sha256_file(room.folder / "README.md")[:16] in page
    assert "MIT" in page.partition("<summary>Licence")[2]
    assert "&lt;Gallery" not in page


def test_the_dry_run_lists_every_file_and_uploads_nothing(room: ReleaseRoom) -> None:
    told = unescape(room.get("push?repository=me/lora").text)
    files = [path for path in room.folder.rglob("*") if path.is_file()]
    assert f"{len(files)} files to" in told and "onmodel release push" in told
    for path in files:
        assert path.relative_to(room.folder).as_posix() in told
    for wrong in ("", "me", "../x/y", "me/lora/more"):
        refused = room.get(f"push?repository={wrong}")
        assert refused.status == 422 and "your-name/your-lora" in refused.text


def test_a_damaged_release_is_not_listed_for_the_hub(room: ReleaseRoom) -> None:
    card = room.folder / "README.md"
    before = card.read_bytes()
    try:
        card.write_bytes(before + b"more\n")
        assert room.get("push?repository=me/lora").status == 500
        assert "README.md" in room.get("check").text
    finally:
        card.write_bytes(before)
    assert 'class="mistake"' not in room.get("check").text.partition("<ul>")[0]


def test_the_page_is_accessible_and_a_node_of_the_lineage_leads_to_its_facts(
    room: ReleaseRoom,
) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(room.browser.key.url)
        page.goto(f"http://127.0.0.1:{room.browser.key.port}{room.address}")
        assert faults_of(page, page.url) == []
        page.locator("iframe").scroll_into_view_if_needed()
        frame = page.frame_locator("iframe")
        node = frame.locator("svg a").first
        target = node.get_attribute("href")
        node.click()
        playwright.expect(frame.locator(f"{target}:target")).to_be_in_viewport()
