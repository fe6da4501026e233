"""Buckets, and pictures brought to them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onmodel.dataset.buckets import bucket_sizes, load_pixels, nearest_bucket
from onmodel.errors import StateError


def test_the_toon_base_has_its_three() -> None:
    assert {(96, 96), (80, 112), (112, 80)} <= set(bucket_sizes(96, 16))


@pytest.mark.parametrize("resolution", [64, 96, 512, 768, 1024, 1536])
def test_sides_and_areas(resolution: int) -> None:
    sizes = bucket_sizes(resolution, 16)
    assert (resolution, resolution) in sizes
    assert len(sizes) < 40
    for width, height in sizes:
        assert width % 16 == height % 16 == 0
        assert width * height <= resolution**2
        assert max(width, height) <= 2 * resolution
        assert (height, width) in sizes


def test_nearest() -> None:
    sizes = bucket_sizes(1024, 16)
    assert nearest_bucket(4000, 4000, sizes) == (1024, 1024)
    assert nearest_bucket(832, 1216, sizes) == (832, 1216)
    assert nearest_bucket(100, 1000, sizes) == (512, 2048)


def test_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20), (255, 0, 0)).save(path)
    pixels = load_pixels(path, (32, 16))
    assert pixels.shape == (3, 16, 32) and pixels.dtype == np.float32
    assert pixels[0].min() == 1 and pixels[1].max() == -1


def test_a_turned_picture_stands_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (64, 32), "black")
    image.paste("white", (0, 0, 32, 32))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    pixels = load_pixels(tmp_path / "a.jpg", (32, 64))
    assert pixels[:, :28].mean() > 0.9 and pixels[:, 36:].mean() < -0.9


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (16, 0, 32, 32))
    image.convert(mode).save(tmp_path / "a.png")
    pixels = load_pixels(tmp_path / "a.png", (32, 32))
    assert pixels[:, :, :16].max() == -1 and pixels[:, :, 16:].min() == 1


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"gone\.png"):
        load_pixels(tmp_path / "gone.png", (32, 32))
