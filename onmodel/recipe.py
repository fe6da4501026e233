"""A recipe: one TOML file that says a character's whole life, stage by stage, read from top to bottom.

    [recipe]              name, character (a character.toml), base ("toon" or a table), seed, date, threads
    [defaults.<verb>]     settings that every stage of a verb starts from
    [stages.<name>]       do = "<verb>", and that stage's own settings

A value that depends on the base is a table of base names: `learning_rate = { anima = 1e-5, toon = 2e-3 }`.
This file checks the frame; each stage checks its own settings (onmodel/stages).
"""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.character import Character, load_character
from onmodel.errors import InputError
from onmodel.evaluate.observers import FILES
from onmodel.evaluate.observers.source import SCHEME
from onmodel.stages import VERBS

BASE_NAMES = frozenset({"toon", "anima"})
PATHS = frozenset({
    "folder", "file", "dit", "text_encoder", "vae", "tokenizers", *FILES, "license_file", "masks", "dataset_config",
    "train_data_dir", "reg_data_dir",
})  # fmt: skip
HEAD = {"name", "character", "base", "seed", "date", "threads"}


@dataclass(frozen=True)
class Recipe:
    """A recipe whose frame is right. `stages`: name → table with `do`; defaults and the base's values are in."""

    name: str
    character: Character
    base: str | dict[str, Any]
    seed: int
    date: str
    threads: int
    stages: dict[str, dict[str, Any]]
    text: str

    @property
    def base_name(self) -> str:
        """ "toon", or the family's name."""
        return name_of_base(self.base)


def name_of_base(base: str | Mapping[str, Any]) -> str:
    """The key under which recipes keep values for this base."""
    return base if isinstance(base, str) else str(base.get("family", "anima"))


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Paths in it are relative to its own folder. Raises InputError naming field, value and remedy."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as error:
        raise InputError("recipe", path, "no such file; name a recipe such as recipes/demo.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError("recipe", path, f"not valid TOML: {error}") from error
    refuse_unknown("", table, {"recipe", "defaults", "stages"})
    head, stages = table.get("recipe", {}), table.get("stages", {})
    refuse_unknown("recipe.", head, HEAD)
    for key in ("name", "character", "date"):
        if not isinstance(head.get(key), str):
            raise InputError(f"recipe.{key}", head.get(key), "write a text here" + DATE_HINT * (key == "date"))
    if not stages:
        raise InputError("stages", "none", "a recipe needs at least one [stages.<name>] table with do = …")
    base = head.get("base", "toon")
    if isinstance(base, Mapping):
        base = _resolved(dict(base), path.parent)
    return Recipe(
        name=head["name"],
        character=load_character(_character_path(head["character"], path.parent)),
        base=base,
        seed=_whole("recipe.seed", head.get("seed", 0)),
        date=head["date"],
        threads=_whole("recipe.threads", head.get("threads", 2)),
        stages={
            name: _resolved(_stage(name, stage, table.get("defaults", {}), name_of_base(base)), path.parent)
            for name, stage in stages.items()
        },
        text=text,
    )


DATE_HINT = ', e.g. date = "2026-11-22": it stands in the released file, so that a rebuild gives the same bytes'


def refuse_unknown(prefix: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise InputError for the first key that is not known, with the nearest known name."""
    known = sorted(known)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            raise InputError(
                f"{prefix}{key}", table[key] if not isinstance(table[key], dict) else "{…}", f"unknown; {remedy}"
            )


def _stage(name: str, table: Any, defaults: Mapping[str, Any], base: str) -> dict[str, Any]:
    if not isinstance(table, dict) or table.get("do") not in VERBS:
        value = table.get("do") if isinstance(table, dict) else table
        near = difflib.get_close_matches(str(value), VERBS, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(VERBS)}"
        raise InputError(f"stages.{name}.do", value, remedy)
    refuse_unknown("defaults.", defaults, VERBS)
    merged = {**defaults.get(table["do"], {}), **table}
    return {key: _for_base(f"stages.{name}.{key}", value, base) for key, value in merged.items()}


def _for_base(field: str, value: Any, base: str) -> Any:
    """A table whose keys are base names stands for the value under this recipe's base."""
    if isinstance(value, dict) and value and set(value) <= BASE_NAMES:
        if base not in value:
            raise InputError(field, value, f"has no value for the base {base!r}; add one")
        return value[base]
    return value


def _resolved(value: Any, folder: Path, key: str = "") -> Any:
    """Paths made relative to the recipe's folder, at any depth."""
    if isinstance(value, dict):
        return {name: _resolved(inner, folder, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, folder, key) for inner in value]
    is_path = key in PATHS and isinstance(value, str) and not value.startswith(SCHEME)
    return str(folder / value) if is_path else value


def _character_path(value: str, folder: Path) -> Path:
    """`toon:backgwa` is the shipped stand-in; anything else is a path beside the recipe."""
    if value.startswith("toon:"):
        return Path(__file__).parent / "toon" / "characters" / f"{value.removeprefix('toon:')}.toml"
    return folder / value


def _whole(field: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(field, value, "write a whole number, 0 or more")
    return value
