"""Files that are no pictures, have false headers or need all memory, each beside a good one."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.dataset.formats import PICTURE_ENDINGS
from tests.hostile.case import Case, Place, run
from tests.hostile.imports import Check, entered, refused, told
from tests.support.picture_heads import jxl_head

HUGE = 50_000


@cache
def encoded(format: str = "PNG", size: tuple[int, int] = (32, 24), mode: str = "RGB") -> bytes:
    return saved(noise(size).convert(mode), format)


def noise(size: tuple[int, int] = (32, 24)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 4), dtype=np.uint8)
    return Image.fromarray(pixels, "RGBA")


def saved(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    from onmodel.dataset.formats import readable

    readable()  # Pillow writes HEIC and JPEG XL from here on
    buffer = io.BytesIO()
    image.save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, data: bytes = b"\0" * 64, depth: int = 8, colour: int = 2, *more: bytes
) -> bytes:
    """A PNG with these words in its header, whatever its data say."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(more)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def png_with(*chunks: bytes) -> bytes:
    """A good PNG with chunks behind its header."""
    data = encoded()
    return data[:33] + b"".join(chunks) + data[33:]


def jpeg_head(width: int, height: int, frame: bytes = b"\xc0", depth: int = 8) -> bytes:
    sizes = struct.pack(">BHHB", depth, height, width, 3) + b"\x01\x11\0\x02\x11\0\x03\x11\0"
    app = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    return (
        b"\xff\xd8"
        + app
        + b"\xff"
        + frame
        + struct.pack(">H", len(sizes) + 2)
        + sizes
        + b"\xff\xd9"
    )


def gif_head(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\0;"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0" * 6 + frame


def webp(kind: bytes, body: bytes) -> bytes:
    piece = kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(piece) + 4) + b"WEBP" + piece


def tiff_head(width: int, height: int) -> bytes:
    tags = (
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, 4),
    )
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + b"\0" * 4


