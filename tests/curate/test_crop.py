"""Turns, crops and masks are decisions: files stay as they are, and an export applies them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onmodel.curate.crop import checked_crop, crop, turned_further, uncrop
from onmodel.curate.export import export
from onmodel.curate.gather import gather
from onmodel.curate.ingest import scan_folder
from onmodel.curate.masks import NONE, keep_mask, make_masks, mask_file, masks_beside, shown_mask
from onmodel.curate.workshop import Decision, Workshop, open_workshop
from onmodel.dataset.pixels import open_picture
from onmodel.errors import InputError
from onmodel.evaluate.observers import load_observers
from onmodel.events import Events
from tests.support.toon_pictures import write_pictures

SIZE = (60, 40)
BOX = (4, 10, 36, 50)


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    shape = (size[1], size[0], 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Three pictures: one that EXIF turns upright, one with a mask beside it, one transparent."""
    folder = tmp_path / "base"
    (folder / "masks").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # is shown turned by 90 degrees clockwise
    noise((40, 60)).save(folder / "turned.jpg", exif=exif, quality=95)
    noise(SIZE, 1).save(folder / "masked.png")
    Image.new("L", SIZE, 0).save(folder / "masks" / "masked.png")
    clear = noise(SIZE, 2).convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 30, 40))
    clear.save(folder / "clear.png")
    gather([folder], tmp_path / "work", "unknown", "unknown", Events())
    return open_workshop(tmp_path / "work")


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("box", [(), (4, 10, 20, 30)])
def test_a_part_is_put_back_where_it_was(turn: int, box: tuple[int, ...]) -> None:
    whole = noise(SIZE)
    part = crop(whole, turn, box)
    assert uncrop(part, SIZE, turn, box, whole).tobytes() == whole.tobytes()


def test_four_turns_show_the_same_part() -> None:
    turn, box = 90, BOX
    shown = crop(noise(SIZE), turn, box)
    for _ in range(4):
        turn, box = turned_further(*SIZE, turn, box, 90)
        shown = crop(shown, 90, ())
        assert crop(noise(SIZE), turn, box).tobytes() == shown.tobytes()
    assert (turn, box) == (90, BOX)


@pytest.mark.parametrize("box", [(0, 0, 61, 40), (5, 5, 5, 30), (0, 0, 60, 9), (1, 2, 3)])
def test_a_box_that_no_training_takes_is_refused(box: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="box"):
        checked_crop(*SIZE, 0, box)
    assert checked_crop(*SIZE, 90, (0, 0, 40, 60)) == ()  # the whole of it


def test_an_export_crops_and_the_original_stays(workshop: Workshop, tmp_path: Path) -> None:
    name = "base/turned"
    before = workshop.pieces[name].path.read_bytes()
    upright = open_picture(workshop.pieces[name].path)
    assert upright.size == SIZE
    after = workshop.decide([Decision(0, "crop", "person", name, turn=90, box=BOX)])
    assert after.pieces[name].size == (32, 40)
    export(after, tmp_path / "out", False, Events())
    written = open_picture(tmp_path / "out" / "base" / "turned.png")
    assert written.tobytes() == crop(upright, 90, BOX).tobytes()
    assert after.pieces[name].path.read_bytes() == before
    undone, _ = after.undo()
    assert undone.pieces[name] == workshop.pieces[name]


def test_masks_are_cropped_with_their_pictures(workshop: Workshop, tmp_path: Path) -> None:
    name = "base/masked"
    painted = Image.new("L", (32, 40), 200)
    cropped = workshop.decide([Decision(0, "crop", "person", name, turn=90, box=BOX)])
    piece = cropped.pieces[name]
    beside = mask_file(workshop.folder, piece, masks_beside([piece]))
    painting = keep_mask(workshop.folder, piece, painted, beside, "person")
    masked = cropped.decide([painting])
    export(masked, tmp_path / "out", False, Events())
    (found,) = [row for row in scan_folder(tmp_path / "out" / "base", "").pictures if row.mask]
    assert found.mask is not None and found.name == "masked.png"
    with Image.open(found.mask) as mask:
        assert mask.size == (32, 40) and mask.getextrema() == (200, 200)
    whole = masked.decide([Decision(0, "crop", "person", name)]).pieces[name]
    path = mask_file(workshop.folder, whole, {})
    assert path is not None
    assert np.asarray(shown_mask(path, whole)).mean() == pytest.approx(200 * 32 * 40 / 2400)
    none = masked.decide([Decision(0, "mask", "person", name, mask=NONE)]).pieces[name]
    assert mask_file(workshop.folder, none, masks_beside([none])) is None


def test_alpha_becomes_a_mask_where_there_is_any(workshop: Workshop) -> None:
    names = list(workshop.pieces)
    assert make_masks(workshop.folder, names, "alpha", None, Events()) == 1
    piece = open_workshop(workshop.folder).pieces["base/clear"]
    path = mask_file(workshop.folder, piece, {})
    assert path is not None
    mask = shown_mask(path, piece)
    assert (mask.getpixel((10, 10)), mask.getpixel((50, 10))) == (0, 255)


def test_a_detector_makes_a_mask_of_its_box(tmp_path: Path) -> None:
    folder, work = tmp_path / "toons", tmp_path / "work"
    folder.mkdir()
    write_pictures(folder, 2)
    gather([folder], work, "unknown", "unknown", Events())
    names = list(open_workshop(work).pieces)
    detectors = load_observers("toon", {}, 1).detectors
    assert make_masks(work, names, "head", detectors, Events()) == 2
    for piece in open_workshop(work).pieces.values():
        path = mask_file(work, piece, {})
        assert path is not None
        assert 0.02 < np.asarray(shown_mask(path, piece)).mean() / 255 < 0.9
    assert make_masks(work, names, "head", detectors, Events()) == 0  # each has one already
