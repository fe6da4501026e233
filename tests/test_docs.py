"""The documentation matches the code: generated pages, links, command lines, recipes, paths."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from onmodel.cli.main import app
from onmodel.engine.plan import make_plan
from onmodel.families.anima.licences import CIRCLESTONE
from onmodel.recipe import load_recipe

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
GUIDES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # it names old commands too


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", read(page), flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def command_lines(page: Path) -> Iterator[str]:
    """The `onmodel …` lines of a page's code blocks, without a launcher before them."""
    for block in re.findall(r"^```\n(.*?)^```", read(page), flags=re.S | re.M):
        yield from re.findall(r"^(?:\S+ .*-m )?(onmodel [a-z-].*)$", block, flags=re.M)


@cache
def root() -> Any:
    return typer.main.get_command(app)


def options(command: Any) -> set[str]:
    return {name for row in command.params for name in (*row.opts, *row.secondary_opts)}


def find_command(line: str) -> tuple[Any, list[str]]:
    """The command that a line names, and the words after it. Fails for a name that is not there."""
    command, words = root(), shlex.split(line, comments=True)[1:]
    while words and words[0] != "…" and hasattr(command, "commands"):
        if words[0].startswith("-"):
            assert words[0] in options(command), line
        else:
            assert words[0] in command.commands, f"no command {words[0]!r}: {line}"
            command = command.commands[words[0]]
        words = words[1:]
    return command, words


@pytest.mark.parametrize("page", ["recipe", "metrics"])
def test_generated_pages_are_those_that_the_code_gives(page: str) -> None:
    import build_docs

    made = build_docs.recipe_page() if page == "recipe" else build_docs.metrics_page()
    assert made == (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8"), (
        "run tools/build_docs.py"
    )


def test_the_readme_fits_on_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", GUIDES, ids=[str(page.relative_to(ROOT)) for page in GUIDES])
def test_every_command_line_in_a_code_block_parses(page: Path) -> None:
    for line in command_lines(page):
        command, words = find_command(line)
        assert not hasattr(command, "commands"), f"incomplete: {line}"
        context = command.make_context(command.name, list(words))  # raises for a wrong line
        recipe = context.params.get("recipe")
        if recipe and recipe.parts[0] == "recipes":
            stage = context.params.get("until") or context.params.get("stage")
            stages = load_recipe(ROOT / recipe).stages
            assert stage is None or stage in stages, line


@pytest.mark.parametrize("page", GUIDES, ids=[str(page.relative_to(ROOT)) for page in GUIDES])
def test_every_command_in_a_sentence_exists_with_its_options(page: Path) -> None:
    for code in re.findall(r"`(onmodel [^`]+)`", prose(page)):
        command, words = find_command(" ".join(code.split()))
        known = options(command)
        for word in words:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in known, code


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "tutorials").glob("*.md")), ids=str)
def test_recipes_of_tutorials_can_be_planned(page: Path, tmp_path: Path) -> None:
    for text in re.findall(r"```toml\n(# \w+\.toml\n.*?)```", read(page), flags=re.S):
        recipe = tmp_path / text.splitlines()[0].removeprefix("# ")
        recipe.write_text(text, encoding="utf-8")
        assert make_plan(load_recipe(recipe))


def test_every_path_in_the_source_tree_exists() -> None:
    page = read(ROOT / "docs" / "reference" / "files.md")
    tree = page.split("```")[1]
    for inside, names in re.findall(r"^( *)((?:[\w.]+(?:/|\.py) ?)+)", tree, flags=re.M):
        for name in names.split():
            assert (ROOT / ("onmodel" if inside else "") / name).exists(), name


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


def script(name: str) -> str:
    """The code block of docs/how-to/more-machines.md that follows a mark."""
    page = read(ROOT / "docs" / "how-to" / "more-machines.md")
    found = re.search(rf"<!-- {name} -->\n```\n(.*?)^```", page, flags=re.S | re.M)
    assert found is not None
    return found[1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_the_scripts_for_many_machines_can_be_read() -> None:
    cloud = yaml.safe_load(script("skypilot"))
    for text in (script("slurm"), cloud["run"]):
        checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
        assert checked.stderr == ""
        assert "onmodel run" in text and "RAY_AUTH_MODE=token" in text