def bmp_head(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 64, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


def exif_that_loops() -> bytes:
    """Two tables of tags, each of which names the other as the next."""
    table = struct.pack(">HHHIHH", 1, 0x0112, 3, 1, 6, 0)
    return (
        b"Exif\0\0MM\0*"
        + struct.pack(">I", 8)
        + table
        + struct.pack(">I", 26)
        + table
        + struct.pack(">I", 8)
    )


def jpeg_with(marker: bytes, body: bytes, times: int = 1) -> bytes:
    piece = b"\xff" + marker + struct.pack(">H", len(body) + 2) + body
    return b"\xff\xd8" + piece * times + encoded("JPEG")[2:]


def turned(orientation: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(noise((64, 32)).convert("RGB"), "JPEG", exif=exif)


TURNED_BY_TEXT = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(
    ">HHHI4sI", 1, 0x0112, 2, 2, b"6\0\0\0", 0
)


def moving(format: str, frames: int = 2) -> bytes:
    images = [Image.new("RGB", (32, 32), (255 * (i % 2), 9, 255 - i % 200)) for i in range(frames)]
    return saved(images[0], format, save_all=True, append_images=images[1:])


def zipped() -> bytes:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../pwned.png", encoded())
    return buffer.getvalue()


@cache
def packed(size: int) -> bytes:
    return zlib.compress(b"\0" * size, 1)


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
PICKLE = b"\x80\x04cposix\nsystem\n(V touch pwned\ntR."
NOT_READ = {
    "empty": (b"", "png"),
    "one-byte": (b"\x89", "png"),
    "text": (b"hello, I am no picture", "png"),
    "zeros": (bytes(100_000), "png"),
    "signature": (b"\x89PNG\r\n\x1a\n", "png"),
    "svg": (SVG, "svg"),
    "svg-as-png": (SVG, "png"),
    "html": (b"<html><script>alert(1)</script>", "png"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\n1 0 obj", "png"),
    "elf": (b"\x7fELF\x02\x01\x01" + bytes(60), "png"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(pwned) (w) file\n", "eps"),
    "pickle": (PICKLE, "png"),
    "zip-as-png": (zipped(), "png"),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), "png"),
    "psd": (
        b"8BPS\0\x01" + bytes(6) + struct.pack(">HIIHH", 3, HUGE, HUGE, 8, 3) + bytes(20),
        "psd",
    ),
    "ppm": (b"P6\n50000 50000\n255\n" + bytes(90), "ppm"),
    "mp4": (b"\0\0\0\x18ftypmp42" + bytes(80), "png"),
    "xbm": (b"#define a_width 60000\n#define a_height 60000\nstatic char a[] = {0", "xbm"),
    "icon": (b"\0\0\x01\0\x01\0" + bytes(40), "ico"),
    "targa": (bytes([0, 0, 2]) + bytes(60), "tga"),
    "gif": (moving("GIF"), "gif"),
    "tiff": (encoded("TIFF"), "tiff"),
    "bmp": (encoded("BMP"), "bmp"),
    "tiff-as-png": (encoded("TIFF"), "png"),
    "gif-as-jpg": (encoded("GIF", mode="P"), "jpg"),
    "bomb-png": (png(HUGE, HUGE), "png"),
    "bomb-gif": (gif_head(HUGE, HUGE), "gif"),
    "bomb-jpeg": (jpeg_head(HUGE, HUGE), "jpg"),
    "bomb-tiff": (tiff_head(HUGE, HUGE), "tif"),
    "bomb-bmp": (bmp_head(HUGE, HUGE), "bmp"),
    "bomb-jxl": (jxl_head(HUGE, HUGE), "jxl"),
    "bomb-webp-vp8x": (webp(b"VP8X", bytes(4) + (HUGE - 1).to_bytes(3, "little") * 2), "webp"),
    "bomb-webp-vp8l": (
        webp(b"VP8L", b"\x2f" + (16382 | 16382 << 14).to_bytes(4, "little") + bytes(8)),
        "webp",
    ),
    "bomb-png-max": (png(2**31 - 1, 2**31 - 1), "png"),
    "bomb-png-line": (png(2**31 - 1, 1), "png"),
    "bomb-pixels": (
        png(20_000, 20_000, bytes(50_020_000), 1, 0),
        "png",
    ),  # its data are whole: 400 megapixels
    "large-65mp": (png(8_100, 8_100), "png"),
    "large-jpeg": (jpeg_head(65_500, 65_500), "jpg"),
    "no-width": (png(0, 24), "png"),
    "no-height-jpeg": (jpeg_head(32, 0), "jpg"),
    "wide": (png(1_000, 20), "png"),
    "tiny": (encoded(size=(8, 8)), "png"),
    "lying-size": (png(300, 300), "png"),
    "cut-png": (encoded(size=(200, 200))[:4000], "png"),
    "cut-jpeg": (encoded("JPEG", (200, 200))[:3000], "jpg"),
    "cut-webp": (encoded("WEBP", (200, 200))[:3000], "webp"),
    "cut-avif": (encoded("AVIF", (200, 200))[:900], "avif"),
    "cut-heic": (encoded("HEIF", (200, 200))[:3000], "heic"),
    "cut-jxl": (encoded("JXL", (200, 200))[:3000], "jxl"),
    "flipped": (encoded()[:60] + b"\xff\xff\xff" + encoded()[63:], "png"),
    "bad-depth": (png(32, 24, depth=7), "png"),
    "bad-colour": (png(32, 24, colour=9), "png"),
    "lossless-jpeg": (jpeg_head(32, 32, b"\xc3"), "jpg"),
    "12-bit-jpeg": (jpeg_head(32, 32, b"\xc1", 12), "jpg"),
    "text-bomb": (png_with(chunk(b"zTXt", b"note\0\0" + packed(80_000_000))), "png"),
    "profile-bomb": (png_with(chunk(b"iCCP", b"icc\0\0" + packed(80_000_000))), "png"),
    "moving-png": (moving("PNG"), "png"),
    "moving-webp": (moving("WEBP"), "webp"),
    "moving-heic": (moving("HEIF"), "heic"),
    "moving-jxl": (jxl_head(64, 64, animated=True), "jxl"),
    "many-frames": (moving("WEBP", 400), "webp"),
    "deep-grey": (saved(Image.fromarray(np.full((32, 32), 40_000, np.uint16))), "png"),
    "empty-heic": (b"\0\0\0\x18ftypheic" + bytes(40), "heic"),
    "empty-avif": (b"\0\0\0\x18ftypavif" + bytes(40), "avif"),
}
READ = {
    "grey": (encoded(mode="L"), "png"),
    "palette": (encoded(mode="P"), "png"),
    "bits": (encoded(mode="1"), "png"),
    "palette-alpha": (saved(noise().quantize(16), transparency=3), "png"),
    "alpha": (encoded(mode="RGBA"), "png"),
    "grey-alpha": (encoded(mode="LA"), "png"),
    "cmyk": (encoded("JPEG", mode="CMYK"), "jpg"),
    "turned-6": (turned(6), "jpg"),
    "turned-wrong": (turned(9), "jpg"),
    "turned-text": (jpeg_with(b"\xe1", TURNED_BY_TEXT), "jpg"),
    "webp-as-jpg": (encoded("WEBP"), "jpg"),
    "png-as-txt.png": (encoded(), "PNG"),
    "no-ending": (encoded(), ""),
    "png-and-zip": (encoded() + zipped(), "png"),
    "jpeg-with-html": (jpeg_with(b"\xfe", SVG), "jpg"),
}
# Either is right: what counts is that it ends in time, and that a refusal is told.
EITHER = {
    "no-palette": (png(32, 24, bytes(33 * 24), 8, 3), "png"),
    "broken-icc": (saved(noise().convert("RGB"), icc_profile=b"no profile" * 20), "png"),
    "icc-lies": (
        saved(noise().convert("RGB"), icc_profile=struct.pack(">I", 2**31) + bytes(200)),
        "png",
    ),
    "deep-rgb": (png(16, 16, (b"\0" + bytes(96)) * 16, 16, 2), "png"),
    "exif-loop": (jpeg_with(b"\xe1", exif_that_loops()), "jpg"),
    "many-markers": (jpeg_with(b"\xed", bytes(9), 30_000), "jpg"),
    "frames-lie": (png_with(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))), "png"),
    "two-headers": (png_with(encoded()[8:33]), "png"),
    "long-text": (png_with(chunk(b"tEXt", b"a\0" + b"x" * 10**6)), "png"),
    "many-chunks": (png_with(*[chunk(b"tEXt", b"a\0b")] * 30_000), "png"),
}


