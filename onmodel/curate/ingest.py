"""Read a folder of picture and caption files from elsewhere. Files that cannot be used are refused
with the reason.

Formats are recognised by content, not by suffix; only those of dataset/formats.py are decoded
(dataset/decoding.py). Links to pictures are followed; a link to a caption outside its folder is
not. Originals are never changed: rotation (EXIF), sRGB and background are applied where pixels are
read (dataset/pixels.py).
"""

import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, field_validator

from onmodel.dataset.captions import parse_caption, split_kept, split_tags
from onmodel.dataset.decoding import MAX_BYTES, Decode, DecodedPicture, Refused, decode
from onmodel.dataset.manifest import Refusal
from onmodel.dataset.pixels import WHITE
from onmodel.errors import InputError
from onmodel.hashing import hash_json, sha256_file
from onmodel.paths import leads_out
from onmodel.policy import check_text
from onmodel.reading import read_bytes
from onmodel.text import printable
from onmodel.validation import StrictTable

LARGEST_CAPTION = 2**20  # bytes that are read of one; parse_caption says how many it may have
# Files that other tools keep beside pictures: captions of other programs, and their caches.
_COMPANIONS = (".txt", ".caption", ".npz")


class Reading(StrictTable):
    """How a folder of pictures is read. The names in other trainers are in curate/other_tools/."""

    caption_extension: str = Field(default=".txt", description="Ending of caption files.")
    default_caption: str | None = Field(
        default=None,
        description=(
            "Caption of pictures without a caption file. Unset: such pictures are refused."
        ),
    )
    caption_prefix: str = Field(default="", description="Tags put before every caption.")
    caption_suffix: str = Field(default="", description="Tags put after every caption.")
    keep_separator: str = Field(
        default="",
        description=(
            'Tags before the first and after the second occurrence, e.g. "|||", are not shuffled.'
        ),
    )
    trigger: str = Field(
        default="",
        description='Word that replaces "[trigger]", or is put before captions that lack it.',
    )
    masks: Path | None = Field(
        default=None,
        description=(
            "Folder with a mask of the same name for each picture; white counts in the loss."
        ),
    )
    alpha_mask: bool = Field(
        default=False, description="Use the picture's own transparency as the mask."
    )
    paper: str = Field(
        default=WHITE,
        pattern="^#[0-9a-fA-F]{6}$",
        description="Colour behind transparent pixels, as #rrggbb.",
    )
    larger_than: int = Field(
        default=0,
        ge=0,
        description="Exclude pictures of at most this many pixels squared. 0: none.",
    )

    @field_validator("caption_extension")
    @classmethod
    def _with_dot(cls, extension: str) -> str:
        return extension if extension.startswith(".") else f".{extension}"


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """A picture file that a source offers, not decoded yet: its path, captions, mask and origin."""

    path: Path
    tags: tuple[str, ...]
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
        return self.file or printable(self.path.name)


def scan_folder(
    folder: Path, origin: str, reading: Reading | None = None
) -> tuple[list[SourcePicture], list[Refusal]]:
    """The pictures of one folder with their captions, sorted by name, and the refused files.

    Folders inside it, hidden files and other trainers' caches are not read. Raises InputError when
    the folder cannot be read.
    """
    reading = reading or Reading()
    extension = reading.caption_extension.lower()
    captions: dict[str, Path] = {}
    pictures, others, found, refused = [], [], [], []
    for path in _listed(folder, "folder"):
        if path.name[-len(extension) :].lower() == extension:
            stem = path.name[: -len(extension)]
            if stem in captions:
                refused.append(
                    Refusal(
                        printable(path.name), f"left alone: {captions[stem].name} is the caption"
                    )
                )
            else:
                captions[stem] = path
        elif path.suffix.lower() in _COMPANIONS:
            others.append(path)
        elif path != reading.masks:
            pictures.append(path)
    masks = (
        {}
        if reading.masks is None
        else {path.stem: path for path in _listed(reading.masks, "masks")}
    )
    stems = Counter(path.stem for path in pictures)
    for path in pictures:
        try:
            if stems[path.stem] > 1:
                raise Refused(
                    f"{stems[path.stem]} files share the caption {path.stem}{extension}; rename one"
                    " of them"
                )
            _check_kind(path)
            if reading.masks is not None and path.stem not in masks:
                raise Refused(
                    f"no mask of its name in {reading.masks.name}; an all-white one weighs nothing"
                )
            tags, sentence, first, last = _read_caption(path, captions.get(path.stem), reading)
            found.append(
                SourcePicture(
                    path, tags, sentence, origin, first, last, masks.get(path.stem), reading
                )
            )
        except Refused as reason:
            refused.append(Refusal(printable(path.name), printable(reason)))
    alone = (path for stem, path in captions.items() if stem not in stems)
    refused += [
        Refusal(printable(path.name), "a caption without a picture of its name") for path in alone
    ]
    for suffix, count in sorted(Counter(path.suffix.lower() for path in others).items()):
        why = (
            "caches of another trainer"
            if suffix == ".npz"
            else f"captions are read from {extension}"
        )
        refused.append(Refusal(f"{count} × *{suffix}", f"left alone: {why}"))
    return found, refused


