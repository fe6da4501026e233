"""Results: two axes against each other, with points that lead to their pictures."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from onmodel.engine.project import Project
from onmodel.studio.workspace import open_workspace
from tests.support.browser import chromium
from tests.support.judged_project import MODELS, add_evaluation
from tests.support.pages import faults_of
from tests.support.studio import Browser, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Browser, str]]:
    """A studio, and the address of a character with two evaluations."""
    project = Project(tmp_path / "shown")
    add_evaluation(project, MODELS[:2], stage="small")
    add_evaluation(project)
    [character] = open_workspace(tmp_path).characters()
    with serving(tmp_path) as browser:
        yield browser, f"/c/{character.id}"


def test_a_point_leads_to_the_pictures_of_its_model(served: tuple[Browser, str]) -> None:
    browser, address = served
    plot = browser.get(f"{address}/results/plot?y=reproduction&x=colour_cast").text
    links = re.findall(r'<a href="([^"]+)" aria-label="([^"]+)"', plot)
    assert len({name for _, name in links}) == len(links) == len(MODELS)
    for address_of_model, _ in links:
        page = browser.get(unescape(address_of_model))
        assert page.status == 200 and page.text.count(" checked>") == 1


def test_axes_and_evaluation_are_chosen(served: tuple[Browser, str]) -> None:
    browser, address = served
    plot = browser.get(f"{address}/results/plot?y=drift&x=reproduction").text
    assert '<option value="drift" selected>' in plot
    assert "reproduction stability over epochs" not in plot  # one checkpoint of each training
    hashes = re.findall(r'<option value="([0-9a-f]{64})"', plot)
    small = browser.get(f"{address}/results/plot?evaluation={hashes[0]}").text
    assert len(re.findall("<a href=", small)) == 2 * 2  # in the plot and in the table
    for query in ("evaluation=0", "x=none&y=none", "x=drift&y=drift"):
        assert browser.get(f"{address}/results/plot?{query}").status == 200


def test_the_plot_is_accessible_and_its_points_open_with_keys(served: tuple[Browser, str]) -> None:
    server, address = served
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(server.key.url)
        page.goto(f"http://127.0.0.1:{server.key.port}{address}/results")
        page.wait_for_selector(".chart.scatter a")
        assert faults_of(page, page.url, ".chart.scatter a") == []
        page.select_option("select[name=x]", "drift")
        playwright.expect(page.locator(".chart.scatter")).to_have_attribute(
            "aria-label", re.compile("drift")
        )
        page.locator(".chart.scatter a").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/compare?*")
