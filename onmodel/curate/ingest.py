"""Read a folder of picture and caption files from elsewhere. Files that cannot be used are refused
with the reason.

Formats are recognised by content, not by suffix; only those of dataset/formats.py are decoded
(dataset/decoding.py). Links to pictures are followed; a link to a caption outside its folder is
not. Originals are never changed: rotation (EXIF), sRGB and background are applied where pixels are
read (dataset/pixels.py).
"""

import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, field_validator

from onmodel.curate.caption_files import CaptionFiles, FoundCaption
from onmodel.curate.listing import (
    MASK_FOLDERS,
    SHOWN,
    Listing,
    left_alone,
    list_folder,
    masks_in,
    masks_of,
    split_masks,
)
from onmodel.curate.provenance import NAME as PROVENANCE
from onmodel.dataset.captions import says_word, split_kept, split_tags
from onmodel.dataset.decoding import MAX_BYTES, Decode, DecodedPicture, Refused, decode
from onmodel.dataset.manifest import Refusal
from onmodel.dataset.pixels import WHITE
from onmodel.errors import InputError
from onmodel.hashing import hash_json, sha256_file
from onmodel.paths import folded
from onmodel.policy import check_text
from onmodel.reading import read_bytes, read_text
from onmodel.text import printable
from onmodel.validation import StrictTable

BLACK = "#000000"


