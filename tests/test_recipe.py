import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from onmodel.errors import InputError
from onmodel.evaluate.observers.files import TOON_OWN
from onmodel.recipe import load_recipe
from onmodel.stages import evaluate
from onmodel.toon.base import TOON_BASE
from tests.support.contexts import context

GOOD = """
[recipe]
name = "demo"
character = "toon:backgwa"
seed = 7
date = "2026-11-22"
[defaults.train]
rank = { anima = 32, toon = 8 }
[stages.data]
do = "curate"
[stages.preview]
do = "train"
dataset = "data"
learning_rate = { anima = 1e-5, toon = 2e-3 }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "r.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_merged_and_values_chosen_for_the_base(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, GOOD))
    assert recipe.base_name == "toon" and recipe.character.trigger == "backgwa"
    assert recipe.stages["preview"] == {
        "do": "train",
        "rank": 8,
        "dataset": "data",
        "learning_rate": 2e-3,
    }
    anima = load_recipe(
        write(tmp_path, GOOD.replace("seed = 7", 'base = { family = "anima", folder = "x/y" }'))
    )
    assert anima.stages["preview"]["learning_rate"] == 1e-5


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("seed = 7", "sead = 7", r"recipe\.sead: 7 — unknown; did you mean 'seed'"),
        ("seed = 7", "seed = -1", r"recipe\.seed: -1"),
        ('date = "2026-11-22"', "", r"recipe\.date: None .*same bytes"),
        ('do = "train"', 'do = "trian"', r"stages\.preview\.do: trian — did you mean 'train'"),
        ("[defaults.train]", "[defaults.trains]", r"defaults\.trains"),
        ("toon = 2e-3", "tune = 2e-3", r"."),
        ('"toon:backgwa"', '"nobody.toml"', r"nobody\.toml — no such file"),
        ("[stages.data]", "[stages.data", r"not valid TOML"),
    ],
)
def test_wrong_recipes_end_in_one_line_that_names_field_value_and_remedy(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    if "tune" in new:  # not a table of bases any more: the stage itself refuses it
        assert load_recipe(write(tmp_path, GOOD.replace(old, new))).stages["preview"][
            "learning_rate"
        ] == {
            "anima": 1e-5,
            "tune": 2e-3,
        }
        return
    with pytest.raises(InputError, match=says) as error:
        load_recipe(write(tmp_path, GOOD.replace(old, new)))
    assert "\n" not in str(error.value) or "TOML" in str(error.value)


def test_a_value_without_an_entry_for_the_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no value for the base 'toon'"):
        load_recipe(
            write(tmp_path, GOOD.replace("{ anima = 1e-5, toon = 2e-3 }", "{ anima = 1e-5 }"))
        )


@pytest.mark.parametrize(
    "base",
    [
        '{ folder = "base" }',
        '{ folder = "base", family = "anima" }',
        '{ hub = "somebody/toon" }',
    ],
)
def test_another_base_than_the_toon_one_gets_no_toon_observer(tmp_path: Path, base: str) -> None:
    """Also where its folder is a copy of the toon base: the toon observers must be named."""
    shutil.copytree(TOON_BASE, tmp_path / "base")
    rank = GOOD.replace("{ anima = 32, toon = 8 }", "8").replace(
        "{ anima = 1e-5, toon = 2e-3 }", "1e-3"
    )
    text = rank.replace("seed = 7", f"seed = 7\nbase = {base}")
    stage = '\n[stages.measured]\ndo = "evaluate"\nmodels = ["preview"]\n'
    recipe = load_recipe(write(tmp_path, text + stage))
    assert recipe.base_name == "anima"
    table = recipe.stages["measured"]
    settings = evaluate.Settings.model_validate(table)
    given = replace(context(tmp_path / "scratch", lambda: None, "m"), base_name=recipe.base_name)
    assert settings.observers(given).sha256 == {}
    own = settings.observers(replace(given, base_name="toon"))
    assert set(own.sha256) == set(TOON_OWN)


def test_observers_are_found_beside_the_recipe_or_on_the_hub(tmp_path: Path) -> None:
    stage = """
[stages.measured]
do = "evaluate"
models = ["preview"]
tagger = "hf://somebody/tagger"
identity = "models/ccip"
detectors = ["models/person", "hf://somebody/heads/small"]
"""
    table = load_recipe(write(tmp_path, GOOD + stage)).stages["measured"]
    assert table["tagger"] == "hf://somebody/tagger" and table["identity"] == str(
        tmp_path / "models/ccip"
    )
    assert table["detectors"] == [str(tmp_path / "models/person"), "hf://somebody/heads/small"]