def _heap(files: Mapping[str, bytes]) -> Callable[[Place], None]:
    """A folder of a good picture and of these files, each with a caption."""

    def build(place: Place) -> None:
        for name, data in {"good.png": encoded(), **files}.items():
            place.put(name, data, below="pictures")
            place.put(f"{name.rpartition('.')[0] or name}.txt", "1girl, smile", below="pictures")

    return build


def _special(name: str, make: Callable[[Place, bytes], None]) -> Callable[[Place], None]:
    def build(place: Place) -> None:
        _heap({})(place)
        place.put("odd.txt", "1girl", below="pictures")
        make(place, os.fsencode(place.given / "pictures" / name))

    return build


def _socket(place: Place, path: bytes) -> None:
    here = os.getcwd()
    os.chdir(os.path.dirname(path))  # the path of a socket may have 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.basename(path))
    finally:
        os.chdir(here)


def _sparse(place: Place, path: bytes) -> None:
    with open(path, "wb") as file:
        file.write(encoded())
        file.truncate(8 * 2**30)


IMPORT = ("dataset", "import", "{in}/pictures", "--out", "{out}/work")


ALONE = (
    "bomb",
    "text-bomb",
    "profile-bomb",
    "many",
    "large",
    "psd",
    "ppm",
    "xbm",
    "exif",
    "frames",
)


def _groups(table: Mapping[str, tuple[bytes, str]]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Name and files of each case: what may take memory or time alone, the others by ten."""
    alone = [stem for stem in table if stem.startswith(ALONE)]
    rest = [stem for stem in table if stem not in alone]
    for stems in ([stem] for stem in alone), (rest[i : i + 10] for i in range(0, len(rest), 10)):
        for group in stems:
            files = {
                f"odd-{stem}.{table[stem][1]}".removesuffix("."): table[stem][0] for stem in group
            }
            yield f"pictures-{group[0]}" + ("-and-others" if len(group) > 1 else ""), files


def _said(files: Iterable[str]) -> tuple[str, ...]:
    """What the command says: each file with the ending of a picture by name, the others by their
    ending."""
    return tuple(
        name if Path(name).suffix in PICTURE_ENDINGS else f"1 × {Path(name).suffix}"
        for name in files
        if Path(name).suffix
    )


def _not_in(files: Iterable[str]) -> Check:
    return refused(*(name for name in files if Path(name).suffix in PICTURE_ENDINGS))


CASES = (
    *(
        Case(id, _heap(files), (run(*IMPORT, codes=(0,), says=_said(files)),), _not_in(files))
        for id, files in _groups(NOT_READ)
    ),
    *(
        Case(id, _heap(files), (run(*IMPORT, codes=(0,)),), entered(1 + len(files)))
        for id, files in _groups(READ)
    ),
    *(
        Case(id, _heap(files), (run(*IMPORT, codes=(0,)),), told(1 + len(files)))
        for id, files in _groups(EITHER)
    ),
    *(
        Case(
            f"picture-{kind}",
            _special("odd.png", make),
            (run(*IMPORT, codes=(0,), says=("odd.png",)),),
            refused("odd.png"),
        )
        for kind, make in {
            "folder": lambda place, path: os.mkdir(path),
            "pipe": lambda place, path: os.mkfifo(path),
            "socket": _socket,
            "link-to-nothing": lambda place, path: os.symlink(b"gone.png", path),
            "link-to-itself": lambda place, path: os.symlink(b"odd.png", path),
            "link-to-device": lambda place, path: os.symlink(b"/dev/zero", path),
            "link-to-folder": lambda place, path: os.symlink(b"..", path),
            "8-gib": _sparse,
        }.items()
    ),
)
