"""A recipe while it is being edited: is it right, and what of it would run?"""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomlkit
from tomlkit.exceptions import TOMLKitError

from onmodel.engine.local import cells
from onmodel.engine.plan import make_plan
from onmodel.engine.project import Project
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import TEMPORARY_PREFIX, write_atomic
from onmodel.recipe import Recipe, load_recipe


@dataclass(frozen=True)
class DraftStage:
    """A stage of a draft: `done` when the project holds what it would make; `notes` of its plan."""

    name: str
    verb: str
    done: bool
    steps: int | None
    pictures: int | None
    seconds: float | None
    notes: Sequence[str]


def read_draft(text: str, path: Path) -> Recipe:
    """The recipe of a text that is not saved yet; its paths are those of a file at `path`. Raises
    InputError where it is wrong."""
    handle, name = tempfile.mkstemp(
        prefix=TEMPORARY_PREFIX, suffix=".toml", dir=path.parent, text=True
    )
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return load_recipe(Path(name))
    finally:
        os.unlink(name)


def stages_of(recipe: Recipe, project: Project | None) -> list[DraftStage]:
    """The stages in order, and which of them a run would skip; without a project none."""
    done = set()
    if project is not None:
        for cell in cells(recipe, project, Events()):
            if project.finished(cell.key) is not None:
                done.add(cell.step.name)
    return [
        DraftStage(
            step.name,
            step.verb,
            step.name in done,
            step.plan.steps,
            step.plan.pictures,
            step.seconds,
            step.plan.notes,
        )
        for step in make_plan(recipe)
    ]


def with_setting(text: str, stage: str, name: str, value: str) -> str:
    """The text with one setting of a stage changed; `value` is TOML, "" takes the setting out.
    Comments and order stay. Raises InputError for a stage that is not there, and for a value that
    is no TOML."""
    table = parsed(text)
    stages = table.get("stages")
    if not isinstance(stages, dict) or not isinstance(stages.get(stage), dict):
        raise InputError("stages", stage, "is not in the recipe")
    if not value.strip():
        stages[stage].pop(name, None)
    else:
        try:
            stages[stage][name] = tomlkit.value(value.strip())
        except (TOMLKitError, ValueError) as error:
            remedy = f"is no TOML value ({error}); put text in quotes"
            raise InputError(f"stages.{stage}.{name}", value, remedy) from error
    return tomlkit.dumps(table)


def with_folders(text: str, moved: Callable[[str], str | None]) -> str:
    """The text with the `folder` of every source of a curate stage as `moved` gives it; None leaves
    one as it is. Raises InputError for a text that is no TOML."""
    table = parsed(text)
    for stage in table.get("stages", {}).values():
        for sources in stage.get("subsets", {}).values() if stage.get("do") == "curate" else ():
            for source in sources:
                new = moved(str(source["folder"])) if "folder" in source else None
                if new is not None:
                    source["folder"] = new
    return tomlkit.dumps(table)


def with_repeats(text: str, stage: str, repeats: Mapping[str, int]) -> str:
    """The text with the repeats of subsets of a train stage changed; `repeats` has every subset
    that the stage trains on. Comments and order stay. Raises InputError for a stage that is not
    there, and for one whose subsets the text does not name one by one."""
    table = parsed(text)
    rows = table.get("stages", {}).get(stage)
    if not isinstance(rows, dict):
        raise InputError("stages", stage, "is not in the recipe")
    if "data" in table.get("defaults", {}).get("train", {}) and "data" not in rows:
        raise InputError(f"stages.{stage}.data", "missing", "move it here from [defaults.train]")
    if "data" not in rows:
        rows["data"] = [{"subset": name, "repeats": number} for name, number in repeats.items()]
    for row in rows["data"]:
        number = repeats.get(str(row.get("subset"))) if "stage" not in row else None
        if number and number != row.get("repeats", 1):
            row["repeats"] = number
    return tomlkit.dumps(table)


def parsed(text: str) -> Any:
    """The text as tables that keep comments and order. Raises InputError for a text that is no
    TOML."""
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise InputError("recipe", "the text", f"is no TOML ({error})") from error


def settings_text(
    text: str, table: Literal["stages", "defaults"] = "stages"
) -> dict[str, dict[str, str]]:
    """Stage, or verb for the table "defaults" → its settings as TOML values, as the text gives
    them."""
    try:
        tables = tomlkit.parse(text).get(table)
    except TOMLKitError:
        return {}
    if not isinstance(tables, dict):
        return {}
    return {
        name: {key: tomlkit.item(value).as_string() for key, value in rows.items() if key != "do"}
        for name, rows in tables.items()
        if isinstance(rows, dict)
    }


def save_recipe(text: str, path: Path) -> None:
    """Write a text that is a right recipe. Raises InputError where it is wrong; nothing is written
    then."""
    read_draft(text, path)
    write_atomic(path, text.encode())
