"""Stages that make next to nothing: the engine is tested with every verb in milliseconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onmodel.engine import local
from onmodel.engine.project import Project
from onmodel.events import Events
from onmodel.ledger import versions
from onmodel.ledger.lineage import add
from onmodel.recipe import load_recipe
from onmodel.records import Artifact
from onmodel.stages import VERBS, stage_module
from onmodel.stages.base import Context, Inputs

SHEET = Path(__file__).parents[2] / "onmodel" / "toon" / "characters" / "backgwa.toml"
RECIPE = """
[recipe]
name = "little"
character = "sheet.toml"
date = "2026-11-22"
threads = 1
[defaults.train]
learning_rate = 1e-3
[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 4 }]
subsets.fine = [{ toon = "refinement", count = 2 }]
heldout_subsets = ["fine"]
[stages.first]
do = "train"
dataset = "data"
epochs = 4
keep_every = 2
[stages.drawn]
do = "sample"
model = "first"
count = 2
[stages.more]
do = "curate"
subsets.drawn = [{ stage = "drawn" }]
[stages.second]
do = "train"
dataset = "more"
start = "first@2"
epochs = 2
[stages.mixed]
do = "merge"
models = ["first", "second"]
[stages.measured]
do = "evaluate"
models = ["first@*", "second", "mixed"]
references = { stage = "data", subset = "fine" }
[stages.chosen]
do = "select"
candidates = "measured"
[stages.release]
do = "release"
model = "chosen"
evaluation = "measured"
title = "Little"
file_name = "little"
"""


class Workplace:
    """A recipe with its sheet and project. `ran` are the stages of the last run."""

    def __init__(self, folder: Path) -> None:
        self.recipe, self.sheet, self.ran = folder / "recipe.toml", folder / "sheet.toml", [""]
        self.recipe.write_text(RECIPE)
        self.sheet.write_text(SHEET.read_text())
        self.project = Project(folder / "project")

    def edit(self, file: Path, old: str, new: str) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def run(self) -> list[str]:
        self.ran.clear()
        with self.project.writing():
            recipe = load_recipe(self.recipe)
            local.run(recipe, self.project, Events())
        return self.ran


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """A project whose stages note that they ran, and keep a history alone."""
    place = Workplace(tmp_path)
    for verb in VERBS:
        module = stage_module(verb)
        monkeypatch.setattr(module, "run", _hollow(module, place))
    return place


def _hollow(module: Any, place: Workplace) -> Callable[..., Artifact]:
    def run(inputs: Inputs, settings: Any, context: Context) -> Artifact:
        place.ran.append(context.name)
        past = [inputs.lineage(name) for name in inputs.artifacts]
        facts = {"name": context.name, "settings": settings.told()}
        numbers = str(versions.AXES) if module.READS.axes else ""
        (context.out / "note.txt").write_text(context.name + numbers)
        return context.commit(
            settings.do, add([context.recipe(module.READS), *past], settings.do, **facts)
        )

    return run
