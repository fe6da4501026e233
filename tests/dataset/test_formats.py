"""HEIC and JPEG XL: read as their standards say, named with the remedy where nothing reads them."""

import io
import struct
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops

from onmodel.dataset.decoding import Refused, decode, pixels
from onmodel.dataset.formats import jxl_header, readable
from onmodel.dataset.pixels import WHITE, as_shown, open_picture
from onmodel.errors import StateError
from tests.support.icc_profiles import ADOBE, rgb_profile
from tests.support.picture_heads import jxl_head

assert readable()[-2:] == ("HEIF", "JXL"), "the tests need the extra `formats`"
TURNED = 6  # EXIF: turn it right to see it upright


def corner(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """White, its top left quarter red."""
    image = Image.new("RGB", size, "white")
    image.paste("red", (0, 0, size[0] // 2, size[1] // 2))
    return image


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    return exif


def from_jpeg(path: Path, image: Image.Image, **options: object) -> bytes:
    """What `cjxl photo.jpg` makes of a JPEG: its coefficients, and what gives back its very
    bytes."""
    image.save(path, "JPEG", quality=95, subsampling=0, **options)  # type: ignore[arg-type]
    with warnings.catch_warnings(), Image.open(path) as file:
        warnings.simplefilter("ignore")
        return encoded(file, "JXL", lossless_jpeg=True)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        size, kind = struct.unpack(">I4s", data[:8])
        yield kind, data[: size or None]
        data = data[size:] if size else b""


def differ(one: Image.Image, other: Image.Image) -> int:
    """Largest difference away from edges, where compression rings."""
    assert one.size == other.size
    return int(np.asarray(ImageChops.difference(one, other))[4:12, 4:20].max())


def shown(data: bytes, paper: str = WHITE) -> Image.Image:
    return as_shown(pixels(data)[0], paper)


@pytest.mark.parametrize("format", ["HEIF", "JXL"])
def test_they_enter_like_any_picture(format: str) -> None:
    data = encoded(corner(), format, quality=95)
    picture = decode(data)
    assert (picture.width, picture.height) == (48, 32) and differ(shown(data), corner()) < 8
    clear = encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 0)), format)
    assert decode(clear, "#20a040").background == "#20a040"
    assert shown(clear, "#20a040").getpixel((9, 9)) == pytest.approx((32, 160, 64), abs=2)


def test_a_jpeg_in_jpeg_xl_is_turned_once(tmp_path: Path) -> None:
    held = corner().transpose(Image.Transpose.ROTATE_90)
    data = from_jpeg(tmp_path / "held.jpg", held, exif=turned())
    assert any(kind == b"jbrd" for kind, _ in boxes(data))
    assert differ(shown(data), corner()) < 8


def test_exif_does_not_turn_what_the_decoder_turned(tmp_path: Path) -> None:
    held = corner().transpose(Image.Transpose.ROTATE_90)
    data = from_jpeg(tmp_path / "held.jpg", held, exif=turned())
    exif = struct.pack(">I", 0) + turned().tobytes().removeprefix(b"Exif\0\0")
    kept = [box for kind, box in boxes(data) if kind not in (b"jbrd", b"brob")]
    plain = b"".join([*kept[:2], struct.pack(">I4s", 8 + len(exif), b"Exif") + exif, *kept[2:]])
    with Image.open(io.BytesIO(plain)) as file:
        assert (
            file.size == (48, 32) and file.getexif()[0x0112] == TURNED
        )  # upright, and EXIF says: turn it
    (tmp_path / "plain.jxl").write_bytes(plain)
    assert (
        differ(shown(plain), corner()) < 8
        and differ(open_picture(tmp_path / "plain.jxl"), corner()) < 8
    )


def test_profiles_become_srgb(tmp_path: Path) -> None:
    wide = rgb_profile("Wide", ADOBE, 2.2)
    grey = Image.new("RGB", (32, 32), (90, 200, 210))
    grey.save(tmp_path / "a.png", icc_profile=wide)
    wanted = open_picture(tmp_path / "a.png").getpixel((9, 9))
    heic = encoded(grey, "HEIF", quality=100, chroma=444, icc_profile=wide)
    assert decode(heic).profile == "Wide" and shown(heic).getpixel((9, 9)) == pytest.approx(
        wanted, abs=4
    )
    data = from_jpeg(tmp_path / "a.jpg", grey, icc_profile=wide)
    for jxl in (data, b"".join(box for kind, box in boxes(data) if kind != b"jbrd")):
        assert decode(jxl).profile == "Wide" and shown(jxl).getpixel((9, 9)) == pytest.approx(
            wanted, abs=4
        )


@pytest.mark.parametrize(
    "size",
    [
        (16, 16),
        (33, 21),
        (64, 64),
        (72, 60),
        (80, 60),
        (300, 200),
        (256, 144),
        (50, 40),
        (40, 20),
        (20, 40),
        (600, 520),
        (9000, 20),
    ],
)
def test_a_jpeg_xl_tells_its_size_undecoded(tmp_path: Path, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "teal")
    assert jxl_header(encoded(image, "JXL")) == (*size, False)
    assert jxl_header(encoded(image, "JXL", use_container=True)) == (*size, False)
    assert jxl_header(from_jpeg(tmp_path / "a.jpg", image)) == (*size, False)


def test_a_jpeg_xl_head_is_judged_alone() -> None:
    assert jxl_header(jxl_head(60_000, 50_000)) == (60_000, 50_000, False)
    assert jxl_header(jxl_head(64, 48, animated=True)) == (64, 48, True)
    for data in (
        b"",
        b"\xff\x0a",
        b"\0\0\0\x0cJXL \r\n\x87\n",
        b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\1jxlc" + b"\xff" * 9,
    ):
        with pytest.raises(ValueError):
            jxl_header(data)


@pytest.mark.parametrize(
    ("format", "module", "called"),
    [("HEIF", "pillow_heif", "HEIC"), ("JXL", "pillow_jxl", "JPEG XL")],
)
def test_without_the_extra_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, module: str, called: str
) -> None:
    data = encoded(corner(), format)
    (tmp_path / "a.png").write_bytes(data)
    monkeypatch.setitem(sys.modules, module, None)
    readable.cache_clear()
    try:
        remedy = rf"a {called} picture, .*pip install 'onmodel\[formats\]'"
        with pytest.raises(Refused, match=remedy):
            decode(data)
        with pytest.raises(StateError, match=remedy):
            open_picture(tmp_path / "a.png")
    finally:
        readable.cache_clear()
