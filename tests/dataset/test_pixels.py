"""One way to see a picture: upright, in sRGB, on its paper. Originals are files as cameras and
editors write them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from onmodel.dataset.formats import readable
from onmodel.dataset.pixels import UNREADABLE, as_shown, open_picture, profile_of
from onmodel.errors import StateError
from tests.support.icc_profiles import ADOBE, grey_profile, primaries_d50, rgb_profile

readable()  # Pillow writes HEIC and JPEG XL from here on
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
WIDE = rgb_profile("Wide", ADOBE, 2.2)
COLOURS = [
    (200, 60, 40),
    (30, 180, 90),
    (20, 40, 220),
    (128, 128, 128),
    (0, 0, 0),
    (255, 255, 255),
    (90, 200, 210),
]


def patches(mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (16 * len(COLOURS), 16))
    for i, colour in enumerate(COLOURS):
        image.paste(colour, (16 * i, 0, 16 * i + 16, 16))
    return image


def expected(colour: tuple[int, int, int]) -> np.ndarray:
    """sRGB 0…255 of a colour of the wide profile, by the definitions alone."""
    linear = (np.array(colour) / 255) ** (round(2.2 * 256) / 256)
    inside = np.linalg.solve(primaries_d50(SRGB), primaries_d50(ADOBE) @ linear).clip(0, 1)
    return 255 * np.where(inside <= 0.0031308, 12.92 * inside, 1.055 * inside ** (1 / 2.4) - 0.055)


def means(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image, dtype=float)
    return np.array(
        [pixels[4:12, 16 * i + 4 : 16 * i + 12].mean((0, 1)) for i in range(len(COLOURS))]
    )


@pytest.mark.parametrize(
    ("format", "most"), [("PNG", 1.5), ("JPEG", 4), ("WEBP", 6), ("AVIF", 4), ("HEIF", 4)]
)
def test_colours_of_a_wide_profile_become_srgb(tmp_path: Path, format: str, most: float) -> None:
    path = tmp_path / "picture"
    options = (
        {"lossless": True} if format == "WEBP" else {} if format == "PNG" else {"quality": 100}
    )
    patches().save(path, format, icc_profile=WIDE, **options)
    shown = open_picture(path)
    assert (
        shown.mode == "RGB"
        and np.abs(means(shown) - [expected(colour) for colour in COLOURS]).max() <= most
    )
    assert (
        np.abs(means(shown) - COLOURS).max() > 20
    )  # without a profile the same bytes are other colours
    patches().save(path, format, **options)
    assert np.abs(means(open_picture(path)) - COLOURS).max() <= most


def test_srgb_stays_srgb() -> None:
    image = patches()
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(means(as_shown(image)) - COLOURS).max() <= 1
    assert "sRGB" in profile_of(image)


def test_grey_and_palette_pictures_have_profiles_too(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 128).save(
        tmp_path / "grey.png", icc_profile=grey_profile("Linear", 1.0)
    )
    assert open_picture(tmp_path / "grey.png").getpixel((8, 8)) == pytest.approx(
        (188, 188, 188), abs=1
    )
    patches().quantize(16).save(tmp_path / "palette.png", icc_profile=WIDE)
    wanted = [expected(colour) for colour in COLOURS]
    assert np.abs(means(open_picture(tmp_path / "palette.png")) - wanted).max() <= 6


@pytest.mark.parametrize("profile", [b"nonsense", WIDE[:200], grey_profile("Grey", 2.2)])
def test_a_profile_that_cannot_be_meant_is_srgb(profile: bytes) -> None:
    image = patches()
    image.info["icc_profile"] = profile
    assert np.abs(means(as_shown(image)) - COLOURS).max() == 0
    assert profile_of(image) == ("Grey" if b"Grey" in profile else UNREADABLE)


def test_no_profile_is_no_profile() -> None:
    assert profile_of(patches()) == ""


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("paper", ["#ffffff", "#20a040"])
def test_what_is_transparent_lies_on_its_paper(mode: str, paper: str) -> None:
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (16, 0, 32, 32))
    image = image.convert(mode)
    if mode == "P":
        image.info.setdefault("transparency", image.getpixel((31, 0)))
    shown = as_shown(image, paper)
    assert shown.getpixel((0, 0)) == (0, 0, 0)
    assert "#{:02x}{:02x}{:02x}".format(*shown.getpixel((31, 0))) == paper


def test_half_of_a_colour_is_mixed_after_it_became_srgb() -> None:
    image = Image.new("RGBA", (16, 16), (30, 180, 90, 128))
    image.info["icc_profile"] = WIDE
    wanted = (expected((30, 180, 90)) * 128 + 255 * 127) / 255
    assert as_shown(image).getpixel((3, 3)) == pytest.approx(tuple(wanted), abs=1.5)


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_turn_of_a_camera_is_undone(tmp_path: Path, turn: int) -> None:
    upright = Image.new("RGB", (48, 32), "white")
    upright.paste("red", (0, 0, 24, 16))  # top left
    undo = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # EXIF orientation → the turn that a camera held it by
    held = upright.transpose(Image.Transpose(undo[turn])) if turn != 1 else upright
    exif = Image.Exif()
    exif[0x0112] = turn
    for format in ("PNG", "JPEG", "WEBP", "AVIF", "HEIF"):
        held.save(tmp_path / "turned", format, exif=exif.tobytes(), quality=95)
        shown = open_picture(tmp_path / "turned")
        assert shown.size == (48, 32), format
        away = np.abs(np.asarray(shown, dtype=int) - np.asarray(upright, dtype=int))
        assert away[4:12, 4:20].max() < 40 and away[20:, :].max() < 40, format
    assert ImageOps.exif_transpose(shown).size == (48, 32)  # and not turned twice


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(StateError, match=r"torn\.png"):
        open_picture(tmp_path / "torn.png")
