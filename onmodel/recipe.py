"""A recipe: one TOML file that says a character's whole life, stage by stage, read from top to
bottom.

    [recipe]              name, character (a character.toml), base ("toon" or a table), seed, date,
                          threads (default: the cores that this process may use)
    [defaults.<verb>]     settings that every stage of a verb starts from
    [stages.<name>]       do = "<verb>", and that stage's own settings
    [experiments.<name>]  variants of a training, for `onmodel experiment`

Sums of floats depend on the number of threads. A recipe that names none gives other bytes on a
machine with another number of cores; name it where others shall get the same.

A value that depends on the base is a table of base names, which are `toon` and the families':
`learning_rate = { toon = 2e-3, <family> = 1e-5 }`. This file checks the frame; each stage checks
its own settings (onmodel/stages).
"""

import difflib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from onmodel.character import Character, load_character
from onmodel.errors import InputError
from onmodel.evaluate.observers.source import SCHEME
from onmodel.experiment import CHANGED_VERBS, INFLUENCE, ExperimentSettings, VariantChange
from onmodel.families.registry import BASE_NAMES, DEFAULT_FAMILY, base_settings, parse_base
from onmodel.paths import check_distinct, check_name, inside
from onmodel.processes import usable_cores
from onmodel.reading import LARGEST_WHOLE, check_values, read_text, read_toml
from onmodel.stages import VERBS, stage_module

HEAD = {"name", "character", "base", "seed", "date", "threads"}
MOST_STAGES = 1_000
MOST_THREADS = 1_024


@dataclass(frozen=True)
class Recipe:
    """A recipe whose frame is right. `stages`: name → table with `do`; defaults and the base's
    values are in. `experiments`: name → its settings, every variant in `list`.

    Raises InputError where it is not, wherever it comes from: a file, or the history of a release
    of others. Names of stages become names of files; "@" parts a stage from an epoch in references.
    """

    name: str
    character: Character
    base: str | dict[str, Any]
    seed: int
    date: str
    threads: int
    stages: dict[str, dict[str, Any]]
    text: str
    experiments: dict[str, ExperimentSettings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(_text("recipe.name", self.name), "recipe.name")
        _check_date(self.date)
        _whole("recipe.seed", self.seed, 0, LARGEST_WHOLE)
        _whole("recipe.threads", self.threads, 1, MOST_THREADS)
        check_values("recipe.base", self.base)
        parse_base(self.base)
        if not 1 <= len(self.stages) <= MOST_STAGES:
            remedy = f"a recipe has 1 to {MOST_STAGES} [stages.<name>] tables with do = …"
            raise InputError("stages", len(self.stages) or "none", remedy)
        for name, table in self.stages.items():
            check_name(name, "stages")
            if "@" in name:
                raise InputError("stages", name, 'leave out "@"; in references an epoch follows it')
            check_values(f"stages.{name}", table)
        check_distinct(self.stages, "stages")

    @property
    def base_name(self) -> str:
        """That of a base that ships with the package, or the family's name."""
        return name_of_base(self.base)


def name_of_base(base: str | Mapping[str, Any]) -> str:
    """The key under which recipes keep values for this base."""
    return base if isinstance(base, str) else str(base.get("family", DEFAULT_FAMILY))


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Paths in it are relative to its own folder. Raises InputError naming field,
    value and remedy."""
    table = read_toml(path, "recipe")
    refuse_unknown("", table, {"recipe", "defaults", "stages", "experiments"})
    head, defaults, stages, experiments = (
        _table(name, table.get(name, {}))
        for name in ("recipe", "defaults", "stages", "experiments")
    )
    refuse_unknown("recipe.", head, HEAD)
    refuse_unknown("defaults.", defaults, VERBS)
    for verb, values in defaults.items():
        _table(f"defaults.{verb}", values)
    base = head.get("base", "toon")
    if isinstance(base, dict):
        base = _resolved(base_settings(base), base, path.parent)
    parse_base(base)
    return Recipe(
        name=_text("recipe.name", head.get("name")),
        character=load_character(
            _character_path(_text("recipe.character", head.get("character")), path.parent)
        ),
        base=base,
        seed=head.get("seed", 0),
        date=_text("recipe.date", head.get("date"), DATE_HINT),
        threads=head.get("threads", usable_cores()),
        stages={
            name: _stage(name, stage, defaults, name_of_base(base), path.parent)
            for name, stage in stages.items()
        },
        text=read_text(path, "recipe"),
        experiments={
            name: _experiment(name, found, name_of_base(base), path.parent)
            for name, found in experiments.items()
        },
    )


DATE_HINT = (
    ', e.g. date = "2026-11-22": it stands in the released file, so that a rebuild gives the same'
    " bytes"
)


def refuse_unknown(prefix: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise InputError for the first key that is not known, with the nearest known name."""
    known = sorted(known)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
            raise InputError(
                f"{prefix}{key}",
                table[key] if not isinstance(table[key], dict) else "{…}",
                f"unknown; {remedy}",
            )


def _stage(
    name: str, table: Any, defaults: Mapping[str, Any], base: str, folder: Path
) -> dict[str, Any]:
    verb = _table(f"stages.{name}", table).get("do")
    if not isinstance(verb, str) or verb not in VERBS:
        near = difflib.get_close_matches(str(verb), VERBS, n=1)
        remedy = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(VERBS)}"
        raise InputError(f"stages.{name}.do", verb, remedy)
    merged = {**defaults.get(verb, {}), **table}
    found = {key: _for_base(f"stages.{name}.{key}", value, base) for key, value in merged.items()}
    resolved: dict[str, Any] = _resolved(stage_module(verb).Settings, found, folder)
    return resolved


