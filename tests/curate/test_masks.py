"""Masks under which nothing is learnt are refused before a run, and what a mask with an alpha
channel means."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onmodel.curate.collect import Collected
from onmodel.curate.ingest import Reading, scan_folder
from onmodel.dataset.buckets import load_weights
from onmodel.dataset.decoding import decode
from onmodel.errors import InputError

SIZE = (32, 32)


def folder_of(path: Path, count: int, mode: str = "RGB") -> Path:
    path.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).convert(mode)
        if mode == "RGBA":
            image.putalpha(0)
        image.save(path / f"{i}.png")
        (path / f"{i}.txt").write_text("1girl")
    return path


def lines_of(folder: Path, out: Path, **reading: Any) -> list[str]:
    found = Collected(out, [])
    for picture in scan_folder(folder, "x", Reading(**reading)).pictures:
        found.take(picture, "set", decode)
    return found.check_masks("subsets")


def masks_of(path: Path, *masks: Image.Image) -> Path:
    path.mkdir()
    for i, mask in enumerate(masks):
        mask.save(path / f"{i}.png")
    return path


BLACK, WHITE = Image.new("L", SIZE, 0), Image.new("L", SIZE, 255)
HALF = Image.new("L", SIZE, 0)
HALF.paste(255, (0, 0, 16, 32))
SHAPE = Image.new("RGBA", SIZE, (255, 255, 255, 0))
SHAPE.paste((255, 255, 255, 255), (0, 0, 16, 32))
INK = Image.new("RGBA", SIZE, (0, 0, 0, 0))
INK.paste((0, 0, 0, 255), (0, 0, 16, 32))


ONES = HALF.point(lambda value: value // 255)


@pytest.mark.parametrize("mask", [BLACK, INK, ONES])
def test_masks_that_are_black_everywhere_are_refused(tmp_path: Path, mask: Image.Image) -> None:
    folder = folder_of(tmp_path / "set", 2)
    masks = masks_of(tmp_path / "masks", mask, mask)
    with pytest.raises(InputError, match=r"2 of 2 black everywhere — .*invert the masks"):
        lines_of(folder, tmp_path / "out", masks=masks)


def test_some_black_masks_and_only_white_ones_are_told(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", 2)
    some = masks_of(tmp_path / "some", BLACK, HALF)
    (line,) = lines_of(folder, tmp_path / "a", masks=some)
    assert line.startswith("set: 1 of 2 masks are black everywhere")
    white = masks_of(tmp_path / "white", WHITE, WHITE)
    assert lines_of(folder, tmp_path / "b", masks=white) == [
        "set: 2 of 2 masks are white everywhere; they change nothing"
    ]
    good = masks_of(tmp_path / "good", HALF, SHAPE)
    assert lines_of(folder, tmp_path / "c", masks=good) == []


def test_pictures_that_are_transparent_everywhere_are_refused_with_alpha_masks(
    tmp_path: Path,
) -> None:
    folder = folder_of(tmp_path / "set", 2, "RGBA")
    with pytest.raises(InputError, match=r"2 of 2 transparent everywhere — .*alpha_mask"):
        lines_of(folder, tmp_path / "out", alpha_mask=True)
    assert lines_of(folder, tmp_path / "plain") == []


def test_a_shape_in_the_alpha_channel_of_a_mask_counts(tmp_path: Path) -> None:
    masks = masks_of(tmp_path / "masks", SHAPE, HALF)
    shape, half = (load_weights(masks / f"{i}.png", False, SIZE, 8) for i in (0, 1))
    np.testing.assert_array_equal(shape, half)
    assert shape.min() == 0 and shape.max() == 1
