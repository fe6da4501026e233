"""A person's word on compared models: a pick with its reason, and the question which prompt a
picture was drawn for."""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from onmodel.engine.project import Project
from onmodel.recipe import load_recipe
from onmodel.studio import jobs as queue
from onmodel.studio.picks import question
from onmodel.studio.workspace import open_workspace
from tests.support.browser import chromium
from tests.support.judged_project import add_evaluation
from tests.support.pages import faults_of
from tests.support.recipes import RECIPE
from tests.support.studio import Answer, Browser, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
MODELS = ("look@2", "look@4")
TEXT = RECIPE.replace("keep_every = 4", "keep_every = 2") + (
    '\n[stages.seen]\ndo = "evaluate"\nmodels = ["look@*"]\nseeds = 1\nsteps = 3\n'
)


@dataclass(frozen=True)
class CompareRoom:
    """Compare, of a character whose recipe made the shown evaluation."""

    browser: Browser
    recipe: Path
    address: str
    evaluation: str

    def pick(self, *fields: tuple[str, str]) -> Answer:
        return self.browser.form(f"{self.address}/pick/{self.evaluation}", *fields)

    def guess(self, query: str) -> Answer:
        return self.browser.get(f"{self.address}/guess/{self.evaluation}?{query}")


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CompareRoom]:
    (tmp_path / "momo").mkdir()
    recipe = tmp_path / "momo" / "recipe.toml"
    recipe.write_text(TEXT)
    made = add_evaluation(Project(tmp_path / "momo" / "project"), MODELS, stage="seen")
    monkeypatch.setattr(queue, "_command", lambda character: [sys.executable, "-c", ""])
    [character] = open_workspace(tmp_path).characters()
    with serving(tmp_path) as browser:
        yield CompareRoom(browser, recipe, f"/c/{character.id}", made.hash)


def test_a_pick_becomes_a_stage_with_its_reason_and_is_queued(room: CompareRoom) -> None:
    reason = 'Best "eyes".'
    answer = room.pick(("model", "look@2"), ("reason", reason), ("name", "picked"))
    assert answer.headers["hx-redirect"].endswith("/run"), answer.text
    stage = load_recipe(room.recipe).stages["picked"]
    assert stage["candidates"] == "seen" and stage["among"] == ["look@2"]
    assert stage["reason"] == reason and stage["count"] == 1
    assert "/queue/1/stop" in room.browser.get("/queue").text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("reason", " "), "say in a few words why"),
        (("model", "other"), "was not measured"),
        (("name", "look"), "is a stage of the recipe already"),
        (("name", "../x"), "name: "),
    ],
)
def test_a_wrong_pick_is_one_line_and_leaves_the_recipe(
    room: CompareRoom, change: tuple[str, str], line: str
) -> None:
    fields = {"model": "look@2", "reason": "eyes", "name": "picked", change[0]: change[1]}
    answer = room.pick(*fields.items())
    assert answer.status == 422 and line in answer.json()["error"]
    assert room.recipe.read_text() == TEXT


def test_questions_are_the_same_every_time_and_count_right_answers(room: CompareRoom) -> None:
    from onmodel.evaluate.evaluation import FILE, read_evaluation

    project = Project(room.recipe.parent / "project")
    evaluation = read_evaluation(project.object("evaluation", room.evaluation).path / FILE)
    asked = [question(evaluation, "look@2", number) for number in range(12)]
    assert asked == [question(evaluation, "look@2", number) for number in range(12)]
    assert len({one.file for one in asked}) == 12
    assert all(len(set(one.prompts)) == 4 for one in asked)
    first = room.guess("model=look@2").text
    assert asked[0].file in first and first.count('name="answer"') == 4
    right = room.guess(f"model=look@2&number=1&right=0&answer={asked[0].right}").text
    assert "(1 / 1)" in right and asked[1].file in right
    wrong = room.guess(f"model=look@2&number=2&right=1&answer={(asked[1].right + 1) % 4}").text
    assert "(1 / 2)" in wrong and "Not this one" in wrong
    for query in ("model=none", "model=look@2&number=x", "model=look@2&number=1&answer=x"):
        assert room.guess(query).status == 422


def test_a_guess_and_an_enlarged_picture_with_keys_alone(room: CompareRoom) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(room.browser.key.url)
        page.goto(f"http://127.0.0.1:{room.browser.key.port}{room.address}/compare")
        assert faults_of(page, page.url) == []
        page.focus("summary:has-text('Which prompt')")
        page.keyboard.press("Enter")
        page.focus("button:has-text('Start') >> visible=true")
        page.keyboard.press("Enter")
        page.wait_for_selector("#guess button")
        page.focus("#guess button >> nth=0")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#guess [role=status]")).to_have_text(
            re.compile(r"^(Right|Not this one): .* \([01] / 1\)$")
        )
        page.focus("button.picture >> nth=0")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("dialog #prompt")).not_to_be_empty()
        playwright.expect(page.locator("#pair")).to_have_text(re.compile("Look @2 | Look @4"))
