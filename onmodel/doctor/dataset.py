"""A data set, put through the real curate stage into a temporary folder."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onmodel.curate.listing import layout_of
from onmodel.curate.other_tools.options import folder_name
from onmodel.errors import InputError
from onmodel.events import Events, Finding
from onmodel.paths import Names
from onmodel.toon.base import TOON_BASE

if TYPE_CHECKING:
    from onmodel.recipe import Recipe
    from onmodel.stages.curate import Settings as Curate


CaptionCheck = Callable[[Iterable[str]], Iterator[tuple[str, str]]]
SHOWN = 5  # files that are named one by one


def dataset_findings(
    name: str,
    settings: "Curate",
    recipe: "Recipe | None",
    caption_check: CaptionCheck | None,
) -> Iterator[Finding]:
    """What curate makes of a data set. Raises InputError when nothing is left of it."""
    from onmodel.dataset.captions import says_word
    from onmodel.dataset.manifest import read_items
    from onmodel.hashing import read_json

    about = f"data set {name}"
    with tempfile.TemporaryDirectory(prefix="onmodel-doctor-") as folder:
        _curate(settings, Path(folder))
        items = read_items(Path(folder) / "out")
        manifest = read_json(Path(folder) / "out" / "manifest.json")
    subsets = ", ".join(f"{subset} {row['count']}" for subset, row in manifest["subsets"].items())
    yield Finding(about, "ok", f"{len(items)} pictures: {subsets}")
    yield from (Finding(about, "warn", note) for note in settings.notes)
    refused = manifest["refused"]
    yield from (
        Finding(about, "warn", f"{row['file']}: {row['reason']}", "it is left out")
        for row in refused[:SHOWN]
    )
    if len(refused) > SHOWN:
        yield Finding(about, "warn", f"{len(refused) - SHOWN} more files are left out")
    if repeats := len(items) - len({item.group for item in items}):
        yield Finding(
            about,
            "warn",
            f"{repeats} pictures repeat another",
            "each repeat counts as one more exposure",
        )
    asked = {side for table in _trainings(recipe) for side in _sides(table)}
    own = {subset: row.get("shown", {}) for subset, row in manifest["subsets"].items()}
    sides = {
        subset: set(_sides(shown)) if "resolution" in shown else asked
        for subset, shown in own.items()
    }
    for side in sorted(set().union(*sides.values())):
        small = sum(
            side in sides[item.subset] and item.width * item.height < side * side for item in items
        )
        if small:
            yield Finding(
                about,
                "warn",
                f"{small} pictures are smaller than {side}×{side}",
                "lower resolution, or larger scans",
            )
    if recipe is not None:
        trigger = recipe.character.trigger
        without = sum(not says_word(f"{item.tags} {item.sentence}", trigger) for item in items)
        if without:
            yield Finding(
                about,
                "warn",
                f"{without} captions lack the trigger {trigger!r}",
                "put it into them",
            )
    captions = {text for item in items for text in (item.tags, item.sentence) if text}
    for text, remedy in caption_check(captions) if caption_check else ():
        yield Finding(about, "warn", text, remedy)


def _trainings(recipe: "Recipe | None") -> list[Mapping[str, object]]:
    """The recipe's train tables. Without a recipe: one empty table."""
    if recipe is None:
        return [{}]
    return [table for table in recipe.stages.values() if table["do"] == "train"]


def _sides(table: Mapping[str, object]) -> tuple[int, ...]:
    """The resolutions of a train table, or of how a subset is shown."""
    from onmodel.dataset.rules import DataConfig

    said = {name: value for name, value in table.items() if name == "resolution"}
    return DataConfig.model_validate(said).resolutions


def curate_table(path: Path) -> dict[str, object]:
    """What names a data set to curate: another trainer's file, its folders `10_name`, or a folder
    of pictures."""
    if path.is_file():
        return {"dataset_config": path}
    layout = layout_of(path, "dataset")
    if layout.numbered:
        return {"train_data_dir": layout.root}
    names = Names()
    folders = layout.folders or (path,)
    return {
        "subsets": {names.free(folder_name(folder)): [{"folder": folder}] for folder in folders}
    }


def _curate(settings: "Curate", folder: Path) -> None:
    """Run the stage into `folder/out`, where nothing of it is kept."""
    from onmodel.character import load_character
    from onmodel.records import Artifact
    from onmodel.stages import curate
    from onmodel.stages.base import Context, Inputs

    def family() -> Any:
        raise AssertionError("curate needs no base")

    sheet = TOON_BASE.parents[1] / "characters" / "backgwa.toml"  # curate does not look at it
    context = Context(
        name="doctor",
        seed=0,
        date="",
        character=load_character(sheet),
        family=family,
        base_name="",
        base_sha256="",
        threads=1,
        scratch=folder,
        pictures=folder / "pictures",
        events=Events(),
        commit=lambda kind, lineage: Artifact(kind, "", folder / "out"),
    )
    curate.run(Inputs({}), settings, context)


def curate_settings(path: Path) -> "Curate":
    """The curate stage of a data set that was named. Raises InputError."""
    from pydantic import ValidationError

    from onmodel.stages.curate import Settings

    table: dict[str, Any] = {"do": "curate", **curate_table(path)}
    try:
        return Settings(**table)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError("dataset", table.get("dataset_config", "dataset"), first["msg"]) from error
