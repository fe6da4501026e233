"""Stages that the pages add to a recipe: a merge with the measurement of it beside its parents, and
a model picked by hand."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit

from onmodel.engine.draft import parsed, read_draft
from onmodel.engine.plan import make_plan
from onmodel.errors import InputError
from onmodel.lora.methods import METHODS

MEASURED = "_measured"  # ends the name of the evaluate stage
OWN = ("do", "models", "more_of", "against", "triggers")  # what an evaluate stage does not hand on


@dataclass(frozen=True)
class AddedMerge:
    """`models` are names as recipes have them, with their weights; `imports` are the stages, by
    name, that read a LoRA file of someone else first."""

    name: str
    models: Mapping[str, float]
    imports: Mapping[str, str]
    method: str = ""
    rank: int | None = None


def with_merge(text: str, added: AddedMerge, path: Path) -> str:
    """The text with stages that import, merge, and measure the merge and its parents with the
    settings of the last evaluate stage. Its paths are those of a file at `path`. Raises InputError
    where a name is taken and where the recipe would be wrong."""
    table = parsed(text)
    stages = table.get("stages", {})
    last = [row for row in stages.values() if row.get("do") == "evaluate"][-1:]
    for name, file in added.imports.items():
        _add(stages, name, {"do": "import", "file": file})
    _add(stages, added.name, _merge(added))
    measured: dict[str, Any] = {"do": "evaluate", "models": [*added.models, added.name]}
    for row in last:
        measured |= {key: value for key, value in row.items() if key not in OWN}
    measured["against"] = list(added.models)
    _add(stages, added.name + MEASURED, measured)
    new = tomlkit.dumps(table)
    make_plan(read_draft(new, path))
    return new


@dataclass(frozen=True)
class AddedPick:
    """A model of an evaluate stage, picked by hand, and why."""

    name: str
    candidates: str
    model: str
    reason: str


def with_pick(text: str, added: AddedPick, path: Path) -> str:
    """The text with a select stage that keeps the one model. Raises InputError without a reason,
    where the name is taken, and where the recipe would be wrong."""
    if not added.reason:
        raise InputError("reason", "none", "say in a few words why you pick this model")
    table = parsed(text)
    stages = table.get("stages", {})
    if added.candidates not in stages:
        remedy = "is not in the recipe any more, so its models cannot be picked from here"
        raise InputError("evaluation", added.candidates, remedy)
    rows = {"do": "select", "candidates": added.candidates, "among": [added.model]}
    _add(stages, added.name, {**rows, "count": 1, "reason": added.reason})
    new = tomlkit.dumps(table)
    make_plan(read_draft(new, path))
    return new


def _merge(added: AddedMerge) -> dict[str, Any]:
    rows: dict[str, Any] = {"do": "merge", "models": list(added.models)}
    if added.method:
        rows["method"] = added.method
    if "weights" in METHODS[added.method or "weighted"].takes:
        rows["weights"] = list(added.models.values())
    return rows if added.rank is None else rows | {"rank": added.rank}


def _add(stages: Any, name: str, rows: Mapping[str, Any]) -> None:
    """Add a stage; the same one may be there already."""
    if name in stages:
        if stages[name].unwrap() == rows:
            return
        raise InputError("name", name, "is a stage of the recipe already; choose another")
    made = tomlkit.table()
    for key, value in rows.items():
        made[key] = value
    stages[name] = made
