"""The page Data in a real browser: crops, masks, charts, repeats, tags and their sources."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from onmodel.curate.actions import set_label_rules
from tests.support.browser import chromium
from tests.support.studio import DataRoom, serving
from tests.support.toon_pictures import toon_picture

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
AXE = Path(__file__).with_name("axe.min.js")
COUNT = 12
SLOW = 90_000  # milliseconds for a process that loads observers


@dataclass
class OpenPage:
    """The page Data of a served character; `faults` are what its scripts complained of."""

    page: "playwright.Page"
    room: DataRoom
    faults: list[str]

    def load(self) -> "playwright.Page":
        self.page.reload()
        self.page.wait_for_selector(".cell img")
        return self.page


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenPage]:
    """Pictures with captions, except for the last."""
    folder = tmp_path_factory.mktemp("workspace")
    with serving(folder) as server, chromium() as browser:
        files = {f"{i}.png": toon_picture(i)[0] for i in range(COUNT)}
        files |= {f"{i}.txt": toon_picture(i)[1].encode() for i in range(COUNT - 1)}
        room = DataRoom.made(server, folder, files)
        page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        faults: list[str] = []

        def heard(line: "playwright.ConsoleMessage") -> None:
            if line.type == "error" and "htmx:send" not in line.text:  # a reload ends requests
                faults.append(f"{line.text} {line.location}")

        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", heard)
        page.goto(server.key.url)
        page.goto(f"http://127.0.0.1:{server.key.port}{room.address}")
        yield OpenPage(page, room, faults)
        assert faults == []


def test_a_picture_is_cropped_and_turned_with_keys_alone(opened: OpenPage) -> None:
    page = opened.load()
    page.focus("#grid")
    page.keyboard.press("c")
    playwright.expect(page.locator("#crop-dialog")).to_be_visible()
    for _ in range(20):
        page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#crop-dialog [name=left]")).to_have_value("1")
    page.locator("#crop-dialog [name=width]").press("Enter")
    cell = page.locator(".cell").first
    playwright.expect(cell).to_have_attribute("aria-label", re.compile("cropped"))
    row = opened.room.get("rows").json()["rows"][0]
    assert row["crop"]["box"] == [1, 0, 45, 64]
    playwright.expect(cell.locator("img").first).to_have_attribute(
        "src", re.compile(row["content"])
    )
    page.focus("#grid")
    page.keyboard.press("r")
    playwright.expect(page.locator("#mistake")).to_be_empty()
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    playwright.expect(cell).not_to_have_attribute("aria-label", re.compile("cropped"))


def test_a_crop_is_dragged(opened: OpenPage) -> None:
    page = opened.load()
    page.locator(".cell").nth(1).click()
    page.click("#open-crop")
    area = page.locator("#crop-dialog .stage").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] / 4, area["y"] + area["height"] / 4)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 3 / 4, area["y"] + area["height"] / 2, steps=4)
    page.mouse.up()
    numbers = [page.input_value(f"#crop-dialog [name={name}]") for name in ("left", "width")]
    assert numbers == ["16", "32"]
    page.click("#crop-dialog [data-cancel]")


def test_a_mask_is_painted_with_keys_and_pointer_and_undone(opened: OpenPage) -> None:
    page = opened.load()
    page.focus("#grid")
    page.keyboard.press("p")
    canvas = page.locator("#paint-dialog canvas")
    playwright.expect(canvas).to_be_focused()
    painted = (
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        ".filter((v, i) => i % 4 === 3 && v > 0).length"
    )
    assert canvas.evaluate(painted) == 0
    page.keyboard.press(" ")
    one = canvas.evaluate(painted)
    page.keyboard.press("]")
    canvas.click(position={"x": 20, "y": 20})
    assert canvas.evaluate(painted) > one > 0
    page.keyboard.press("Control+z")
    assert canvas.evaluate(painted) == one
    page.keyboard.press("Control+y")
    page.click("#paint-dialog button[type=submit]")
    cell = page.locator(".cell").first
    playwright.expect(cell).to_have_attribute("aria-label", re.compile("with a mask"))
    page.focus("#grid")
    page.keyboard.press("m")
    playwright.expect(cell.locator("img.mask")).to_be_visible()
    page.keyboard.press("Control+z")
    playwright.expect(cell).not_to_have_attribute("aria-label", re.compile("with a mask"))
    playwright.expect(cell.locator("img.mask")).to_be_hidden()


def test_bars_and_cells_filter_the_grid(opened: OpenPage) -> None:
    page = opened.load()
    page.click("#coverage > summary")
    for selector in (".charts [data-query]", ".cross [data-query]"):
        if "cross" in selector:
            page.locator(".bars.pairs button").first.click()
        bar = page.locator(selector).first
        number = bar.inner_text().split()[-1]
        bar.focus()
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#query")).to_have_value(re.compile("shows:"))
        playwright.expect(page.locator("#counts")).to_have_text(re.compile(f"^{number} pictures"))


def test_a_slider_shows_exposures_at_once(opened: OpenPage) -> None:
    page = opened.load()
    recipe = opened.room.folder / "recipe.toml"
    before = recipe.read_text()
    page.click("#planner > summary")
    page.wait_for_load_state("networkidle")  # the planner is asked for when it is opened
    slider = page.locator("#repeats:not(.htmx-settling) .sliders input")
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    playwright.expect(page.locator("#numbers")).to_contain_text(f"{COUNT} × 2 × 10")
    playwright.expect(page.locator(".sliders output")).to_have_text("2")
    assert recipe.read_text() == before
    with page.expect_response("**/data/planner"):
        page.click("#repeats button[type=submit]")
    assert "repeats = 2" in recipe.read_text()
    page.focus("#grid")
    page.keyboard.press("Control+z")
    playwright.expect(page.locator(".sliders input")).not_to_have_value("2")
    assert recipe.read_text() == before


def test_untagged_pictures_are_tagged_and_each_tag_shows_its_source(opened: OpenPage) -> None:
    page = opened.load()
    page.click("#label > summary")
    page.click("#label form:has([value=tag]) button")
    playwright.expect(page.locator("#job")).to_contain_text("Tagged pictures: 1", timeout=SLOW)
    page.fill("#query", "by:tagger")
    playwright.expect(page.locator("#counts")).to_have_text(re.compile("^1 pictures"))
    page.locator(".cell").first.click()
    tag = page.locator("#said li").first
    playwright.expect(tag).to_have_attribute("data-by", "tagger")
    playwright.expect(tag).to_contain_text(re.compile(r"\(tagger \d\.\d\d\)"))
    colour = "e => getComputedStyle(e).borderLeftColor"
    assert tag.evaluate(colour) == page.locator(".legend [data-by=tagger]").evaluate(colour)
    page.click("#undo")
    playwright.expect(page.locator("#counts")).to_have_text(re.compile("^0 pictures"))


def test_a_tag_is_completed_from_an_alias_with_its_number(opened: OpenPage, tmp_path: Path) -> None:
    aliases = tmp_path / "aliases.csv"
    aliases.write_text("happy face,smile\n")
    set_label_rules(opened.room.folder / "data", [], aliases)
    page = opened.load()
    number = opened.room.get("rows?q=tag:smile").json()["total"]
    page.click("#bulk summary")
    page.locator("#edit input[name=add]").press_sequentially("hap")
    option = page.locator("#options-edit-add [role=option]").first
    playwright.expect(option).to_have_text(f"happy face → smile{number}")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#edit input[name=add]")).to_have_value("smile")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_panels_and_dialogs_fit_and_are_accessible(
    opened: OpenPage, width: int, theme: str
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
    page.goto(opened.page.url)
    page.wait_for_selector(".cell img")
    page.add_script_tag(path=AXE)
    page.locator(".cell").first.click()
    for panel in page.locator(".panels > details > summary").all():
        panel.click()
    page.locator(".bars.pairs button").first.click()
    page.wait_for_selector(".cross")
    page.wait_for_selector(".sliders")
    serious = []
    for dialog in ("", "crop", "paint"):
        if dialog:
            page.click(f"#open-{dialog}")
            playwright.expect(page.locator(f"#{dialog}-dialog")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for row in page.evaluate("axe.run()")["violations"]:
            if row["impact"] in ("serious", "critical"):
                serious.append(f"{dialog} {row['id']}: {row['nodes'][0]['html']}")
        page.keyboard.press("Escape")
    context.close()
    assert serious == []
