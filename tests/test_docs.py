"""The pages say what the code says, and the README's words are true."""

import re
import sys
from pathlib import Path

import pytest

from onmodel.engine.pipeline import make_plan
from onmodel.families.anima.licences import CIRCLESTONE
from onmodel.recipe import load_recipe

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))


@pytest.mark.parametrize("page", ["recipe", "metrics"])
def test_generated_pages_are_those_that_the_code_gives(page: str) -> None:
    import build_docs

    made = build_docs.recipe_page() if page == "recipe" else build_docs.metrics_page()
    assert made == (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"), (
        "run tools/build_docs.py"
    )


def test_every_path_in_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\]\(((?:docs|recipes|onmodel)/[^)]+)\)", text):
        assert (ROOT / path).exists(), path
    tree = text[text.index("recipes/            ") :].split("```")[0]
    for name in re.findall(r"^(?:  )?([\w./]+/|\w+\.py)", tree, flags=re.M):
        assert (ROOT / name).exists() or (ROOT / "onmodel" / name).exists(), name


@pytest.mark.parametrize("name", ["demo", "release_2"])
def test_the_recipes_are_whole(name: str) -> None:
    steps = make_plan(load_recipe(ROOT / "recipes" / f"{name}.toml"))
    assert steps[-1].verb == "release"
    exposures = next(step.plan.exposures for step in steps if step.name == "release_2")
    assert (
        exposures["backgwa_alignment"]
        == 2 * exposures["backgwa_base"]
        == 4 * exposures["backgwa_additional"]
    )


def test_the_template_is_right_but_for_the_users_own_files(tmp_path: Path) -> None:
    sheet = (ROOT / "onmodel" / "toon" / "characters" / "backgwa.toml").read_text(encoding="utf-8")
    sheet = sheet.replace("MIT (toon world)", CIRCLESTONE.name)
    (tmp_path / "my_character.toml").write_text(sheet, encoding="utf-8")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "LICENSE.md").write_text(" ".join(CIRCLESTONE.marks), encoding="utf-8")
    for subset in ("base", "reference"):
        folder = tmp_path / "pictures" / subset
        folder.mkdir(parents=True)
        (folder / "001.png").write_bytes(b"")
        (folder / "001.txt").write_text("1girl")
    (tmp_path / "my.toml").write_text(
        (ROOT / "recipes" / "own_character.toml").read_text(encoding="utf-8")
    )
    steps = make_plan(load_recipe(tmp_path / "my.toml"))
    assert [step.verb for step in steps] == [
        "curate",
        "train",
        "evaluate",
        "select",
        "evaluate",
        "release",
    ]


def test_the_comparison_needs_two_files_and_no_more(tmp_path: Path) -> None:
    recipe = tmp_path / "compare.toml"
    recipe.write_text(
        (ROOT / "recipes" / "compare.toml").read_text(encoding="utf-8"), encoding="utf-8"
    )
    steps = make_plan(load_recipe(recipe))
    assert [step.verb for step in steps] == ["import", "import", "curate", "evaluate"]
    assert [len(step.plan.missing) for step in steps] == [1, 1, 0, 0]
    for name in ("ours", "theirs"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    assert not any(step.plan.missing for step in make_plan(load_recipe(recipe)))
