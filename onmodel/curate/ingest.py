"""From a folder of strangers' files to checked pictures with captions. What is not right is set aside with its reason.

A picture is told by its content, not by its ending; the formats of dataset/formats.py alone are decoded. Originals are
never changed: they are turned (EXIF), brought to sRGB and flattened where pixels are needed (dataset/pixels.py).
"""

import io
import struct
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, field_validator

from onmodel.dataset.captions import parse_caption, split_kept, split_tags
from onmodel.dataset.formats import SUFFIXES, format_of, jxl_header, readable, unreadable, upright
from onmodel.dataset.manifest import Refusal
from onmodel.dataset.pixels import WHITE, as_shown, profile_of
from onmodel.errors import InputError
from onmodel.hashing import hash_json, sha256_bytes
from onmodel.policy import check_text
from onmodel.reading import read_bytes

MIN_SIDE = 16
MAX_PIXELS = 64_000_000
MAX_ASPECT = 4.0
MAX_BYTES = 256 * 2**20
# 16 bits a channel would be clipped to white when a grey picture is read as 8 bits.
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    AttributeError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


# Files that other tools keep beside pictures: captions of other programs, and their caches.
_COMPANIONS = (".txt", ".caption", ".npz")


class Refused(Exception):
    """A file is set aside; the text is the reason."""


class Reading(BaseModel):
    """How a folder of pictures is read. What the trainers of the field call these is said in curate/foreign.py.

    Captions lie in files that end in `caption_extension`; a picture without one has `default_caption`, or is refused.
    `caption_prefix` and `caption_suffix` are tags put around it. With `keep_separator`, e.g. "|||", the tags before its
    first and after its second place stay where they are. `trigger` stands for "[trigger]", or before a caption that
    does not hold it. `masks` is a folder with a picture of the same name for each, white where the loss counts;
    `alpha_mask` takes the picture's own transparency. `paper` is the colour that shows through it. Pictures of at most
    `larger_than`² pixels are set aside.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    caption_extension: str = ".txt"
    default_caption: str | None = None
    caption_prefix: str = ""
    caption_suffix: str = ""
    keep_separator: str = ""
    trigger: str = ""
    masks: Path | None = None
    alpha_mask: bool = False
    paper: str = Field(default=WHITE, pattern="^#[0-9a-fA-F]{6}$")
    larger_than: int = Field(default=0, ge=0)

    @field_validator("caption_extension")
    @classmethod
    def _with_dot(cls, extension: str) -> str:
        return extension if extension.startswith(".") else f".{extension}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture that may enter: where it is, what its captions say, and where it came from."""

    path: Path
    tags: str
    sentence: str
    origin: str
    kept_first: int | None = None
    kept_last: int = 0
    mask: Path | None = None
    reading: Reading = field(default_factory=Reading)
    file: str = ""

    @property
    def name(self) -> str:
        """The name that the file came with, as text that can be written, whatever bytes it has."""
        return self.file or _name(self.path)


@dataclass(frozen=True, slots=True)
class Picture:
    """A checked picture: `data` are the file's own bytes, `image` is how it is shown; width and height are its own.

    `paper` is what it lies on where it is transparent, "" where it is not; `profile` the colour profile it carries.
    """

    data: bytes
    sha256: str
    suffix: str
    width: int
    height: int
    image: Image.Image
    paper: str = ""
    profile: str = ""


def scan_folder(folder: Path, origin: str, reading: Reading | None = None) -> tuple[list[Candidate], list[Refusal]]:
    """The pictures of one folder (not of folders in it) with their captions, by name, and what was refused.

    Hidden files and other trainers' caches are left alone. Raises InputError when the folder cannot be read.
    """
    reading = reading or Reading()
    extension = reading.caption_extension.lower()
    paths = _listed(folder, "folder")
    others = [path for path in paths if path.suffix.lower() in _COMPANIONS and path.suffix.lower() != extension]
    captions = [path for path in paths if path.suffix.lower() == extension]
    pictures = [path for path in paths if path not in {*others, *captions, reading.masks}]
    masks = {} if reading.masks is None else {path.stem: path for path in _listed(reading.masks, "masks")}
    stems = Counter(path.stem for path in pictures)
    found, refused = [], []
    for path in pictures:
        try:
            if stems[path.stem] > 1:
                raise Refused(f"{stems[path.stem]} files share the caption {path.stem}{extension}; rename one of them")
            if not path.is_file():  # a folder, a pipe, a link into nothing or into itself
                raise Refused("not a file" if not path.is_dir() else "a folder; name it as a source of its own")
            if reading.masks is not None and path.stem not in masks:
                raise Refused(f"no mask of its name in {reading.masks.name}; an all-white one weighs nothing")
            tags, sentence, first, last = _read_caption(path.with_suffix(reading.caption_extension), reading)
            found.append(Candidate(path, tags, sentence, origin, first, last, masks.get(path.stem), reading))
        except Refused as reason:
            refused.append(Refusal(_name(path), str(reason)))
    alone = (path for path in captions if path.stem not in stems)
    refused += [Refusal(_name(path), "a caption without a picture of its name") for path in alone]
    for suffix, count in sorted(Counter(path.suffix.lower() for path in others).items()):
        why = "caches of another trainer" if suffix == ".npz" else f"captions are read from {extension}"
        refused.append(Refusal(f"{count} × *{suffix}", f"left alone: {why}"))
    return found, refused


