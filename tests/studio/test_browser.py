"""The pages in a real browser: a newcomer's way, keys alone, hostile words, accessibility."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import chromium
from tests.support.studio import serving
from tests.support.toon_pictures import write_pictures

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
AXE = Path(__file__).with_name("axe.min.js")
ROOMS = ("data", "run", "recipe", "compare", "results", "merge", "release")
PAGES = ("", "queue")  # that belong to no character
HOSTILE = "<img src=x onerror=document.title='owned'>"


class Opened:
    """A page of a served workspace with one character; `faults` are what its scripts complained
    of."""

    def __init__(self, page: "playwright.Page", address: str) -> None:
        self.page, self.address = page, address
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._heard)

    def _heard(self, message: "playwright.ConsoleMessage") -> None:
        if message.type == "error":
            self.faults.append(message.text)

    def room(self, name: str) -> None:
        self.page.goto(f"{self.address}/{name}")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A newcomer's way up to the run: pictures dropped, a name and a trigger given."""
    pictures = write_pictures(tmp_path_factory.mktemp("pictures"), 10, HOSTILE)
    with serving(tmp_path_factory.mktemp("workspace")) as server, chromium() as browser:
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        found = Opened(page, "")
        page.goto(server.key.url)
        page.fill("input[name=name]", "momo")
        page.fill("input[name=trigger]", "momochar")
        page.set_input_files("#files", pictures)
        page.click("#new button[type=submit]")
        page.wait_for_url("**/run", timeout=30_000)
        found.address = page.url.removesuffix("/run")
        page.click("nav >> text=Data")
        page.click("#import")
        page.wait_for_selector(".cell")
        assert found.faults == []
        yield found


def test_the_grid_shows_pictures_and_filters(opened: Opened) -> None:
    opened.room("data")
    opened.page.wait_for_selector(".cell img")
    assert opened.page.inner_text("#counts").startswith("10 pictures")
    opened.page.fill("#query", "is:excluded")
    playwright.expect(opened.page.locator("#counts")).to_contain_text("0 pictures")
    opened.page.fill("#query", "foo:bar")
    playwright.expect(opened.page.locator("#mistake")).to_contain_text("keys are subset")
    opened.faults.clear()  # the refused query


def test_an_edit_is_undone_with_keys_alone(opened: Opened) -> None:
    opened.room("data")
    page = opened.page
    page.wait_for_selector(".cell img")
    page.focus("#grid")
    page.keyboard.press("Enter")
    page.wait_for_selector("#details:not([hidden])")
    page.focus("#words textarea[name=tags]")
    page.keyboard.press("End")
    page.keyboard.type(", brand new")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    said = page.locator("#said")
    playwright.expect(said).to_contain_text("brand new")
    page.focus("#grid")
    page.keyboard.press("Control+z")
    playwright.expect(said).not_to_contain_text("brand new")
    page.keyboard.press("Control+y")
    playwright.expect(said).to_contain_text("brand new")
    page.keyboard.press("Control+z")
    playwright.expect(said).not_to_contain_text("brand new")
    page.keyboard.press("x")
    playwright.expect(page.locator(".cell.out")).to_have_count(1)
    page.keyboard.press("Control+z")
    playwright.expect(page.locator(".cell.out")).to_have_count(0)
    assert opened.faults == []


def test_hostile_words_are_shown_and_never_run(opened: Opened) -> None:
    opened.room("data")
    page = opened.page
    page.wait_for_selector(".cell img")
    page.fill("#query", "onerror")
    playwright.expect(page.locator("#counts")).to_contain_text("10 pictures")
    page.click(".cell >> nth=0")
    assert HOSTILE in page.input_value("#words textarea[name=sentence]")
    assert page.title() != "owned"


def test_an_audit_shows_its_progress_and_its_chips_filter_the_grid(opened: Opened) -> None:
    opened.room("data")
    page = opened.page
    page.click("#audit summary")
    page.click("#audit form button")
    playwright.expect(page.locator("#job")).to_contain_text("Findings of the audit", timeout=90_000)
    chip = page.locator("#found [data-query]").first
    chip.focus()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#query")).to_have_value(re.compile("^finding:"))
    number = chip.locator("b").inner_text()
    playwright.expect(page.locator("#counts")).to_have_text(re.compile(f"^{number} pictures"))
    assert opened.faults == []


def test_a_tag_is_completed_with_keys_alone(opened: Opened) -> None:
    opened.room("data")
    page = opened.page
    page.click("#bulk summary")
    field = page.locator("#edit input[name=add]")
    field.focus()
    page.keyboard.type("new, backg")
    option = page.locator("#options-edit-add [role=option]").first
    playwright.expect(option).to_contain_text("backgwa")
    page.keyboard.press("ArrowDown")
    playwright.expect(option).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    playwright.expect(field).to_have_value("new, backgwa")
    playwright.expect(option).to_have_count(0)
    assert opened.faults == []


def test_a_recipe_is_the_same_as_text_and_as_form(opened: Opened) -> None:
    opened.room("recipe")
    page = opened.page
    page.click("details[data-stage=trained] summary")
    page.fill("details[data-stage=trained] [data-name=epochs]", "1")
    page.keyboard.press("Tab")
    playwright.expect(page.locator("#text")).to_have_value(re.compile(r"epochs = 1\n"))
    text = page.input_value("#text")
    page.fill("#text", f"{text}\n[defaults.train]\ncaption_dropout = 0.25\n")
    field = page.locator("details[data-stage=trained] [data-name=caption_dropout]")
    playwright.expect(field).to_have_attribute("placeholder", "0.25")
    page.fill("#text", page.input_value("#text").replace("rank = 16", "rank = 999999999"))
    playwright.expect(page.locator("#forms .mistake")).to_contain_text("rank")
    assert opened.faults == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("room", [*ROOMS, *(f"../../{page}" for page in PAGES)])
def test_every_room_fits_and_is_accessible(
    opened: Opened, room: str, width: int, theme: str
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is missing; run tools/studio_assets.py --tests")
    browser = opened.page.context.browser
    assert browser is not None
    context = browser.new_context(
        bypass_csp=True,  # axe is not the studio's own script
        color_scheme=theme,
        viewport={"width": width, "height": 900},
        storage_state=opened.page.context.storage_state(),
    )
    page = context.new_page()
    page.goto(f"{opened.address}/{room}")
    page.wait_for_load_state("load")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run()")
    serious = [
        f"{row['id']}: {row['nodes'][0]['html']}"
        for row in found["violations"]
        if row["impact"] in ("serious", "critical")
    ]
    context.close()
    assert serious == []
