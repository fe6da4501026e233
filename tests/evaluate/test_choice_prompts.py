"""What is chosen is judged on other prompts than those that it was chosen on."""

from itertools import product
from pathlib import Path

import pytest

from onmodel.evaluate.plan import share_prompts
from onmodel.recipe import load_recipe
from onmodel.sample.suites import Prompt, suite, wide_suite
from onmodel.stages.search import FRESH, SEARCHED
from onmodel.toon.attributes import VOCABULARY
from tests.support.drawn_family import sheet

RECIPES = [
    path
    for path in sorted((Path(__file__).parent.parent.parent / "recipes").glob("*.toml"))
    if "[recipe]" in path.read_text(encoding="utf-8")
]
CHOOSING = {"tune": ["choose"], "search": [SEARCHED, FRESH]}  # verb → the suites that it reads


def texts(prompts: list[Prompt]) -> set[str]:
    return {prompt.text["L"] for prompt in prompts}


@pytest.mark.parametrize("judging", ["confirm", "thorough"])
def test_no_prompt_that_chooses_is_one_that_judges(judging: str) -> None:
    judged = texts(suite(judging, sheet(), VOCABULARY))  # type: ignore[arg-type]
    for choosing in (
        suite("choose", sheet(), VOCABULARY),
        suite("check", sheet(), VOCABULARY),
        wide_suite(sheet(), VOCABULARY),
    ):
        assert not judged & texts(choosing)


def test_a_search_judges_the_best_parent_on_other_prompts_than_it_was_found_on() -> None:
    found, judged = (texts(suite(name, sheet(), VOCABULARY)) for name in (SEARCHED, FRESH))
    assert not found & judged


def test_plans_share_prompts_where_their_suites_do() -> None:
    choose, confirm = "onm|base:1|suite:choose-ab12|P:12|S:2", "onm|base:1|suite:confirm-cd34|P:24"
    assert share_prompts(choose, choose.replace("S:2", "S:4").replace("ab12", "ef56"))
    assert share_prompts(confirm, confirm.replace("confirm", "thorough"))
    assert not share_prompts(choose, confirm)
    assert not share_prompts("made up", "another") and share_prompts("made up", "made up")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_publishes_numbers_of_prompts_that_chose_nothing(path: Path) -> None:
    stages = load_recipe(path).stages
    chose: set[str] = set()
    for table in stages.values():
        chose.update(CHOOSING.get(table["do"], []))
        if table["do"] == "select":
            chose.add(stages[table["candidates"]].get("suite", "choose"))
    published = [
        stages[table["evaluation"]].get("suite", "choose")
        for table in stages.values()
        if table["do"] == "release"
    ]
    for mine, other in product(published, chose):
        assert not share_prompts(f"suite:{mine}-1", f"suite:{other}-1"), (mine, other)
