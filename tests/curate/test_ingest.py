"""Strangers' files: each hostile one is set aside with a reason, the good ones enter as they
are."""

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onmodel.curate.ingest import SourcePicture, check, folder_hash, scan_folder
from onmodel.dataset.decoding import MAX_PIXELS, Refused, decode, pixels
from onmodel.dataset.formats import SUFFIXES, readable
from onmodel.errors import InputError
from tests.support.picture_heads import jxl_head, png_header

readable()  # Pillow writes HEIC and JPEG XL from here on


def encoded(
    format: str = "PNG", size: tuple[int, int] = (32, 24), mode: str = "RGB", **options: object
) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").convert(mode).save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def bomb_in_a_text_chunk() -> bytes:
    data = encoded()
    packed = b"note\0\0" + zlib.compress(b"\0" * 50_000_000)
    chunk = (
        struct.pack(">I", len(packed))
        + b"zTXt"
        + packed
        + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
    )
    return data[:33] + chunk + data[33:]


def animated(format: str) -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, format, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def deep_grey() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32), 40_000, dtype=np.uint16)).save(buffer, "PNG")
    return buffer.getvalue()


GOOD = {
    "rgb.png": encoded(),
    "grey.png": encoded(mode="L"),
    "palette.png": encoded(mode="P"),
    "alpha.png": encoded(mode="RGBA"),
    "bits.png": encoded(mode="1"),
    "photo.jpg": encoded("JPEG"),
    "cmyk.jpg": encoded("JPEG", mode="CMYK"),
    "web.webp": encoded("WEBP"),
    "new.avif": encoded("AVIF"),
    "phone.heic": encoded("HEIF"),
    "newer.jxl": encoded("JXL"),
    "clear.heic": encoded("HEIF", mode="RGBA"),
    "faint.jxl": encoded("JXL", mode="LA"),
    "wrong.jpg": encoded("WEBP"),
    "no_ending": encoded(),
    "ねこ.png": encoded(),
    "sp ace;$(x).png": encoded(),
    "smallest.png": encoded(size=(16, 16)),
    "slim.png": encoded(size=(64, 16)),
}
BAD = {
    "zero.png": (b"", "empty|not a PNG"),
    "text.png": (b"hello, I am no picture", "not a PNG"),
    "page.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a PNG"),
    "pickle.png": (b"\x80\x04cos\nsystem\n(S'touch /tmp/x'\ntR.", "not a PNG"),
    "gif.gif": (encoded("GIF", mode="P"), "a GIF picture, which is not read; save it as PNG"),
    "tiff.tiff": (encoded("TIFF"), "a TIFF picture"),
    "bmp.bmp": (encoded("BMP"), "a BMP picture"),
    "half.png": (encoded(size=(200, 200))[:4000], "damaged"),
    "half.jpg": (encoded("JPEG", size=(200, 200))[:3000], "damaged"),
    "half.webp": (encoded("WEBP", size=(200, 200))[:3000], "not a PNG|damaged"),
    "flipped.png": (encoded()[:60] + b"\xff\xff\xff" + encoded()[63:], "damaged"),
    "cut_header.png": (encoded()[:20], "not a PNG|damaged"),
    "zip.png": (b"PK\x03\x04" + b"\0" * 50, "not a PNG"),
    "bomb.png": (png_header(60_000, 60_000), "pixels"),
    "large.png": (png_header(9_000, 9_000), "at most 64 million"),
    "wide.png": (png_header(1_000, 20), "at most 4 times"),
    "tiny.png": (encoded(size=(8, 8)), "needs 16"),
    "lies.png": (png_header(300, 300), "damaged"),
    "text_bomb.png": (bomb_in_a_text_chunk(), "damaged"),
    "moving.webp": (animated("WEBP"), r"animated \(2 frames\)"),
    "moving.png": (animated("PNG"), r"animated \(2 frames\)"),
    "deep.png": (deep_grey(), "more than 8 bits"),
    "several.heic": (animated("HEIF"), "2 pictures in one file"),
    "piece.heic": (encoded("HEIF", size=(200, 200))[:3000], "damaged"),
    "part.jxl": (encoded("JXL", size=(200, 200))[:3000], r"damaged picture \(Generic Error.\)"),
    "stub.jxl": (b"\xff\x0a\x00", "header is cut off"),
    "tower.jxl": (jxl_head(60_000, 60_000), "at most 64 million"),
    "band.jxl": (jxl_head(1_000, 20), "at most 4 times"),
    "walking.jxl": (jxl_head(64, 64, animated=True), "animated; save"),
    "empty.heic": (b"\0\0\0\x18ftypheic" + b"\0" * 40, "not a PNG|damaged"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_pictures_enter(name: str) -> None:
    picture = decode(GOOD[name])
    assert picture.data == GOOD[name]
    assert (picture.width, picture.height) == pixels(GOOD[name])[0].size
    assert picture.suffix == SUFFIXES[str(Image.open(io.BytesIO(GOOD[name])).format)]


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_refused_with_their_reason(name: str) -> None:
    data, reason = BAD[name]
    with pytest.raises(Refused, match=reason):
        decode(data)


def test_any_cut_or_flipped_picture_is_refused_or_read() -> None:
    for format in ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "JXL"):
        whole = encoded(format)
        rng = np.random.default_rng(1)
        for _ in range(150):
            data = bytearray(whole[: int(rng.integers(1, len(whole) + 1))])
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            try:
                decode(bytes(data))
            except Refused as reason:
                assert str(reason)


