"""A newcomer's whole way in the browser alone: from dropped pictures to a released file."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

from onmodel.weights import weights_sha256
from tests.support.browser import chromium
from tests.support.studio_process import studio_process
from tests.support.toon_pictures import write_pictures

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
COUNT = 10
RUN = 500_000  # milliseconds that the whole recipe may take on a busy machine

# What follows the recipe's data stage: too few steps to be good.
TINY = """
[stages.trained]
do = "train"
dataset = "data"
data = [{ subset = "base", repeats = 1 }]
epochs = 1
keep_every = 1
learning_rate = 5e-3
rank = 4
alpha = 4
batch = 8
resolution = 64

[stages.measured]
do = "evaluate"
models = ["trained"]
seeds = 1
references = "data"
steps = 1
size = 64

[stages.released]
do = "release"
model = "trained"
evaluation = "measured"
title = "Momo"
file_name = "momo"
samples = 1
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def page(workspace: Path) -> Iterator["playwright.Page"]:
    """The first page of a studio without characters. No page may complain of anything."""
    faults: list[str] = []
    with studio_process(workspace) as studio, chromium() as browser:
        page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda row: faults.append(row.text) if row.type == "error" else None)
        page.goto(studio.url)
        yield page
        assert faults == []


def drop(page: "playwright.Page", folder: Path) -> None:
    """Drop a folder from the file manager on the page."""
    box = page.locator("#drop").bounding_box()
    assert box is not None
    place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **place, "data": data})


def go(page: "playwright.Page", words: str) -> None:
    """Follow a link. Scripts of the next page listen once it is loaded."""
    page.click(words)
    page.wait_for_load_state()


def choose_a_sample(page: "playwright.Page") -> None:
    """Let the release show the third picture of the evaluation."""
    expect = playwright.expect
    page.click("text=Choose the samples")
    pictures = page.locator("#choose .gallery li")
    expect(pictures.locator("img").nth(2)).to_be_visible()
    text = pictures.locator("small").nth(2).inner_text()
    pictures.locator("input").nth(2).check()
    page.click("text=Write into the recipe and run")
    page.wait_for_url("**/run")
    expect(page.locator("#stages li.done")).to_have_count(4, timeout=RUN)
    expect(page.locator("#stages button")).to_have_text("Run", timeout=RUN)
    go(page, "nav >> text=Release")
    expect(page.locator(".gallery small", has_text=text).first).to_be_visible()


def go_home(page: "playwright.Page") -> None:
    """To the first page, from wherever."""
    page.goto(urljoin(page.url, "/"))


@pytest.mark.parametrize(
    ("name", "base"),
    [("momo", "toon"), pytest.param("mimi", "toon-sdxl", marks=pytest.mark.slow)],
)
def test_pictures_become_a_released_file(
    page: "playwright.Page", workspace: Path, tmp_path: Path, name: str, base: str
) -> None:
    (tmp_path / "art").mkdir()
    write_pictures(tmp_path / "art", COUNT)
    expect = playwright.expect

    go_home(page)
    page.fill("input[name=name]", name)
    page.select_option("select[name=base]", base)
    page.fill("input[name=trigger]", "momochar")
    drop(page, tmp_path / "art")
    expect(page.locator("#chosen")).to_have_text(str(2 * COUNT))
    page.click("#new button[type=submit]")
    page.wait_for_url("**/run", timeout=60_000)
    assert f'base = "{base}"' in (workspace / name / "recipe.toml").read_text()

    go(page, "nav >> text=Data")
    page.click("#import")
    page.wait_for_selector(".cell img")
    page.click(".cell >> nth=0")
    page.click("#exclude")
    expect(page.locator(".cell.out")).to_have_count(1)

    go(page, "nav >> text=Run")
    go(page, "text=Edit the recipe")
    text = page.input_value("#text")
    page.fill("#text", text.partition("[stages.trained]")[0] + TINY)
    expect(page.locator("#forms details.stage")).to_have_count(4)
    with page.expect_response(lambda answer: answer.url.endswith("/recipe/save")):
        page.click("text=Save")
    expect(page.locator(".mistake")).to_have_count(0)
    go(page, "text=Back to the run")
    with page.expect_response("**/run/start"):
        page.click("#stages button")
    expect(page.locator("#stages li.done")).to_have_count(4, timeout=RUN)
    expect(page.locator("#stages button")).to_have_text("Run")

    go(page, "nav >> text=Compare")
    page.click("button.picture >> nth=0")
    expect(page.locator("#zoom")).to_be_visible()
    assert page.evaluate("document.querySelector('#left').naturalWidth") == 64
    page.click("#close")

    go(page, "nav >> text=Results")
    expect(page.frame_locator("iframe.report").locator("h1")).to_be_visible()

    go(page, "nav >> text=Release")
    expect(page.locator("article.card")).to_contain_text("Momo")
    page.click("text=Check")
    expect(page.locator("#checked")).to_contain_text("Verified", timeout=60_000)
    choose_a_sample(page)

    folder = workspace / name
    assert weights_sha256(folder / "project" / "release" / "momo" / "momo.safetensors")
    (training_set,) = (folder / "sets").iterdir()
    assert len(list(training_set.rglob("*.png"))) == COUNT - 1
