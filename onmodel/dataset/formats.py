"""The picture formats that are read, recognised by content: PNG, JPEG, WebP and AVIF; HEIC and
JPEG XL with the extra `formats` (pillow-heif and pillow-jxl-plugin).
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache

from PIL import Image, ImageOps

SUFFIXES = {
    "PNG": ".png",
    "JPEG": ".jpg",
    "WEBP": ".webp",
    "AVIF": ".avif",
    "HEIF": ".heic",
    "JXL": ".jxl",
}
EXTRA = "pip install 'onmodel[formats]'"
# What decoders raise for a damaged file, beside UnidentifiedImageError, which is an OSError.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_HEIC = re.compile(
    rb".{4}ftyp(hei[cxms]|hev[cxms]|mif1|msf1)", re.S
)  # ISO/IEC 23008-12; AVIF has its own brand
_JXL = re.compile(rb"\xff\x0a|\0{3}\x0cJXL \r\n\x87\n")
# The first bytes of every format above: other files are refused without a decoder. Of the files
# with "ftyp" most are videos; the brands of pictures are those of HEIF and AVIF.
BEGINNING = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP|.{4}ftyp(?:avi[fs]|hei[cxms]|hev[cxms]|m[is]f1)"
    rb"|\xff\x0a|\0{3}\x0cJXL \r\n\x87\n",
    re.S,
)
HEAD = 64  # bytes that tell the format
# Endings of picture files. A file with one of them that is no picture is damaged, not a stray.
PICTURE_ENDINGS = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif", ".jxl", ".gif", ".bmp"}
    | {".tif", ".tiff"}
)
_OTHERS = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"8BPS": "Photoshop"}
_RATIOS = (
    (0, 1),
    (1, 1),
    (12, 10),
    (4, 3),
    (3, 2),
    (16, 9),
    (5, 4),
    (2, 1),
)  # of a JPEG XL: width to height


@cache
def readable() -> tuple[str, ...]:
    """The formats that can be read here, by Pillow's names."""
    found = ["PNG", "JPEG", "WEBP", "AVIF"]
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
        found.append("HEIF")
    except ModuleNotFoundError:
        pass
    try:
        import pillow_jxl  # noqa: F401  (registers itself)

        found.append("JXL")
    except ModuleNotFoundError:
        pass
    return tuple(found)


def format_of(data: bytes) -> str:
    """HEIF or JXL by a file's first bytes; "" for what Pillow tells by itself, or not at all."""
    return "HEIF" if _HEIC.match(data) else "JXL" if _JXL.match(data) else ""


def unreadable(data: bytes) -> str:
    """Why a file that no decoder knows cannot be read."""
    if (format := format_of(data)) and format not in readable():
        return (
            f"a {'HEIC' if format == 'HEIF' else 'JPEG XL'} picture, which needs two more packages:"
            f" {EXTRA}"
        )
    for beginning, title in _OTHERS.items():
        if data.startswith(beginning):
            return f"a {title} picture, which is not read; save it as PNG"
    return "not a PNG, JPEG, WebP, AVIF, HEIC or JPEG XL picture"


def upright(file: Image.Image) -> Image.Image:
    """A decoded picture, rotated as EXIF says. Where a format has its own field for the rotation,
    the decoder has applied it already.

    HEIC and JPEG XL put it into the picture's own header, and EXIF's counts no more (ISO/IEC
    18181-2). pillow-heif takes that from EXIF, pillow-jxl-plugin leaves it there, but for a JPEG,
    which it gives back as it was.
    """
    if file.format == "JXL" and not getattr(file, "jpeg", False):
        file.info.pop("exif", None)
    return ImageOps.exif_transpose(file)


def jxl_header(data: bytes) -> tuple[int, int, bool]:
    """Width and height (as stored), and is it animated, of a JPEG XL, without decoding it: its
    plugin decodes at once.

    Raises ValueError for what is no JPEG XL. ISO/IEC 18181-1, annexes D.2 and D.3.
    """
    stream = b"".join(_codestream(data))
    if stream[:2] != b"\xff\x0a":
        raise ValueError("no JPEG XL codestream")
    take = _Bits(stream[2:64]).take
    width, height = _size(take)
    if take(1) or not take(1):  # all defaults, or none of the fields below
        return width, height, False
    take(3)  # orientation
    if take(1):
        _size(take)  # at which it wants to be shown
    return (
        width,
        height,
        not take(1) and bool(take(1)),
    )  # with a preview, a later field says so: let the decoder judge


class _Bits:
    """Reads numbers of so many bits, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, bits: int) -> int:
        if (left := self.left - bits) < 0:
            raise ValueError("the header is cut off")
        found, self.value, self.left = self.value & ((1 << bits) - 1), self.value >> bits, left
        return found


def _size(take: Callable[[int], int]) -> tuple[int, int]:
    """Width and height: multiples of 8 in five bits, or as many bits as are needed; or the width as
    a usual ratio."""
    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    times, parts = _RATIOS[take(3)]
    return height * times // parts if times else side(), height


def _codestream(data: bytes) -> Iterator[bytes]:
    """The codestream of a file, which may lie in boxes and in parts. ISO/IEC 18181-2."""
    if data[:2] == b"\xff\x0a":
        yield data
        return
    at = 0
    while at + 8 <= len(data):
        size, kind, head = *struct.unpack(">I4s", data[at : at + 8]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = at + size if size else len(data)
        if kind in (b"jxlc", b"jxlp"):
            yield data[at + head + 4 * (kind == b"jxlp") : end]
        if size and size < head:
            return
        at = end