def test_the_turn_of_a_camera_counts() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode(encoded("JPEG", size=(64, 32), exif=exif))
    assert (picture.width, picture.height) == (32, 64)


def test_a_folder(tmp_path: Path) -> None:
    for name, data in GOOD.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).with_suffix(".txt").write_text(
            "1girl, smile\nA girl smiles.", encoding="utf-8"
        )
    for name, (data, _) in BAD.items():
        if Path(name).stem in {"half", "moving"}:
            name = name.replace(".", "_") + Path(name).suffix
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).with_suffix(".txt").write_text("1girl", encoding="utf-8")
    for name, caption in {
        "bom": b"\xef\xbb\xbf1girl, bom",
        "latin": "fille à".encode("latin-1"),
        "long": b"a, " * 40_000,
        "blank": b" \n",
        "policy": b"child, nude",
        "utf16": "1girl".encode("utf-16"),
    }.items():
        (tmp_path / f"c_{name}.png").write_bytes(encoded())
        (tmp_path / f"c_{name}.txt").write_bytes(caption)
    (tmp_path / "no_caption.png").write_bytes(encoded())
    (tmp_path / "no_picture.txt").write_text("1girl")
    for suffix in (".png", ".jpg"):
        (tmp_path / f"twin{suffix}").write_bytes(encoded())
    (tmp_path / "twin.txt").write_text("1girl")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    special, raw = {}, []
    if sys.platform == "linux":
        (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / os.fsdecode(b"raw\xff.png")).write_bytes(encoded())
        raw = ["raw\\udcff.png"]
        special = {
            "loop.png": "not a file",
            "pipe.png": "not a file",
        }

    before = folder_hash(tmp_path)
    scan = scan_folder(tmp_path, "folder:x")
    found = scan.pictures
    reasons = {row.file: row.reason for row in scan.refused}
    entered = []
    for candidate in found:
        try:
            check(candidate)
            entered.append(candidate.name)
        except Refused as reason:
            reasons[candidate.name] = str(reason)

    uncaptioned = ["c_blank.png", "no_caption.png", *raw]
    assert sorted(entered) == sorted([*GOOD, "c_bom.png", "c_utf16.png", *uncaptioned])
    assert scan.uncaptioned == len(uncaptioned)
    assert "left alone, folders inside: folder" in scan.notes
    assert folder_hash(tmp_path) == before
    assert ".DS_Store" not in reasons
    for name, reason in {
        "c_latin.png": "not UTF-8",
        "c_long.png": "bytes",
        "c_policy.png": "refused everywhere",
        "no_picture.txt": "without a picture",
        "twin.png": "share the caption",
        "twin.jpg": "share the caption",
        "gone.png": "not a file",
        "zero.png": "the file is empty",
        **special,
    }.items():
        assert reason in reasons[name], name
    assert len(reasons) == len(BAD) + 3 + 4 + len(special)


def test_a_huge_picture_is_judged_by_its_header() -> None:
    assert MAX_PIXELS < 60_000 * 60_000
    with pytest.raises(Refused, match="pixels"):
        decode(png_header(60_000, 60_000))


def test_a_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such file"):
        check(SourcePicture(tmp_path / "gone.png", ("1girl",), "", "x"))
    with pytest.raises(InputError, match="name a folder"):
        scan_folder(tmp_path / "gone", "x")


def test_a_change_in_a_folder_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1girl")
    first = folder_hash(tmp_path)
    (tmp_path / "a.txt").write_text("1boy")
    assert folder_hash(tmp_path) != first
