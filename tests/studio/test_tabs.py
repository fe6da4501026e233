"""Two tabs on one data set: what each changes stands."""

from collections.abc import Iterator

import pytest

from onmodel.curate.decisions import merged_tags
from onmodel.curate.workshop import open_workshop
from tests.support.browser import chromium
from tests.support.studio import DataRoom, serving
from tests.support.toon_pictures import toon_picture

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
COUNT = 10
Tabs = tuple["playwright.Page", "playwright.Page"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataRoom]:
    folder = tmp_path_factory.mktemp("workspace")
    with serving(folder) as browser:
        files = {f"{i}.png": toon_picture(i)[0] for i in range(COUNT)}
        files |= {f"{i}.txt": toon_picture(i)[1].encode() for i in range(COUNT)}
        yield DataRoom.made(browser, folder, files)


@pytest.fixture(scope="module")
def context(room: DataRoom) -> Iterator["playwright.BrowserContext"]:
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.new_page().goto(room.browser.key.url)
        yield context


@pytest.fixture
def tabs(room: DataRoom, context: "playwright.BrowserContext") -> Iterator[Tabs]:
    """Two tabs that show the first picture's details, before either changes anything."""
    one, two = context.new_page(), context.new_page()
    for page in (one, two):
        page.goto(f"http://127.0.0.1:{room.browser.key.port}{room.address}")
        page.click(".cell >> nth=0")
        page.wait_for_selector("#details:not([hidden])")
    yield one, two
    one.close()
    two.close()


def type_tag(page: "playwright.Page", tag: str) -> None:
    """Add a tag at the end of the open picture's tags and save."""
    field = page.locator("#words textarea[name=tags]")
    field.fill(f"{field.input_value()}, {tag}")
    page.click("#words button[type=submit]")
    playwright.expect(page.locator("#said")).to_contain_text(tag)


def first(room: DataRoom) -> list[str]:
    """Tags of the first picture as the journal has them."""
    return next(iter(open_workshop(room.folder / "data").pieces.values())).words


def test_both_tabs_may_edit_one_picture(room: DataRoom, tabs: Tabs) -> None:
    type_tag(tabs[0], "first tab")
    type_tag(tabs[1], "second tab")
    playwright.expect(tabs[1].locator("#said")).to_contain_text("first tab")
    assert {"first tab", "second tab"} <= set(first(room))
    tabs[0].reload()
    tabs[0].click(".cell >> nth=0")
    playwright.expect(tabs[0].locator("#said")).to_contain_text("second tab")


def test_an_edit_of_all_pictures_stands_beside_one_by_hand(room: DataRoom, tabs: Tabs) -> None:
    tabs[0].click("#all")
    tabs[0].click("#bulk summary")
    tabs[0].fill("#edit input[name=add]", "for all")
    tabs[0].click("#edit button[type=submit]")
    playwright.expect(tabs[0].locator("#changes")).to_contain_text(f"{COUNT} pictures change")
    type_tag(tabs[1], "by hand")
    assert {"for all", "by hand"} <= set(first(room))
    tabs[1].click("#exclude")
    tabs[0].reload()
    playwright.expect(tabs[0].locator(".cell.out")).to_have_count(1)


def test_a_sentence_that_another_tab_changed_is_not_overwritten(room: DataRoom, tabs: Tabs) -> None:
    for page, text in zip(tabs, ("One.", "Two."), strict=True):
        page.fill("#words textarea[name=sentence]", text)
        page.click("#words button[type=submit]")
        if text == "One.":
            playwright.expect(page.locator("#words")).to_have_attribute("data-sentence", "One.")
    playwright.expect(tabs[1].locator("#mistake")).to_contain_text("was changed meanwhile")
    assert room.get("rows").json()["rows"][0]["sentence"] == "One."


def test_tags_and_sentence_are_saved_together(room: DataRoom, tabs: Tabs) -> None:
    page = tabs[0]
    page.fill("#words textarea[name=sentence]", "Typed with the tags.")
    type_tag(page, "typed too")
    playwright.expect(page.locator("#words")).to_have_attribute(
        "data-sentence", "Typed with the tags."
    )
    row = room.get("rows").json()["rows"][0]
    assert row["sentence"] == "Typed with the tags." and "typed too" in first(room)


@pytest.mark.parametrize(
    ("now", "seen", "wanted", "after"),
    [
        ("a b", "a b", "b a", "b a"),
        ("a b c", "a b", "a b d", "a b c d"),
        ("b c", "a b", "a b d", "b c d"),
        ("a b c", "a b", "b", "b c"),
        ("a b d", "a b", "a b d", "a b d"),
    ],
)
def test_a_change_is_applied_to_the_tags_of_now(
    now: str, seen: str, wanted: str, after: str
) -> None:
    assert merged_tags(now.split(), seen.split(), wanted.split()) == after.split()