def _listed(folder: Path, field: str) -> list[Path]:
    try:
        return sorted(
            (path for path in folder.iterdir() if not path.name.startswith(".")),
            key=lambda path: path.name,
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            field, folder, f"cannot be read ({why}); name a folder of pictures"
        ) from error


def _check_kind(path: Path) -> None:
    """Raise Refused for a folder, a pipe, a device, a link into nothing or into itself."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise Refused(f"not a file that can be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        raise Refused(
            "a folder; name it as a source of its own" if stat.S_ISDIR(mode) else "not a file"
        )


def check(
    candidate: SourcePicture, decode: Decode = decode
) -> tuple[DecodedPicture, DecodedPicture | None]:
    """The decoded picture of a candidate and its mask. Raises Refused with the reason when one may
    not enter.

    For files of others `decode` is a Decoder, which has a process of its own.
    """
    try:
        check_text(f"{', '.join(candidate.tags)}\n{candidate.sentence}", "caption")
    except InputError as error:
        raise Refused(f"{error.value}: {error.remedy}") from error
    picture = decode(_read(candidate.path), candidate.reading.paper)
    if picture.width * picture.height <= (least := candidate.reading.larger_than) ** 2:
        raise Refused(
            f"{picture.width}×{picture.height} pixels; larger ones than {least}×{least} are wanted"
        )
    if candidate.mask is None:
        return picture, None
    try:
        mask = decode(_read(candidate.mask), WHITE)
    except Refused as reason:
        raise Refused(f"its mask: {reason}") from reason
    if (mask.width, mask.height) != (picture.width, picture.height):
        raise Refused(
            f"its mask has {mask.width}×{mask.height} pixels, it has"
            f" {picture.width}×{picture.height}"
        )
    return picture, mask


def _read(path: Path) -> bytes:
    try:
        data = read_bytes(path, "picture", MAX_BYTES)
    except InputError as error:
        raise Refused(error.remedy) from error
    if not data:
        raise Refused("the file is empty")
    return data


def _read_caption(
    picture: Path, path: Path | None, reading: Reading
) -> tuple[tuple[str, ...], str, int | None, int]:
    """Tags, sentence, and the numbers of first and last tags that keep their place. Raises
    Refused."""
    try:
        if path is not None:
            if leads_out(path, picture.parent):
                raise Refused(
                    f"its caption {path.name} is a link out of its folder; put the file itself"
                    " there"
                )
            tags, sentence = parse_caption(read_bytes(path, "caption", LARGEST_CAPTION))
        elif reading.default_caption is not None:
            tags, sentence = reading.default_caption, ""
        else:
            raise Refused(f"no caption {picture.stem}{reading.caption_extension}")
    except InputError as error:
        raise Refused(f"its caption: {error.remedy}") from error
    except ValueError as error:
        raise Refused(str(error)) from error
    tags = _joined(reading.caption_prefix, tags, reading.caption_suffix)
    if reading.trigger:
        tags, sentence = (text.replace("[trigger]", reading.trigger) for text in (tags, sentence))
        if reading.trigger not in tags:
            tags = _joined(reading.trigger, tags)
    tags, first, last = split_kept(tags, reading.keep_separator)
    return tuple(split_tags(tags)), sentence, first, last


def _joined(*parts: str) -> str:
    """Lists of tags one after another."""
    return ", ".join(text for part in parts if (text := part.strip(" ,")))


def folder_hash(folder: Path) -> str:
    """A hash of the names and bytes of a folder's files, so that a change in it is noticed."""
    seen: dict[str, str | None] = {}
    for path in folder.glob("*"):
        try:
            kind = path.stat()
            small = stat.S_ISREG(kind.st_mode) and kind.st_size <= MAX_BYTES
            seen[printable(path.name)] = sha256_file(path) if small else None
        except OSError:
            seen[printable(path.name)] = None  # it will be refused when it is read
    return hash_json(seen)
