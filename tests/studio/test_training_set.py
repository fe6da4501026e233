"""What is decided in the Data room is what a run trains on."""

from pathlib import Path

import pytest
from PIL import Image

from onmodel.curate.bulk import TagEdit, changes, edit_tags
from onmodel.curate.decisions import decide_by_hand
from onmodel.curate.gather import gather
from onmodel.curate.masks import keep_mask
from onmodel.curate.workshop import Decision, open_workshop
from onmodel.dataset.manifest import read_items
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.recipe import load_recipe
from onmodel.stages import curate
from onmodel.stages.base import Inputs
from onmodel.starter import StarterSettings, write_starter
from onmodel.studio.training_set import SETS, use_dataset
from onmodel.studio.workspace import CharacterFolder, open_workspace
from tests.support.contexts import context
from tests.support.toon_pictures import write_pictures


@pytest.fixture
def character(tmp_path: Path) -> CharacterFolder:
    """A character whose pictures were imported; the first has no caption, the second a mask."""
    made = open_workspace(tmp_path).new("momo")
    made.pictures.mkdir()
    write_pictures(made.pictures, 10)
    (made.pictures / "0.txt").unlink()
    (made.pictures / "masks").mkdir()
    Image.new("L", (64, 64), 255).save(made.pictures / "masks" / "1.png")
    write_starter(made.folder, StarterSettings(pictures=made.pictures, trigger="momochar"), None)
    gather([made.pictures], made.data, "unknown", "unknown", Events())
    return made


def _no_base() -> None:
    raise AssertionError("a data set needs no base")


def trained_on(character: CharacterFolder, folder: Path) -> dict[str, str]:
    """File → tags of what the recipe's curate stage makes."""
    assert character.recipe is not None
    table = load_recipe(character.recipe).stages["data"]
    settings = curate.Settings.model_validate(table)
    made = curate.run(Inputs({}), settings, context(folder, _no_base, "data"))
    return {item.file: item.tags for item in read_items(made.path)}


def test_edits_and_exclusions_reach_the_training(
    character: CharacterFolder, tmp_path: Path
) -> None:
    workshop = open_workshop(character.data)
    pieces = [piece for piece in workshop.kept if piece.tags]
    edit_tags(workshop, changes(pieces, TagEdit(add=("brand new",))))
    decide_by_hand(open_workshop(character.data), ["pictures/9"], False, None, None, "")
    assert use_dataset(character)
    found = trained_on(character, tmp_path / "stage")
    assert set(found) == {f"{i}.png" for i in range(9)}
    assert all("brand new" in tags for file, tags in found.items() if file != "0.png")
    assert "momochar" in found["0.png"]  # a picture without a caption keeps the recipe's


def test_masks_go_with_their_pictures(character: CharacterFolder, tmp_path: Path) -> None:
    assert use_dataset(character)
    (folder,) = (character.folder / SETS).iterdir()
    assert [path.name for path in (folder / "pictures" / "masks").iterdir()] == ["1.png"]


def test_a_run_trains_on_the_cropped_part_and_its_mask(
    character: CharacterFolder, tmp_path: Path
) -> None:
    assert character.recipe is not None
    workshop = open_workshop(character.data)
    box = (0, 8, 48, 64)
    for name in ("pictures/1", "pictures/2"):
        workshop = workshop.decide([Decision(0, "crop", "person", name, turn=90, box=box)])
    painted = Image.new("L", (48, 56), 90)
    piece = workshop.pieces["pictures/2"]
    workshop.decide([keep_mask(character.data, piece, painted, None, "person")])
    assert use_dataset(character)
    settings = curate.Settings.model_validate(load_recipe(character.recipe).stages["data"])
    made = curate.run(Inputs({}), settings, context(tmp_path / "stage", _no_base, "data"))
    items = {item.file: item for item in read_items(made.path) if item.mask}
    assert set(items) == {"1.png", "2.png"}  # a mask beside its picture, and a painted one
    for file, value in (("1.png", 255), ("2.png", 90)):
        assert (items[file].width, items[file].height) == (48, 56)
        with Image.open(made.path / items[file].mask) as mask:
            assert mask.size == (48, 56) and mask.convert("L").getextrema() == (value, value)


def test_the_same_state_is_written_once_and_leaves_the_recipe_alone(
    character: CharacterFolder,
) -> None:
    assert character.recipe is not None
    before = character.recipe.read_text()
    assert use_dataset(character)
    first = character.recipe.read_text()
    assert "sets/" in first and first.count("\n") == before.count("\n")  # comments stay
    use_dataset(character)
    assert character.recipe.read_text() == first
    workshop = open_workshop(character.data)
    workshop.decide([Decision(0, "aside", "person", "pictures/3")])
    use_dataset(character)
    assert character.recipe.read_text() != first
    open_workshop(character.data).undo()
    use_dataset(character)
    assert character.recipe.read_text() == first
    assert len(list((character.folder / SETS).iterdir())) == 2


def test_nothing_kept_is_one_line_and_changes_nothing(character: CharacterFolder) -> None:
    assert character.recipe is not None
    before = character.recipe.read_text()
    workshop = open_workshop(character.data)
    names = list(workshop.pieces)
    decide_by_hand(workshop, names, False, None, None, "")
    with pytest.raises(InputError, match="no picture is kept"):
        use_dataset(character)
    assert character.recipe.read_text() == before


def test_without_a_data_set_the_recipe_is_used_as_it_is(tmp_path: Path) -> None:
    made = open_workspace(tmp_path).new("momo")
    assert not use_dataset(made)