def _experiment(name: str, table: Any, base: str, folder: Path) -> ExperimentSettings:
    """The settings of an experiment, its grid as variants of the list."""
    field = f"experiments.{name}"
    check_name(name, "experiments")
    if name == INFLUENCE:
        raise InputError("experiments", name, "is what `onmodel influence` makes; rename it")
    refuse_unknown(f"{field}.", _table(field, table), ExperimentSettings.model_fields)
    check_values(field, table)
    try:
        settings = ExperimentSettings.model_validate(table)
    except ValidationError as error:
        raise InputError.of(error, field) from error
    variants = {}
    for variant, change in settings.variants(field).items():
        variants[variant] = _for_this_base(f"{field}.{variant}", change, base, folder)
    return settings.model_copy(update={"grid": {}, "list": variants})


def _for_this_base(field: str, change: VariantChange, base: str, folder: Path) -> VariantChange:
    """The change with its paths and the values of this base."""
    tables: dict[str, Any] = {}
    for verb in CHANGED_VERBS:
        found = {
            key: _for_base(f"{field}.{verb}.{key}", value, base)
            for key, value in getattr(change, verb).items()
        }
        tables[verb] = _resolved(stage_module(verb).Settings, found, folder)
    return change.model_copy(update=tables)


def _for_base(field: str, value: Any, base: str) -> Any:
    """A table whose keys are base names stands for the value under this recipe's base."""
    if isinstance(value, dict) and value and set(value) <= BASE_NAMES:
        if base not in value:
            raise InputError(field, value, f"has no value for the base {base!r}; add one")
        return value[base]
    return value


def _resolved(kind: Any, value: Any, folder: Path, key: str = "") -> Any:
    """A value for a setting of type `kind`, with its paths made relative to the recipe's folder.

    What does not fit the type is left as it is; the settings refuse it.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _resolved(args[0], value, folder, key)
    if origin in (Union, UnionType):
        for arm in args:
            value = _resolved(arm, value, folder, key)
        return value
    if origin in (list, tuple):  # one value may stand for a list of one
        if isinstance(value, list):
            return [_resolved(args[0], inner, folder, key) for inner in value]
        return _resolved(args[0], value, folder, key)
    if isinstance(value, dict) and origin is dict:
        return {name: _resolved(args[1], inner, folder, name) for name, inner in value.items()}
    if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields
        return {
            name: _resolved(fields[name].annotation, inner, folder, name)
            if name in fields
            else inner
            for name, inner in value.items()
        }
    if kind is Path and isinstance(value, str) and not value.startswith(SCHEME):
        return str(_path(key, value, folder))
    return value


def _path(field: str, value: str, folder: Path) -> Path:
    """A path beside the recipe. What is not there is the plan's to say, which is made without it.

    Raises InputError for what is there and is neither a file nor a folder, or cannot be looked at.
    """
    path = folder / os.path.expanduser(value)
    try:
        mode = path.stat().st_mode if value.strip() else 0
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            field, path, f"cannot be read ({reason}); check the path and its permissions"
        ) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(
            field, value or "empty", "is neither a file nor a folder; correct the path"
        )
    return path


def _character_path(value: str, folder: Path) -> Path:
    """`toon:backgwa` is the shipped stand-in; anything else is a path beside the recipe."""
    if value.startswith("toon:"):
        shipped = Path(__file__).parent / "toon" / "characters"
        return inside(shipped, f"{value.removeprefix('toon:')}.toml", "recipe.character")
    return folder / value


def _table(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(field, value, f"write a table, e.g. [{field}]")
    return value


def _text(field: str, value: Any, hint: str = "") -> str:
    if not isinstance(value, str):
        raise InputError(field, value, "write a text here" + hint)
    return value


def _check_date(value: Any) -> None:
    try:
        datetime.fromisoformat(_text("recipe.date", value, DATE_HINT))
    except ValueError as error:
        raise InputError("recipe.date", value, "write a date" + DATE_HINT) from error


def _whole(field: str, value: Any, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(field, value, f"write a whole number from {least} to {most}")
