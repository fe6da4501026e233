"""Whatever is written into a recipe or a model sheet, planning it ends in a plan or in one line,
and writes nothing."""

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
from onmodel.engine.plan import make_plan
from onmodel.errors import InputError
from onmodel.families.anima.spec import Settings as Base
from onmodel.families.settings import Timesteps
from onmodel.randomness import generator
from onmodel.recipe import HEAD, load_recipe
from onmodel.stages import stage_module
from onmodel.stages.curate import PictureSource
from onmodel.stages.generating import ReferenceSource
from onmodel.train.options import Preview, TrainSubset

ROOT = Path(__file__).parent.parent
RECIPES = [ROOT / "tests" / "tiny_recipe.toml", *sorted((ROOT / "recipes").glob("*.toml"))]
SHEET = ROOT / "onmodel" / "toon" / "characters" / "backgwa.toml"
VALUES: list[Any] = [
    3,
    -1,
    0,
    10**18,
    10**30,
    True,
    1.5,
    -2.5,
    float("nan"),
    float("inf"),
    float("-inf"),
    1e308,
    "",
    " ",
    "text",
    "a\nb",
    "\x00",
    "../../out",
    "/dev/zero",
    "x" * 300,
    "x" * 30_000,
    [],
    [[]],
    [1],
    ["a"] * 100_000,
    [{}],
    {},
    {"x": 1},
    {"x": {}},
    datetime.date(2026, 1, 1),
]


class Lines:
    """TOML is one way to write tables; this stands for the reader, so that any table can be
    planned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.table: Any = None
        read = tomllib.loads
        monkeypatch.setattr("onmodel.recipe.read_toml", lambda path, field: self.table)
        monkeypatch.setattr(
            "onmodel.character.read_toml", lambda path, field: read(SHEET.read_text())
        )


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    return Lines(monkeypatch)


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value, at any depth."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, one in inner:
        yield (*way, key)
        yield from places(one, (*way, key))


def unsaid(table: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The way to every setting that a recipe leaves out."""
    nested: dict[str, type[BaseModel]] = {
        "preview": Preview,
        "timesteps": Timesteps,
        "references": ReferenceSource,
    }
    for name, stage in table.get("stages", {}).items():
        for field in stage_module(stage["do"]).Settings.model_fields.keys() - stage.keys():
            yield ("stages", name, field)
            if field in nested:
                yield from (("stages", name, field, inner) for inner in nested[field].model_fields)
        for i, _ in enumerate(stage.get("data", ())):
            yield from (("stages", name, "data", i, field) for field in TrainSubset.model_fields)
        for subset, sources in stage.get("subsets", {}).items():
            yield from (
                ("stages", name, "subsets", subset, i, field)
                for i, _ in enumerate(sources)
                for field in PictureSource.model_fields
            )
    if "recipe" in table:
        yield from (("recipe", key) for key in HEAD)
        yield from (("recipe", "base", field) for field in Base.model_fields)
    else:
        yield from (("character", field) for field in Character.model_fields)


def changed(table: dict[str, Any], way: tuple[Any, ...], value: Any) -> dict[str, Any]:
    table = copy.deepcopy(table)
    inner: Any = table
    for key in way[:-1]:
        if isinstance(inner, dict) and not isinstance(inner.get(key), dict | list):
            inner[key] = {}
        inner = inner[key]
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
    most = len(tries) if os.environ.get("ONMODEL_ALL") else 120
    for i in rng.permutation(len(tries))[:most]:
        way, value = tries[i]
        lines.table = changed(table, way, value)
        try:
            one_line(lines.table, "recipe" not in table, recipe)
        except Exception as error:
            raise AssertionError(f"{way} = {str(value)[:60]!r}: {error!r}") from error


BAD_NAMES = [
    "../out",
    "a/b",
    "..\\out",
    "/abs",
    "con",
    "NUL.txt",
    "x" * 300,
    "a\nb",
    "a\x00b",
    ".",
    "..",
    " ",
    "",
    ".hidden",
    "a:b",
    "end.",
    "-x",
    "\u202egnp",
]


@pytest.mark.parametrize("name", [*BAD_NAMES, "first@2"])
@pytest.mark.parametrize("verb", ["train", "evaluate", "tune"])
def test_a_stage_name_that_is_no_file_name_is_refused_at_the_plan(
    name: str, verb: str, lines: Lines
) -> None:
    table = tomllib.loads(RECIPES[0].read_text())
    made = {
        "do": verb,
        **({"dataset": "data", "epochs": 1} if verb == "train" else {"models": ["first"]}),
    }
    lines.table = table | {"stages": table["stages"] | {name: made}}
    assert planned(RECIPES[0]).startswith("stages")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_of_recipes_subsets_releases_and_outfits_are_refused_too(
    name: str, lines: Lines
) -> None:
    table = tomllib.loads(RECIPES[0].read_text())
    lines.table = changed(table, ("recipe", "name"), name)
    assert planned(RECIPES[0]).startswith("recipe.name")
    lines.table = changed(table, ("stages", "release", "file_name"), name)
    assert "file_name" in planned(RECIPES[0])
    lines.table = changed(table, ("stages", "data", "subsets"), {name: [{"toon": "reference"}]})
    assert "subsets" in planned(RECIPES[0])
    with pytest.raises(InputError, match="outfits"):
        parse_character(
            changed(tomllib.loads(SHEET.read_text()), ("character", "outfits", 0, "id"), name),
            "s.toml",
        )


