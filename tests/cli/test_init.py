"""`onmodel init` and `onmodel evaluate`: recipes that are written for a user, and run."""

import shutil
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.engine.plan import make_plan
from onmodel.errors import InputError
from onmodel.recipe import load_recipe
from onmodel.toon.datasets import write_set
from tests.support.lora_files import write


def run(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "my pictures"
    write_set("backgwa_base", folder, count=12)
    first, *others = sorted(folder.glob("*.txt"))
    first.unlink()
    for path in others:  # captions of others say the design, too
        path.write_text(path.read_text().replace("backgwa,", "backgwa, light blue hair,"))
    return folder


def init(folder: Path, pictures: Path, *more: object) -> str:
    named = ("--pictures", pictures, "--trigger", "backgwa", "--name", "BACKGWA")
    return run("init", folder, *named, *more)


def test_a_folder_of_pictures_becomes_a_recipe_that_plans(tmp_path: Path, pictures: Path) -> None:
    said = init(tmp_path / "new", pictures)
    assert said.startswith("12 pictures, 11 with captions; 10 repeats")
    sheet = tomllib.loads((tmp_path / "new" / "character.toml").read_text(encoding="utf-8"))
    assert sheet["character"]["required"] == ["light blue hair"]
    assert not {"1girl", "backgwa"} & set(sheet["character"]["tags"])
    plan = run("run", tmp_path / "new" / "recipe.toml", "--dry-run")
    assert "trained" in plan and "not there" not in plan
    steps = {step.name: step for step in make_plan(load_recipe(tmp_path / "new" / "recipe.toml"))}
    assert steps["data"].plan.counts == {"base": 12} and steps["trained"].plan.exposures["base"]
    with pytest.raises(InputError, match="exists already"):
        init(tmp_path / "new", pictures)


def test_turbo_samples_in_few_steps_without_guidance(tmp_path: Path, pictures: Path) -> None:
    init(tmp_path / "turbo", pictures, "--base", "dit=a.safetensors", "--turbo")
    recipe = tomllib.loads((tmp_path / "turbo" / "recipe.toml").read_text(encoding="utf-8"))
    stage = recipe["stages"]["candidates"]
    assert (stage["steps"], stage["guidance"]) == (10, 1.0)
    with pytest.raises(InputError, match="--turbo"):
        init(tmp_path / "toon", pictures, "--turbo")


def test_a_real_base_is_written_with_its_files(tmp_path: Path, pictures: Path) -> None:
    init(tmp_path / "hub", pictures, "--base", "owner/name")
    init(tmp_path / "files", pictures, "--base", "dit=a.safetensors", "--base", "vae=b.safetensors")
    hub = tomllib.loads((tmp_path / "hub" / "recipe.toml").read_text(encoding="utf-8"))
    assert hub["recipe"]["base"] == {"family": "anima", "hub": "owner/name"}
    files = tomllib.loads((tmp_path / "files" / "recipe.toml").read_text(encoding="utf-8"))
    assert Path(files["recipe"]["base"]["dit"]).is_absolute()
    assert files["stages"]["trained"]["resolution"] == 1024
    make_plan(load_recipe(tmp_path / "files" / "recipe.toml"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--pictures: missing"),
        (("--pictures", "gone", "--trigger", "a", "--name", "b"), "no such folder"),
        (("--pictures", ".", "--trigger", "a", "--name", "b"), "holds 0 pictures"),
        (("--pictures", ".", "--name", "b"), "--trigger: missing"),
        (("--pictures", ".", "--trigger", "a"), "holds 0 pictures"),  # the name is the trigger
    ],
)
def test_what_is_missing_is_one_line_and_writes_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        run("init", *words)
    assert not list(tmp_path.iterdir())


def test_files_are_compared_by_a_recipe_that_is_kept(tmp_path: Path) -> None:
    one = write(tmp_path / "a b.safetensors", 1)
    (tmp_path / "other").mkdir()
    two = write(tmp_path / "other" / "a b.safetensors", 2)
    out = tmp_path / "out"
    words = ("evaluate", one, two, "--sheet", "toon:backgwa", "-o", out, "--trigger", "a_b#2=word")
    assert "compared" in run(*words, "--dry-run")
    steps = make_plan(load_recipe(out / "recipe.toml"))
    assert [step.verb for step in steps] == ["import", "import", "curate", "evaluate"]
    assert steps[-1].settings.triggers == {"a_b#2": "word"}
    assert "more" in run(*words, "--dry-run", "--more")
    *first, more = make_plan(load_recipe(out / "recipe.toml"))
    assert first == steps and more.settings.more_of == "compared"
    assert more.settings.triggers == {"a_b#2": "word"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("gone.safetensors",), "no such file"),
        ((".",), "holds no adapter_model"),
        ((".", "--suite", "all"), "use choose"),
        ((".", "--suite", "thorough", "--more"), "only suite confirm"),
        ((".", "--trigger", "x=y"), "names are"),
        ((".", "--base", "a/b"), "--references: missing"),
        ((".", "--references", "gone"), "no such folder"),
    ],
)
def test_a_wrong_comparison_is_one_line(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        run("evaluate", *words, "--sheet", "toon:backgwa", "--dry-run")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_first_recipe_runs_to_its_end(tmp_path: Path, pictures: Path) -> None:
    init(tmp_path, pictures)
    recipe = tmp_path / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    for old, new in (("epochs = 10", "epochs = 2"), ("repeats = 10", "repeats = 1")):
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(text.replace("steps = 16", "steps = 2"), encoding="utf-8")
    run("run", recipe, "--project", tmp_path / "project", "--json")
    assert list((tmp_path / "project").glob("objects/*/*"))


def test_pictures_that_lie_deeper_or_in_a_zip_are_named(tmp_path: Path, pictures: Path) -> None:
    inner = tmp_path / "train" / "10_backgwa"
    inner.mkdir(parents=True)
    for path in pictures.iterdir():
        (inner / path.name).write_bytes(path.read_bytes())
    for around in (inner.parent, inner):
        folder = tmp_path / around.name
        assert init(folder, around).startswith("12 pictures, 11 with captions")
        recipe = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
        (source,) = recipe["stages"]["data"]["subsets"]["base"]
        assert (folder / source["folder"]).resolve() == inner
    shutil.copytree(inner, inner.with_name("2_more"))
    with pytest.raises(InputError, match="there are some in 10_backgwa, 2_more: name one of these"):
        init(tmp_path / "a", inner.parent)
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="is no folder; unpack it"):
        init(tmp_path / "c", tmp_path / "set.zip")


def test_refused_pictures_are_named_where_too_few_remain(tmp_path: Path, pictures: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(pictures, folder)
    for path in folder.glob("*.txt"):
        path.write_bytes("赤い髪".encode("cp932"))
    said = "holds 1 pictures.*11 files are refused, the first: .*not UTF-8; save it as UTF-8"
    with pytest.raises(InputError, match=said):
        init(tmp_path / "new", folder)
