"""Checks before anything expensive: the installation, a base, LoRA files and data sets.

A base's weights are not read. A data set is put through the real curate stage, into a folder that
is deleted afterwards.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onmodel.doctor.environment import installation
from onmodel.doctor.files import base_findings, lora_findings
from onmodel.doctor.findings import caught
from onmodel.doctor.recipe import read_recipe
from onmodel.errors import InputError
from onmodel.events import Events, Finding

if TYPE_CHECKING:
    from onmodel.recipe import Recipe
    from onmodel.stages.curate import Settings as Curate


def examine(
    recipe_path: Path | None,
    base: Sequence[str],
    loras: Sequence[Path],
    datasets: Sequence[Path],
    events: Events,
) -> list[Finding]:
    """All findings, the installation's first. `base` is as on the command line: a name, or
    `field=path` rows."""
    from onmodel.families.registry import caption_check, parse_base, parse_base_rows

    found = [*installation()]
    recipe: Recipe | None = None
    curates: dict[str, Curate] = {}
    with caught(found, "recipe"):
        if recipe_path is not None:
            recipe, curates, rows = read_recipe(recipe_path, events)
            found += rows
    settings = None
    with caught(found, "base"):
        if base:
            settings = parse_base_rows(base)
        elif recipe is not None:
            settings = parse_base(recipe.base)
    outline = None
    if settings is not None:
        rows, outline = base_findings(settings)
        found += rows
    for path in loras:
        with caught(found, "lora"):
            found += lora_findings(path, outline)
    for path in datasets:
        with caught(found, "data set"):
            from onmodel.doctor.dataset import curate_settings

            if not path.exists():
                raise InputError("dataset", path, "no such file or folder")
            curates[str(path)] = curate_settings(path)
    check = caption_check(settings) if settings is not None else None
    if curates:
        from onmodel.doctor.dataset import dataset_findings

        with events.task("look at data sets", total=len(curates)) as task:
            for name, curate in curates.items():
                with caught(found, f"data set {name}"):
                    found += dataset_findings(name, curate, recipe, check)
                task.advance()
    return found