def test_names_that_are_one_file_on_another_system_are_refused(lines: Lines) -> None:
    table = tomllib.loads(RECIPES[0].read_text())
    lines.table = table | {"stages": table["stages"] | {"DATA": table["stages"]["data"]}}
    assert "'DATA'" in planned(RECIPES[0])
    lines.table = table | {
        "stages": table["stages"] | {"again": {**table["stages"]["release"], "file_name": "TINY"}}
    }
    assert "another release's folder" in planned(RECIPES[0])
    lines.table = changed(table, ("stages", "release", "file_name"), "lineage")
    assert "file_name: lineage" in planned(RECIPES[0])
    sheet = tomllib.loads(SHEET.read_text())
    outfit = sheet["character"]["outfits"][0]
    for other in (outfit["id"], outfit["id"].upper()):
        twice = changed(sheet, ("character", "outfits"), [outfit, {**outfit, "id": other}])
        with pytest.raises(InputError, match="outfits"):
            parse_character(twice, "s.toml")


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("stages", "first", "epochs"), 999_999_999),
        (("stages", "first", "epochs"), 900_000),
        (("stages", "first", "data", 0, "repeats"), 10**6),
        (("stages", "generated", "count"), 10**12),
        (("stages", "candidates", "seeds"), 10**6),
        (("stages", "first", "rank"), 10**9),
        (("stages", "first", "resolution"), 10**6),
        (("stages", "generated", "steps"), 10**6),
        (("stages", "first", "learning_rate"), float("inf")),
        (("stages", "first", "weight_decay"), float("nan")),
        (("stages", "first", "optimizer_args"), {"eps": float("nan")}),
        (("stages", "generated", "guidance"), float("inf")),
        (("recipe", "threads"), 0),
        (("recipe", "threads"), 10**6),
        (("recipe", "date"), "soon"),
        (
            ("stages",),
            {
                f"s{i}": {"do": "curate", "subsets": {"a": [{"toon": "reference"}]}}
                for i in range(2_000)
            },
        ),
    ],
)
def test_what_no_machine_can_do_is_refused_at_once(
    way: tuple[Any, ...], value: Any, lines: Lines
) -> None:
    lines.table = changed(tomllib.loads(RECIPES[0].read_text()), way, value)
    assert planned(RECIPES[0])


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("stages", "first", "rank"), True),
        (("stages", "first", "ranks"), [{"layers": "*", "rank": True}]),
        (("stages", "first", "data", 0, "repeats"), True),
        (("stages", "first", "timesteps"), {"mean": False}),
        (("stages", "first", "preview"), {"prompts": ["a"], "size": [64, True]}),
    ],
)
def test_true_or_false_is_no_number_at_any_depth(
    way: tuple[Any, ...], value: Any, lines: Lines
) -> None:
    lines.table = changed(tomllib.loads(RECIPES[0].read_text()), way, value)
    assert planned(RECIPES[0]).endswith("is true or false; write a number")


def test_true_is_no_number_in_a_model_sheet() -> None:
    sheet = changed(tomllib.loads(SHEET.read_text()), ("character", "severity"), {"smile": True})
    with pytest.raises(InputError, match=r"severity.* is true or false; write a number"):
        parse_character(sheet, "sheet.toml")


@pytest.mark.parametrize("field", ["trigger", "name", "count_tag"])
@pytest.mark.parametrize("word", ["", " ", "a\nb", "a\x1b[31m", "x" * 300, "a\u2028b"])
def test_words_of_a_prompt_are_one_line_each(field: str, word: str) -> None:
    with pytest.raises(InputError, match=f"character.{field}") as error:
        parse_character(
            changed(tomllib.loads(SHEET.read_text()), ("character", field), word), "sheet.toml"
        )
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "where", ["/dev/zero", "pipe", "folder", "no.toml", "/proc/self/mem", "latin.toml", "bad.toml"]
)
@pytest.mark.parametrize(
    "what", ["recipe", "character", "license_file", "dataset_config", "folder", "file", "dit"]
)
def test_a_path_that_is_no_file_is_a_line_and_does_not_wait(
    what: str, where: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    (tmp_path / "bad.toml").write_text("[[")
    text = RECIPES[0].read_text()
    recipe = tmp_path / "r.toml"
    added = {
        "license_file": text + f'license_file = "{where}"\n',
        "character": text.replace("toon:backgwa", where),
        "dataset_config": text + f'[stages.x]\ndo = "curate"\ndataset_config = "{where}"\n',
        "folder": text + f'[stages.x]\ndo = "curate"\nsubsets.a = [{{ folder = "{where}" }}]\n',
        "file": text + f'[stages.x]\ndo = "import"\nfile = "{where}"\n',
        "dit": text.replace(
            "[recipe]", f'[recipe]\nbase = {{ family = "anima", dit = "{where}" }}'
        ),
        "recipe": text,
    }
    recipe.write_text(added[what])
    path = tmp_path / where if what == "recipe" else recipe
    try:
        steps = make_plan(load_recipe(path))
        for step in steps:
            step.settings.keyed()
    except InputError as error:
        assert "\n" not in str(error)
    else:  # what is missing is told with the plan; what is there is looked at when it is read
        assert what in ("folder", "file", "license_file") and where in (
            "folder",
            "no.toml",
            "latin.toml",
            "bad.toml",
        )


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "sheet.toml").write_bytes(b"\xef\xbb\xbf" + SHEET.read_bytes())
    text = RECIPES[0].read_text().replace("toon:backgwa", "sheet.toml")
    (tmp_path / "r.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert planned(tmp_path / "r.toml") == ""
