"""A recipe: its plan, and whether its stages fit into memory."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onmodel.doctor.findings import GIB, caught
from onmodel.events import Events, Finding, Status

if TYPE_CHECKING:
    from onmodel.recipe import Recipe
    from onmodel.stages.curate import Settings as Curate


def read_recipe(path: Path, events: Events) -> "tuple[Recipe, dict[str, Curate], list[Finding]]":
    """Read a recipe: the recipe, its curate stages that read files, and findings about its plan."""
    from onmodel.engine.plan import make_plan
    from onmodel.recipe import load_recipe
    from onmodel.stages.curate import Settings as Curate

    recipe = load_recipe(path)
    steps = make_plan(recipe)
    rows = [Finding("recipe", "ok", f"{recipe.name}: {len(steps)} stages")]
    if recipe.threads > (os.cpu_count() or 1):
        rows.append(
            Finding(
                "recipe",
                "warn",
                f"threads = {recipe.threads}, the machine has {os.cpu_count()} cores",
                "lower it",
            )
        )
    for step in steps:
        if not isinstance(step.settings, Curate):  # a data set's own notes come with its findings
            rows += [Finding(f"recipe {step.name}", "warn", note) for note in step.plan.notes]
    missing = {str(error): error for step in steps for error in step.plan.missing}
    rows += [
        Finding(f"recipe {row.field}", "fail", str(row.value), row.remedy)
        for row in missing.values()
    ]
    curates = {
        step.name: step.settings
        for step in steps
        if isinstance(step.settings, Curate) and not step.settings.needs() and not step.plan.missing
    }
    with caught(rows, "recipe"):
        rows += _fits(recipe, steps, events)
    return recipe, curates, rows


def _fits(recipe: "Recipe", steps: Sequence[Any], events: Events) -> Iterator[Finding]:
    """Does each stage fit into the memory that is free?"""
    from onmodel.engine.memory import forecast

    found = forecast(recipe, steps, events)
    if (machine := found.machine) is None:
        return
    for name, stage in found.memory.items():
        peak, remedy = stage.peak, found.remedy(stage)
        text = f"takes {peak.bytes / GIB:.1f} GiB (during: {peak.name})"
        if remedy is None:
            yield Finding(f"recipe {name}", "ok", text, stage=name, bytes=peak.bytes)
        else:
            text = f"{text}, {machine.room / GIB:.1f} are free"
            status: Status = "warn" if machine.device == "cpu" else "fail"
            yield Finding(f"recipe {name}", status, text, remedy, name, peak.bytes)
