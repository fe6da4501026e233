"""The page of a blind judging in a real browser: started on Compare, answered with keys alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from onmodel.engine.project import Project
from onmodel.studio.workspace import open_workspace
from tests.support.browser import chromium
from tests.support.judged_project import MODELS, add_evaluation
from tests.support.pages import faults_of
from tests.support.studio import serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture
def page(tmp_path: Path) -> Iterator["playwright.Page"]:
    """Compare, of a project with an evaluation."""
    add_evaluation(Project(tmp_path / "shown"))
    [character] = open_workspace(tmp_path).characters()
    with serving(tmp_path) as server, chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(server.key.url)
        page.goto(f"http://127.0.0.1:{server.key.port}/c/{character.id}/compare")
        yield page


def test_a_judging_is_answered_with_keys_alone(page: "playwright.Page") -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.locator(f"#choice input[value='{MODELS[2]}']").uncheck()
    page.click("summary:has-text('blindly')")
    page.fill("input[name=question]", "Which <b>one</b>?")
    page.fill("input[name=pairs]", "3")
    page.keyboard.press("Enter")
    page.wait_for_url("**/judge/*")
    playwright.expect(page.locator("h1")).to_have_text("Which <b>one</b>?")
    assert faults_of(page, page.url) == []
    for answered, key in (
        (0, "ArrowLeft"),
        (1, "ArrowDown"),
        (2, "u"),
        (1, "ArrowRight"),
        (2, "ArrowLeft"),
    ):
        playwright.expect(page.locator("#count")).to_contain_text(f"{answered} of 4")
        page.keyboard.press(key)
    playwright.expect(page.locator("#count")).to_contain_text("3 of 4")
    page.keyboard.press("ArrowLeft")
    playwright.expect(page.locator("#done")).to_be_visible()
    assert not any(name in page.content() for name in MODELS)
    page.keyboard.press("Enter")  # the button for the result has the focus
    playwright.expect(page.locator("#result h1")).to_have_text("Which <b>one</b>?")
    for name in MODELS[:2]:
        playwright.expect(page.locator("#result tbody").first).to_contain_text(name)
    assert MODELS[2] not in page.inner_text("#result")
    assert faults_of(page, page.url) == []
    assert faults == []
