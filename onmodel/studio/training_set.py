"""What a run trains on: the kept pictures of the Data room with their captions of now.

WORKSPACE/NAME/sets/HASH/SUBSET/   written by export() when a run starts; HASH names the content

The same state gives the same folder, so an unchanged data set is written once and makes no stage
run again. The recipe's sources that lie in `pictures/` or in an older set are pointed to it.
"""

import os
import shutil
from pathlib import Path

from onmodel.curate.export import export
from onmodel.curate.masks import mask_file, masks_beside
from onmodel.curate.workshop import PICTURES, Piece, Workshop, open_workshop
from onmodel.engine.draft import save_recipe, with_folders
from onmodel.engine.plan import make_plan
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.hashing import hash_json, sha256_file
from onmodel.recipe import load_recipe
from onmodel.studio.workspace import CharacterFolder

SETS = "sets"


def use_dataset(character: CharacterFolder) -> bool:
    """Write the character's data set as a training set and point the recipe to it; False where
    there is no data set or no recipe. Raises InputError for a wrong recipe and when a source of it
    has no picture left, and what export() raises; the recipe is unchanged then."""
    recipe = character.recipe
    if recipe is None or not (character.data / PICTURES).is_file():
        return False
    make_plan(load_recipe(recipe))
    workshop = open_workshop(character.data)
    target = character.folder / SETS / content_hash(workshop)
    if not target.is_dir():
        _write(workshop, target)
    old = recipe.read_text(encoding="utf-8")
    new = with_folders(old, lambda folder: _moved(character, folder, target))
    if new != old:
        save_recipe(new, recipe)
    return True


def content_hash(workshop: Workshop) -> str:
    """A hash of everything that a training set of the kept pictures holds."""
    beside = masks_beside(workshop.kept)
    rows = [_content(piece, mask_file(workshop.folder, piece, beside)) for piece in workshop.kept]
    return hash_json(rows)[:16]


def _content(piece: Piece, mask: Path | None) -> list[object]:
    tags = [[said.tag, said.by] for said in piece.tags]
    said = [piece.sentence, piece.told, piece.origin, piece.rights, piece.paper, piece.decided]
    masked = sha256_file(mask) if mask else ""
    return [*(piece.name, piece.path.suffix, piece.content, tags, said), masked]


def _write(workshop: Workshop, target: Path) -> None:
    """Write the set, whole or not at all."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed studio left
    export(workshop, part, kohya=False, events=Events())
    os.replace(part, target)


def subset_in(character: CharacterFolder, folder: str) -> str | None:
    """The subset of the data set that a source's folder stands for: one in `pictures/` or of an
    older set; None for any other folder."""
    place = Path(os.path.normpath(character.folder / folder))
    if place.is_relative_to(character.pictures):
        return place.name
    parts = _inside(place, character.folder / SETS)
    return parts[1] if len(parts) == 2 else None


def _moved(character: CharacterFolder, folder: str, target: Path) -> str | None:
    """The set's folder of a source; None for a source that is no subset of the data set."""
    subset = subset_in(character, folder)
    if subset is None:
        return None
    if not (target / subset).is_dir():
        remedy = (
            "has no kept picture left; keep some on the page Data, or take it out of the recipe"
        )
        raise InputError("folder", subset, remedy)
    return (target / subset).relative_to(character.folder).as_posix()


def _inside(place: Path, folder: Path) -> tuple[str, ...]:
    return place.relative_to(folder).parts if place.is_relative_to(folder) else ()
