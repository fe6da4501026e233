"""Blur, casts and frames are found in drawings, and flat colour is no fault."""

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from onmodel.curate.quality import Quality, audit_quality
from onmodel.toon.attributes import BACKGWA, VOCABULARY
from onmodel.toon.datasets import WARM_YELLOW
from onmodel.toon.draw import draw


def pictures() -> list[Image.Image]:
    places = list(VOCABULARY["background"])
    return [draw(BACKGWA.toon(nuisance=i, background=places[i % 7]), 192, 192) for i in range(28)]


def found(images: list[Image.Image]) -> dict[str, set[int]]:
    names = [str(i) for i in range(len(images))]
    rows: dict[str, set[int]] = {}
    for row in audit_quality(names, [Quality.of(image) for image in images], {}):
        rows.setdefault(row.kind, set()).add(int(row.picture))
    return rows


def test_clean_drawings_have_no_fault() -> None:
    assert found(pictures()) == {}


def test_a_blurred_picture_is_found() -> None:
    images = pictures()
    images[5] = images[5].filter(ImageFilter.GaussianBlur(3))
    assert found(images)["blurred"] == {5}


def test_a_flat_picture_is_not_called_blurred() -> None:
    assert Quality.of(Image.new("RGB", (64, 64), (250, 250, 250))).sharpness == 1


def test_a_yellow_cast_is_found_and_a_sunset_is_none() -> None:
    images = pictures()
    images[4] = Image.blend(images[4], Image.new("RGB", images[4].size, WARM_YELLOW), 0.25)
    assert found(images).get("yellow cast") == {4}


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (40, 90, 30)])
def test_a_plain_frame_is_found(colour: tuple[int, int, int]) -> None:
    inner = Image.fromarray(np.full((96, 96, 3), 128, np.uint8))
    framed = ImageOps.expand(inner, (0, 16), colour)
    assert Quality.of(framed).frame == pytest.approx(0.25, abs=0.02)
    assert Quality.of(inner).frame == 0
