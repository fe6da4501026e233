"""Buckets, and pictures brought to them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from onmodel.dataset.buckets import (
    bucket_of,
    bucket_sizes,
    cut_away,
    enlargement,
    load_pixels,
    load_weights,
    nearest_bucket,
)
from onmodel.dataset.rules import DataConfig
from onmodel.errors import InputError, StateError


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


SIDES = st.integers(16, 3000)


@given(SIDES, SIDES, st.sampled_from([64, 512, 768, 1024]), st.booleans(), st.booleans())
def test_a_picture_is_not_enlarged_unless_asked(
    width: int, height: int, resolution: int, enlarge: bool, buckets: bool
) -> None:
    assume(max(width, height) <= 4 * min(width, height))
    size = bucket_of(width, height, resolution, DataConfig(enlarge=enlarge, buckets=buckets), 16)
    assert size[0] % 16 == size[1] % 16 == 0 and min(size) >= 16
    assert size[0] * size[1] <= resolution**2
    if enlarge and buckets:
        assert size in bucket_sizes(resolution, 16)
    if not enlarge:
        assert size[0] <= width and size[1] <= height
        assert enlargement(width, height, size) <= 1 + 1e-9
    if not buckets:
        assert size[0] == size[1]
    assert 0 <= cut_away(width, height, size) < 1


def test_sizes_that_are_asked_for() -> None:
    assert bucket_of(1000, 1500, 1024, DataConfig(), 16) == (832, 1216)
    assert bucket_of(600, 800, 1024, DataConfig(), 16) == (576, 768)
    assert bucket_of(600, 800, 1024, DataConfig(bucket_step=16), 16) == (592, 800)
    assert bucket_of(600, 800, 1024, DataConfig(enlarge=True), 16) == (896, 1152)
    assert bucket_of(600, 800, 1024, DataConfig(buckets=False), 16) == (592, 592)
    assert bucket_of(1000, 4000, 1024, DataConfig(bucket_sides=(768, 1280)), 16) == (768, 1280)
    with pytest.raises(InputError, match=r"bucket_sides: \[2000, 3000\]"):
        bucket_of(1000, 4000, 1024, DataConfig(bucket_sides=(2000, 3000)), 16)


def test_what_is_cut_away() -> None:
    assert cut_away(1000, 1000, (512, 512)) == 0
    assert cut_away(1000, 500, (512, 512)) == pytest.approx(0.5)
    assert cut_away(100, 400, (100, 300)) == pytest.approx(0.25)


def halves(mode: str, size: tuple[int, int] = (64, 32)) -> Image.Image:
    """White on the left."""
    mask = Image.new("L", size, 0)
    mask.paste(255, (0, 0, size[0] // 2, size[1]))
    if mode == "alpha":
        picture = Image.new("RGB", size, "red")
        picture.putalpha(mask)
        return picture
    return mask.convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "alpha"])
def test_a_mask_weighs_latents(tmp_path: Path, mode: str) -> None:
    halves(mode).save(tmp_path / "m.png")
    weights = load_weights(tmp_path / "m.png", mode == "alpha", (64, 32), 8)
    assert weights.shape == (4, 8) and weights.dtype == np.float32
    assert (weights[:, :4] == 1).all() and (weights[:, 4:] == 0).all()


def test_a_mask_is_cut_as_its_picture_is(tmp_path: Path) -> None:
    halves("L", (128, 32)).save(tmp_path / "m.png")
    weights = load_weights(tmp_path / "m.png", False, (32, 32), 8)  # the middle quarter is seen
    pixels = load_pixels(tmp_path / "m.png", (32, 32))
    assert weights == pytest.approx(
        (pixels[0].reshape(4, 8, 4, 8).mean(axis=(1, 3)) + 1) / 2, abs=0.01
    )
    assert weights[0].tolist() == pytest.approx([1, 1, 0, 0])


def test_a_grey_mask_weighs_in_between_and_an_opaque_picture_all(tmp_path: Path) -> None:
    Image.new("L", (32, 32), 51).save(tmp_path / "m.png")
    assert load_weights(tmp_path / "m.png", False, (32, 32), 8) == pytest.approx(0.2)
    assert load_weights(tmp_path / "m.png", True, (32, 32), 8) == pytest.approx(1)


def test_a_mirrored_picture(tmp_path: Path) -> None:
    halves("L").save(tmp_path / "a.png")
    plain, mirrored = (load_pixels(tmp_path / "a.png", (32, 32), flip) for flip in (False, True))
    assert (mirrored == plain[:, :, ::-1]).all() and (mirrored != plain).any()
