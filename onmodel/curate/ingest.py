"""From a folder of strangers' files to checked pictures with captions. What is not right is set aside with its reason.

A picture is told by its content, not by its ending; PNG, JPEG and WebP alone are decoded. Originals are never changed:
turning (EXIF) and flattening of transparency happen when training loads them (dataset/buckets.py).
"""

import io
import struct
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from onmodel.dataset.captions import parse_caption
from onmodel.dataset.manifest import Refusal
from onmodel.errors import InputError
from onmodel.hashing import hash_json, sha256_bytes, sha256_file
from onmodel.policy import check_text

SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
MIN_SIDE = 16
MAX_PIXELS = 64_000_000
MAX_ASPECT = 4.0
MAX_BYTES = 256 * 2**20
# 16 bits a channel would be clipped to white when a grey picture is read as 8 bits.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    AttributeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


class Refused(Exception):
    """A file is set aside; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture that may enter: where it is, what its captions say, and where it came from."""

    path: Path
    tags: str
    sentence: str
    origin: str

    @property
    def name(self) -> str:
        """The file's name as text that can be written, whatever bytes it has."""
        return _name(self.path)


@dataclass(frozen=True, slots=True)
class Picture:
    """A checked picture. Width and height as it is shown, after its EXIF turn; `data` are the file's own bytes."""

    data: bytes
    sha256: str
    suffix: str
    width: int
    height: int
    image: Image.Image


def scan_folder(folder: Path, origin: str) -> tuple[list[Candidate], list[Refusal]]:
    """The pictures of one folder (not of folders in it) with their `.txt` captions, by name, and what was refused.

    Hidden files are left alone. Raises InputError when the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError("folder", folder, f"cannot be read ({error.strerror}); name a folder of pictures") from error
    pictures = [path for path in paths if path.suffix.lower() != ".txt"]
    stems = Counter(path.stem for path in pictures)
    found, refused = [], []
    for path in pictures:
        try:
            if stems[path.stem] > 1:
                raise Refused(f"{stems[path.stem]} files share the caption {path.stem}.txt; rename one of them")
            if not path.is_file():  # a folder, a pipe, a link into nothing or into itself
                raise Refused("not a file" if not path.is_dir() else "a folder; name it as a source of its own")
            tags, sentence = _read_caption(path.with_suffix(".txt"))
            found.append(Candidate(path, tags, sentence, origin))
        except Refused as reason:
            refused.append(Refusal(_name(path), str(reason)))
    alone = (path for path in paths if path.suffix.lower() == ".txt" and path.stem not in stems)
    refused += [Refusal(_name(path), "a caption without a picture of its name") for path in alone]
    return found, refused


def check(candidate: Candidate) -> Picture:
    """The decoded picture of a candidate. Raises Refused with the reason when picture or caption may not enter."""
    try:
        check_text(f"{candidate.tags}\n{candidate.sentence}", "caption")
    except InputError as error:
        raise Refused(f"{error.value}: {error.remedy}") from error
    try:
        if candidate.path.stat().st_size > MAX_BYTES:
            raise Refused(f"the file is larger than {MAX_BYTES // 2**20} MiB")
        data = candidate.path.read_bytes()
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})") from error
    if not data:
        raise Refused("the file is empty")
    return decode(data)


def decode(data: bytes) -> Picture:
    """Decode a PNG, JPEG or WebP whole, after a look at its header. Raises Refused with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size and depth are judged here, not by Pillow's warnings
            format = _check_header(data)
            with Image.open(io.BytesIO(data), formats=(format,)) as file:
                file.verify()  # checksums; the picture must then be opened anew
            with Image.open(io.BytesIO(data), formats=(format,)) as file:
                file.load()
                image = ImageOps.exif_transpose(file)
    except UnidentifiedImageError as error:
        raise Refused("not a PNG, JPEG or WebP picture") from error
    except _DECODER_ERRORS as error:
        raise Refused(f"damaged picture ({str(error)[:80] or type(error).__name__})") from error
    if image.mode in _DEEP_MODES:
        raise Refused(f"{image.mode} pixels of more than 8 bits; save it with 8 bits a channel")
    return Picture(data, sha256_bytes(data), SUFFIXES[format], *image.size, image)


def _check_header(data: bytes) -> str:
    """The format; it and the size are judged before a pixel is decoded."""
    with Image.open(io.BytesIO(data), formats=tuple(SUFFIXES)) as file:
        format, (width, height), frames = str(file.format), file.size, getattr(file, "n_frames", 1)
    if format == "MPO":  # a phone's JPEG with a depth map or a second view behind it; the first picture counts
        format, frames = "JPEG", 1
    if width * height > MAX_PIXELS:
        raise Refused(f"{width}×{height} pixels; at most {MAX_PIXELS // 1_000_000} million are read")
    if min(width, height) < MIN_SIDE:
        raise Refused(f"{width}×{height} pixels; the shorter side needs {MIN_SIDE}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused(f"{width}×{height} pixels; cut it to at most {MAX_ASPECT:g} times as long as wide")
    if frames > 1:
        raise Refused(f"animated ({frames} frames); save the frame that you want")
    return format


def _read_caption(path: Path) -> tuple[str, str]:
    try:
        if not path.is_file():
            raise Refused(f"no caption {path.name}")
        with path.open("rb") as file:
            return parse_caption(file.read(MAX_BYTES))
    except OSError as error:
        raise Refused(f"its caption cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise Refused(str(error)) from error


def folder_hash(folder: Path) -> str:
    """A hash of the names and bytes of a folder's files, so that a change in it is noticed."""
    seen = {}
    for path in folder.glob("*"):
        try:
            seen[_name(path)] = sha256_file(path) if path.is_file() else None
        except OSError:
            seen[_name(path)] = None  # it will be refused when it is read
    return hash_json(seen)


def _name(path: Path) -> str:
    return path.name.encode("utf-8", "replace").decode()
