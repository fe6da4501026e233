"""Whatever is written into a recipe or a model sheet, planning it ends in a plan or in one line, and writes nothing."""

import copy
import datetime
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from onmodel.character import Character, parse_character
from onmodel.errors import InputError
from onmodel.models.load import BaseSettings
from onmodel.pipeline import make_plan, stage_module
from onmodel.randomness import generator
from onmodel.recipe import HEAD, load_recipe
from onmodel.stages.curate import Source
from onmodel.stages.sample import References
from onmodel.stages.train import Share
from onmodel.train.options import Preview, Timesteps

ROOT = Path(__file__).parent.parent
RECIPES = [ROOT / "tests" / "tiny_recipe.toml", *sorted((ROOT / "recipes").glob("*.toml"))]
SHEET = ROOT / "onmodel" / "toon" / "characters" / "backgwa.toml"
VALUES: list[Any] = [
    3, -1, 0, 10**18, 10**30, True, 1.5, -2.5, float("nan"), float("inf"), float("-inf"), 1e308, "", " ", "text",
    "a\nb", "\x00", "../../out", "/dev/zero", "x" * 300, "x" * 30_000, [], [[]], [1], ["a"] * 100_000, [{}], {},
    {"x": 1}, {"x": {}}, datetime.date(2026, 1, 1),
]  # fmt: skip


class Lines:
    """TOML is one way to write tables; this stands for the reader, so that any table can be planned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table: Any = None
        read = tomllib.loads
        monkeypatch.setattr("onmodel.recipe.read_toml", lambda path, field: self.table)
        monkeypatch.setattr("onmodel.character.read_toml", lambda path, field: read(SHEET.read_text()))


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    return Lines(monkeypatch)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value, at any depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*way, key)
        yield from places(one, (*way, key))


def unsaid(table: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The way to every setting that a recipe leaves out."""
    nested: dict[str, type[BaseModel]] = {"preview": Preview, "timesteps": Timesteps, "references": References}
    for name, stage in table.get("stages", {}).items():
        for field in stage_module(stage["do"]).Settings.model_fields.keys() - stage.keys():
            yield ("stages", name, field)
            if field in nested:
                yield from (("stages", name, field, inner) for inner in nested[field].model_fields)
        for i, _ in enumerate(stage.get("data", ())):
            yield from (("stages", name, "data", i, field) for field in Share.model_fields)
        for subset, sources in stage.get("subsets", {}).items():
            yield from (("stages", name, "subsets", subset, i, field)
                        for i, _ in enumerate(sources) for field in Source.model_fields)  # fmt: skip
    if "recipe" in table:
        yield from (("recipe", key) for key in HEAD)
        yield from (("recipe", "base", field) for field in BaseSettings.model_fields)
    else:
        yield from (("character", field) for field in Character.model_fields)


def changed(table: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    table = copy.deepcopy(table)
    inner: Any = table
    for key in way[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    inner[way[-1]] = value
    return table


def planned(path: Path) -> str:
    """What planning a recipe says: "" where there is a plan."""
    try:
        make_plan(load_recipe(path))
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2_500
        return str(error)
    return ""


def one_line(table: dict[str, Any], sheet: bool, path: Path) -> None:
    if sheet:
        try:
            parse_character(table, "sheet.toml")
        except InputError as error:
            assert "\n" not in str(error)
    else:
        planned(path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_any_value_at_any_place_ends_in_a_plan_or_a_line(recipe: Path, lines: Lines) -> None:
    table, rng = tomllib.loads(recipe.read_text()), generator(0, "hostile", recipe.stem)
    tries = [(way, value) for way in [*places(table), *unsaid(table)] for value in VALUES]
    most = len(tries) if os.environ.get("ONMODEL_ALL") else 250
    for i in rng.permutation(len(tries))[:most]:
        way, value = tries[i]
        lines.table = changed(table, way, value)
        try:
            one_line(lines.table, "recipe" not in table, recipe)
        except Exception as error:
            raise AssertionError(f"{way} = {str(value)[:60]!r}: {error!r}") from error
