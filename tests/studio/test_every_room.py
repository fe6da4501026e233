"""Every room with something in it: hostile words stay words, and keys alone reach everything."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from onmodel.curate.bulk import changes, edit_tags, parse_edit
from onmodel.curate.decisions import decide_by_hand
from onmodel.curate.findings import AuditFinding
from onmodel.curate.gather import gather
from onmodel.curate.workshop import open_workshop
from onmodel.events import Events
from onmodel.hashing import write_json
from onmodel.starter import StarterSettings, write_starter
from onmodel.studio.workspace import CharacterFolder, open_workspace
from tests.support.browser import chromium
from tests.support.judged_project import add_evaluation
from tests.support.studio import serving
from tests.support.toon_pictures import write_pictures

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
HOSTILE = "<img src=x onerror=document.title='owned'>"
SCRIPT = "<script>document.title='owned';parent.document.title='owned'</script>"
TAG = "<b onclick=alert(1)>tag"
ROOMS = ("data", "run", "recipe", "compare", "results", "merge", "release")
PAGES = ("", "queue")

# The beginnings of what a person can reach with the Tab key.
REACHABLE = """() => {
  const wanted = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  const seen = [...document.querySelectorAll(wanted)].filter((one) =>
    one.checkVisibility() && !one.disabled && one.type !== "hidden" && one.tabIndex >= 0
    && getComputedStyle(one).visibility === "visible");
  return seen.map((one) => one.outerHTML.replace(/ class="[^"]*"/, "").slice(0, 120));
}"""
FOCUSED = """() =>
  document.activeElement.outerHTML.replace(/ class="[^"]*"/, "").slice(0, 120)"""
# Whether the element that has the focus looks different from what it is without.
OUTLINED = """() => {
  const one = document.activeElement;
  const style = getComputedStyle(one);
  return style.outlineStyle !== "none" || style.boxShadow !== "none"
    || one.classList.contains("hidden-input");
}"""


def furnish(workspace: Path) -> CharacterFolder:
    """A character whose own name, captions, findings, log, models, files and card are hostile."""
    made = CharacterFolder("", HOSTILE, workspace / HOSTILE)
    made.pictures.mkdir(parents=True)
    write_pictures(made.pictures, 10, HOSTILE)
    settings = StarterSettings(pictures=made.pictures, trigger="momochar")
    write_starter(made.folder, settings, None)
    made.sheet.write_text(made.sheet.read_text().replace('label = "momochar"', f'label = "{TAG}"'))
    gather([made.pictures], made.data, HOSTILE, SCRIPT, Events())
    workshop = open_workshop(made.data)
    edit_tags(workshop, changes(list(workshop.pieces.values()), parse_edit(add=TAG)))
    decide_by_hand(open_workshop(made.data), ["pictures/9"], False, None, None, SCRIPT)
    found = [
        AuditFinding(f"kind {HOSTILE}", "error", name, SCRIPT, f"evidence {HOSTILE}")
        for name in ("pictures/0", "")
    ]
    write_json(made.data / "audit.json", {"findings": [row.as_dict() for row in found]})
    (made.folder / "run.log").write_text(f"{HOSTILE}\n{SCRIPT}\n")
    add_evaluation(made.project, (f"a {HOSTILE}", f"b {SCRIPT}"), prompts=2)
    (made.folder / "loras").mkdir()
    (made.folder / "loras" / f"{HOSTILE}.safetensors").write_bytes(b"no weights")
    report = made.project_folder / "report"
    report.mkdir()
    (report / "index.html").write_text(f"<!doctype html><h1>report</h1>{HOSTILE}{SCRIPT}")
    release = made.project_folder / "release" / "momo"
    release.mkdir(parents=True)
    link = "[link](javascript:document.title='owned')"
    (release / "README.md").write_text(f"# {HOSTILE}\n\n{SCRIPT}\n\n{link} ![]({HOSTILE})\n")
    (release / f"{HOSTILE}.txt").write_text("x")
    return next(one for one in open_workspace(workspace).characters() if one.name == HOSTILE)


@pytest.fixture(scope="module")
def character(tmp_path_factory: pytest.TempPathFactory) -> CharacterFolder:
    return furnish(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def page(character: CharacterFolder) -> Iterator["playwright.Page"]:
    """A page of the studio, which shows a room of the character between two tests."""
    with serving(character.folder.parent) as browser, chromium() as chrome:
        page = chrome.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.goto(browser.key.url)
        page.goto(f"{page.url}c/{character.id}/data")
        yield page


def room(page: "playwright.Page", name: str) -> None:
    page.goto(f"{page.url.partition('/c/')[0]}/c/{page.url.split('/c/')[1].split('/')[0]}/{name}")


def opened(page: "playwright.Page", name: str) -> None:
    """Show all that a room can show at once."""
    room(page, name)
    for summary in page.locator("main summary").all():
        if summary.locator("xpath=..").get_attribute("open") is None:
            summary.click()
    if name == "data":
        page.click(".cell >> nth=0")
        page.wait_for_selector("#findings li")
        page.wait_for_selector("#found [data-query]")
    if name == "compare":
        page.click("button.picture >> nth=0")
    page.wait_for_load_state("load")


@pytest.mark.parametrize("name", ROOMS)
def test_hostile_words_are_shown_and_never_run(page: "playwright.Page", name: str) -> None:
    opened(page, name)
    page.wait_for_timeout(300)  # a picture that is not there fails soon
    assert HOSTILE in page.inner_text("header .name")
    assert "owned" not in (page.title().replace(HOSTILE, ""), page.evaluate("document.title"))
    assert page.locator("img[src=x], main script, [onerror], [onclick]").count() == 0
    assert page.locator("a[href^=javascript]").count() == 0


def test_hostile_words_of_no_character_are_shown_and_never_run(page: "playwright.Page") -> None:
    character = page.url.split("/c/")[1].split("/")[0]
    origin = page.url.partition("/c/")[0]
    for name in PAGES:
        page.goto(f"{origin}/{name}")
        assert page.title() != "owned" and page.locator("img[src=x]").count() == 0
    page.goto(f"{origin}/c/{character}/data")


def test_hostile_words_are_words_of_their_rooms(page: "playwright.Page") -> None:
    expect = playwright.expect
    opened(page, "data")
    assert HOSTILE in page.input_value("#words textarea[name=sentence]")
    assert TAG in page.input_value("#words textarea[name=tags]")
    expect(page.locator("#said")).to_contain_text(TAG)
    expect(page.locator("#findings")).to_contain_text(f"evidence {HOSTILE}")
    expect(page.locator("#found")).to_contain_text(f"kind {HOSTILE}")
    room(page, "run")
    expect(page.locator("#log")).to_contain_text(SCRIPT)
    room(page, "compare")
    expect(page.locator(".compare thead")).to_contain_text(SCRIPT)
    room(page, "merge")
    expect(page.locator("main")).to_contain_text(HOSTILE)
    room(page, "release")
    expect(page.locator("article.card")).to_contain_text(SCRIPT)
    room(page, "data")


def test_a_report_runs_its_script_in_a_box_of_its_own(page: "playwright.Page") -> None:
    room(page, "results")
    frame = page.frame_locator("iframe.report")
    playwright.expect(frame.locator("h1")).to_have_text("report")
    (inner,) = (one for one in page.frames if one.parent_frame)
    assert inner.evaluate("origin") == "null"
    assert "owned" not in page.evaluate("document.title").replace(HOSTILE, "")


@pytest.mark.parametrize("name", [*ROOMS, *(f"../../{one}" for one in PAGES)])
def test_the_tab_key_reaches_everything_and_shows_where_it_is(
    page: "playwright.Page", name: str
) -> None:
    before = page.url
    room(page, name)
    if name == "data":
        page.wait_for_selector(".cell img")
    wanted = set(page.evaluate(REACHABLE))
    reached: set[str] = set()
    hidden = []
    page.evaluate("document.activeElement.blur()")
    for _ in range(3 * len(wanted) + 20):
        page.keyboard.press("Tab")
        at = page.evaluate(FOCUSED)
        if at in wanted and not page.evaluate(OUTLINED):
            hidden.append(at)
        reached.add(at)
        if wanted <= reached:
            break
    page.goto(before)
    assert wanted - reached == set()
    assert hidden == []


def test_the_focus_stays_on_a_button_that_is_shown_anew(
    page: "playwright.Page", character: CharacterFolder
) -> None:
    room(page, "run")
    page.locator("#start").focus()
    assert character.recipe is not None
    text = character.recipe.read_text()
    character.recipe.write_text(text.replace("epochs = 10", "epochs = 1"))
    playwright.expect(page.locator("#stages")).to_contain_text(" 7 steps", timeout=30_000)
    assert page.evaluate("document.activeElement.id") == "start"
    room(page, "data")


def test_keys_alone_go_through_every_room(page: "playwright.Page") -> None:
    room(page, "data")
    for name in ("run", "compare", "results", "merge", "release", "data"):
        page.keyboard.press("Tab")  # "Skip to content" is first
        assert page.evaluate("document.activeElement.className") == "skip"
        for _ in range(20):
            page.keyboard.press("Tab")
            if (page.evaluate("document.activeElement.href ?? ''")).endswith(f"/{name}"):
                break
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/{name}")
        current = page.locator("header [aria-current=page]")
        playwright.expect(current).to_have_attribute("href", re.compile(f"/{name}$"))
    page.wait_for_selector(".cell img")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_keys_alone_compare_two_pictures(page: "playwright.Page") -> None:
    room(page, "compare")
    button = page.locator("button.picture").first
    button.focus()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#zoom")).to_be_visible()
    page.locator("#slide").focus()
    page.keyboard.press("ArrowRight")
    assert page.input_value("#slide") == "51"
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#zoom")).to_be_hidden()
    playwright.expect(button).to_be_focused()
    room(page, "data")
