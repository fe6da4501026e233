"""The public functions of onmodel. `from onmodel import run_recipe` finds them here.

They print nothing. A user's mistake is an InputError.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from onmodel.starter import EvaluateSettings, write_comparison

if TYPE_CHECKING:
    from onmodel.evaluate.evaluation import Evaluation
    from onmodel.lora.tensors import Lora
    from onmodel.records import Artifact


def run_recipe(
    recipe: Path | str, project: Path | str | None = None, until: str | None = None
) -> "dict[str, Artifact]":
    """Run the stages of a recipe that the project lacks, all of them or up to the stage `until`.
    Returns stage → artifact; `artifact.path` is a folder.

    The project is a folder, by default one named after the recipe. After an interruption the same
    call continues. Raises InputError for a wrong recipe before anything is trained.
    """
    from onmodel.engine import local
    from onmodel.engine.project import Project
    from onmodel.events import Events
    from onmodel.recipe import load_recipe

    path = Path(recipe)
    loaded = load_recipe(path)
    place = Project(Path(project) if project else Path(path.stem))
    with place.writing():
        return local.run(loaded, place, Events(), until).artifacts


def read_lora(path: Path | str) -> "Lora":
    """Read a LoRA file of any layout, or a PEFT folder: factors by the base's layer names, and the
    header. Raises InputError for a file that is not a LoRA of a known base."""
    from onmodel.lora import tensors
    from onmodel.lora.specs import spec_of_loras

    return tensors.read_lora(Path(path), spec_of_loras([Path(path)]))


def convert_lora(
    source: Path | str,
    out: Path | str,
    layout: Literal["common", "kohya", "diffusers"] = "common",
) -> "Lora":
    """Write a LoRA in another key layout, with the change of every layer and the header kept.
    Raises InputError when `out` exists."""
    from onmodel.lora.convert import convert

    convert(Path(source), Path(out), layout)
    return read_lora(out)


def evaluate_files(
    files: Sequence[Path | str],
    sheet: Path | str,
    out: Path | str,
    base: Sequence[str] | None = None,
    settings: EvaluateSettings | None = None,
) -> "Evaluation":
    """Measure LoRA files side by side and return the evaluation.

    `sheet` is a model sheet, or "toon:backgwa". `base` is given as on the command line: a list of
    one name, folder or hub id, or of field=path rows. Default: the toon base. Pictures and results
    stay in `out`.
    """
    recipe = write_comparison(
        list(map(Path, files)), Path(sheet), base, settings or EvaluateSettings(), Path(out)
    )
    artifacts = run_recipe(recipe, out)
    return read_evaluation(artifacts["compared"].path)


def read_evaluation(path: Path | str) -> "Evaluation":
    """Read the file `evaluation.json`, or the one in a folder. Raises InputError or StateError for
    a file that is not an evaluation."""
    from onmodel.evaluate import evaluation

    place = Path(path)
    return evaluation.read_evaluation(place / evaluation.FILE if place.is_dir() else place)