class Reading(StrictTable):
    """How a folder of pictures is read. The names in other trainers are in curate/other_tools/."""

    caption_extension: str = Field(default=".txt", description="Ending of caption files.")
    default_caption: str | None = Field(
        default=None,
        description=("Caption of pictures without a caption. Unset: the trigger alone."),
    )
    default_only: bool = Field(
        default=False, description="Use `default_caption` for every picture."
    )
    join_lines: str | None = Field(
        default=None,
        description=(
            'Read the whole file as one caption, its lines joined by this text, e.g. ", ". Unset: '
            "the first line holds tags, the others the sentence."
        ),
    )
    table_first: bool = Field(
        default=False,
        description="Prefer a table such as captions.json to the files beside pictures.",
    )
    caption_prefix: str = Field(default="", description="Tags put before every caption.")
    prefix_stays: bool = Field(
        default=False, description="Keep the tags of `caption_prefix` in front of shuffled ones."
    )
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
            "Folder with a mask of the same name for each picture; white counts in the loss. "
            "Unset: masks named NAME-masklabel.png, NAME_mask.png, mask_NAME.png or masks/NAME.png "
            "are used."
        ),
    )
    alpha_mask: bool = Field(
        default=False, description="Use the picture's own transparency as the mask."
    )
    background: str = Field(
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
        if not re.fullmatch(r"\.?[^./\\\0]+(\.[^./\\\0]+)*", extension):
            raise ValueError('is not the ending of a file; write e.g. ".txt"')
        return extension if extension.startswith(".") else f".{extension}"


@dataclass(frozen=True, slots=True)
class SourcePicture:
    """A picture file that a source offers, not decoded yet: its path, captions, mask and origin.
    `captioned` is false where neither a caption nor `default_caption` exists."""

    path: Path
    tags: tuple[str, ...]
    sentence: str
    origin: str
    kept_first: int | None = None
    kept_last: int = 0
    mask: Path | None = None
    reading: Reading = field(default_factory=Reading)
    file: str = ""
    captioned: bool = True

    @property
    def name(self) -> str:
        """The name that the file came with, as text that can be written, whatever bytes it has."""
        return self.file or printable(self.path.name)


class FolderScan(NamedTuple):
    """What a folder offers. `pictures` and `refused` are sorted by name; `notes` say what is left
    alone and where captions come from. `uncaptioned` and `masks` count pictures without a caption,
    and masks that are found by their names."""

    pictures: list[SourcePicture]
    refused: list[Refusal]
    notes: list[str]
    uncaptioned: int
    masks: int


def scan_folder(folder: Path, origin: str, reading: Reading | None = None) -> FolderScan:
    """The pictures of one folder with their captions, and what else lies there.

    Folders inside it, hidden files and files that are not pictures are left alone. Raises
    InputError when the folder cannot be read.
    """
    reading = reading or Reading()
    listing = list_folder(folder)
    captions = CaptionFiles(
        listing, reading.caption_extension, reading.join_lines, reading.table_first
    )
    everything = [*listing.pictures, *listing.doubtful]
    captioned = [path.stem for path in everything if captions.beside(path)]
    pictures, masks, further = split_masks(listing, captioned)
    by_name = 0 if reading.masks else len(masks)
    if reading.masks is not None:
        masks = masks_of([path.stem for path in everything], masks_in(reading.masks))
    stems = Counter(path.stem for path in pictures)
    found, refused, uncaptioned = [], [], 0
    for path in sorted([*pictures, *listing.doubtful], key=lambda path: path.name):
        try:
            if path.stem in stems and stems[path.stem] > 1:
                raise Refused(
                    f"{stems[path.stem]} pictures share the caption"
                    f" {path.stem}{reading.caption_extension}; rename one of them"
                )
            _check_kind(path)
            if reading.masks is not None and path.stem not in masks:
                raise Refused(
                    f"no mask of its name in {reading.masks.name}; an all-white one weighs nothing"
                )
            caption = None if reading.default_only else _caption_of(path, captions)
            uncaptioned += caption is None and not reading.default_only
            found.append(_source_picture(path, caption, origin, masks.get(path.stem), reading))
        except Refused as reason:
            refused.append(Refusal(printable(path.name), printable(reason)))
    refused += _lone_captions(listing, captions, reading.caption_extension)
    return FolderScan(
        found, refused, _notes(listing, captions, further, reading), uncaptioned, by_name
    )


def _source_picture(
    path: Path, caption: FoundCaption | None, origin: str, mask: Path | None, reading: Reading
) -> SourcePicture:
    """A picture with its caption as `reading` wants it."""
    tags = caption.tags if caption else reading.default_caption or ""
    sentence = caption.sentence if caption else ""
    first = len(split_tags(reading.caption_prefix)) if reading.prefix_stays else None
    tags = _joined(reading.caption_prefix, tags, reading.caption_suffix)
    if reading.trigger:
        tags, sentence = (text.replace("[trigger]", reading.trigger) for text in (tags, sentence))
        if not says_word(tags, reading.trigger):
            tags = _joined(reading.trigger, tags)
    tags, front, last = split_kept(tags, reading.keep_separator)
    return SourcePicture(
        path,
        tuple(split_tags(tags)),
        sentence,
        origin,
        first if front is None else front,
        last,
        mask,
        reading,
        captioned=caption is not None or reading.default_caption is not None,
    )


def _caption_of(path: Path, captions: CaptionFiles) -> FoundCaption | None:
    """The caption of a picture. Raises Refused for one that cannot be read."""
    try:
        return captions.of(path)
    except InputError as error:
        raise Refused(f"its caption: {error.remedy}") from error
    except ValueError as error:
        raise Refused(str(error)) from error


def _lone_captions(listing: Listing, captions: CaptionFiles, extension: str) -> list[Refusal]:
    """Caption files that belong to no picture, or are the second of one."""
    stems = {folded(path.stem): path for path in (*listing.pictures, *listing.doubtful)}
    refused = []
    for path in listing.files:
        if path.name.lower().endswith(extension.lower()) and path not in captions.seen:
            stem = folded(path.name[: -len(extension)])
            why = "a caption without a picture of its name"
            if stem in stems:
                why = f"left alone: another file is the caption of {stems[stem].name}"
            elif _lists_pictures(path, listing):
                why = (
                    "a list of captions, which is not read; save it as metadata.csv with the"
                    " columns file_name and text"
                )
            refused.append(Refusal(printable(path.name), printable(why)))
    return refused


def _lists_pictures(path: Path, listing: Listing) -> bool:
    """Whether lines of a text begin with the names of pictures."""
    try:
        text = read_text(path, "captions")
    except InputError:
        return False
    lines = text.splitlines()
    return any(line.startswith(picture.name) for line in lines for picture in listing.pictures)


def _notes(
    listing: Listing, captions: CaptionFiles, further: Sequence[Path], reading: Reading
) -> list[str]:
    """What is left alone in a folder, and where its captions come from."""
    extension = reading.caption_extension.lower()
    strays = [
        path
        for path in listing.files
        if path not in captions.seen
        and not path.name.lower().endswith(extension)
        and path.name != PROVENANCE
    ]
    used = (*MASK_FOLDERS, reading.masks.name.lower() if reading.masks else "")
    folders = [path for path in listing.folders if path.name.lower() not in used]
    notes = captions.summary() + left_alone(strays, "beside the pictures")
    notes += left_alone(further, "as further masks or masks of no picture")
    if folders:
        names = ", ".join(printable(path.name) for path in folders[:SHOWN])
        more = f" and {len(folders) - SHOWN} more" if len(folders) > SHOWN else ""
        notes.append(f"left alone, folders inside: {names}{more}")
    return notes


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
    picture = decode(_read(candidate.path), candidate.reading.background)
    if picture.width * picture.height <= (least := candidate.reading.larger_than) ** 2:
        raise Refused(
            f"{picture.width}×{picture.height} pixels; larger ones than {least}×{least} are wanted"
        )
    if candidate.mask is None:
        return picture, None
    try:
        mask = decode(_read(candidate.mask), BLACK)  # transparent parts count as black
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