def _listed(folder: Path, field: str) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(field, folder, f"cannot be read ({error.strerror}); name a folder of pictures") from error


def check(candidate: Candidate) -> tuple[Picture, Picture | None]:
    """The decoded picture of a candidate and its mask. Raises Refused with the reason when one may not enter."""
    try:
        check_text(f"{candidate.tags}\n{candidate.sentence}", "caption")
    except InputError as error:
        raise Refused(f"{error.value}: {error.remedy}") from error
    picture = decode(_read(candidate.path), candidate.reading.paper)
    if picture.width * picture.height <= (least := candidate.reading.larger_than) ** 2:
        raise Refused(f"{picture.width}×{picture.height} pixels; larger ones than {least}×{least} are wanted")
    if candidate.mask is None:
        return picture, None
    try:
        mask = decode(_read(candidate.mask))
    except Refused as reason:
        raise Refused(f"its mask: {reason}") from reason
    if (mask.width, mask.height) != (picture.width, picture.height):
        raise Refused(f"its mask has {mask.width}×{mask.height} pixels, it has {picture.width}×{picture.height}")
    return picture, mask


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Refused(f"the file is larger than {MAX_BYTES // 2**20} MiB")
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})") from error
    if not data:
        raise Refused("the file is empty")
    return data


def decode(data: bytes, paper: str = WHITE) -> Picture:
    """Decode a picture whole, after a look at its header. Raises Refused with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # size and depth are judged here, not by Pillow's warnings
            format = _check_header(data)
            if format == "PNG":
                with Image.open(io.BytesIO(data), formats=(format,)) as file:
                    file.verify()  # checksums; the picture must then be opened anew
            with Image.open(io.BytesIO(data), formats=(format,)) as file:
                file.load()
                image = upright(file)
    except UnidentifiedImageError as error:
        raise Refused(unreadable(data)) from error
    except _DECODER_ERRORS as error:
        told = str(error)[:80].partition(" Please build")[0]  # libjxl's advice to those who made its plugin
        raise Refused(f"damaged picture ({told or type(error).__name__})") from error
    if image.mode in _DEEP_MODES:
        raise Refused(f"{image.mode} pixels of more than 8 bits; save it with 8 bits a channel")
    return Picture(
        data, sha256_bytes(data), SUFFIXES[format], *image.size, as_shown(image, paper),
        paper.lower() if image.has_transparency_data else "", profile_of(image),
    )  # fmt: skip


def _check_header(data: bytes) -> str:
    """The format; it and the size are judged before a pixel is decoded."""
    several = ""
    if (format := format_of(data)) == "JXL" and format in readable():
        width, height, animated = jxl_header(data)
        several = "animated" if animated else ""
    else:
        with Image.open(io.BytesIO(data), formats=readable()) as file:
            format, (width, height), frames = str(file.format), file.size, getattr(file, "n_frames", 1)
        if format == "MPO":  # a phone's JPEG with a depth map or a second view behind it; the first picture counts
            format = "JPEG"
        elif frames > 1:
            several = f"{frames} pictures in one file" if format == "HEIF" else f"animated ({frames} frames)"
    if width * height > MAX_PIXELS:
        raise Refused(f"{width}×{height} pixels; at most {MAX_PIXELS // 1_000_000} million are read")
    if min(width, height) < MIN_SIDE:
        raise Refused(f"{width}×{height} pixels; the shorter side needs {MIN_SIDE}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused(f"{width}×{height} pixels; cut it to at most {MAX_ASPECT:g} times as long as wide")
    if several:
        raise Refused(f"{several}; save the one that you want")
    return format


def _read_caption(path: Path, reading: Reading) -> tuple[str, str, int | None, int]:
    """Tags, sentence, and how many tags stay in front and at the end."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                tags, sentence = parse_caption(file.read(MAX_BYTES))
        elif reading.default_caption is not None:
            tags, sentence = reading.default_caption, ""
        else:
            raise Refused(f"no caption {path.name}")
    except OSError as error:
        raise Refused(f"its caption cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise Refused(str(error)) from error
    tags = _joined(reading.caption_prefix, tags, reading.caption_suffix)
    if reading.trigger:
        tags, sentence = (text.replace("[trigger]", reading.trigger) for text in (tags, sentence))
        if reading.trigger not in tags:
            tags = _joined(reading.trigger, tags)
    tags, first, last = split_kept(tags, reading.keep_separator)
    return ", ".join(split_tags(tags)), sentence, first, last


def _joined(*parts: str) -> str:
    """Lists of tags one after another."""
    return ", ".join(text for part in parts if (text := part.strip(" ,")))


def folder_hash(folder: Path) -> str:
    """A hash of the names and bytes of a folder's files, so that a change in it is noticed."""
    seen = {}
    for path in folder.glob("*"):
        try:
            seen[_name(path)] = sha256_bytes(read_bytes(path, "folder", MAX_BYTES)) if path.is_file() else None
        except (OSError, InputError):
            seen[_name(path)] = None  # it will be refused when it is read
    return hash_json(seen)


def _name(path: Path) -> str:
    return path.name.encode("utf-8", "replace").decode()
