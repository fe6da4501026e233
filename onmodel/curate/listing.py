"""What lies in a folder of pictures: pictures by their content, masks, and everything else.

Import, recipes, the doctor, zips and sd-scripts' folders all ask here.
"""

import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.dataset.formats import BEGINNING, HEAD, PICTURE_ENDINGS
from onmodel.errors import InputError
from onmodel.paths import folded, leads_out
from onmodel.text import printable

MOST_REPEATS = 100_000
DEEPEST = 3  # folders that lie around the pictures
SHOWN = 12  # kinds of files that a line names
MASK_FOLDERS = ("masks", "mask")
# OneTrainer: NAME-masklabel.png and further ones with a number; others: NAME_mask.png.
_MASK = re.compile(r"(.+?)(?:[-_.]masklabel|[-_.]mask|[-_.]condlabel)(\d?)", re.I | re.S)
_MASK_BEFORE = re.compile(r"mask[-_](.+)()", re.I | re.S)  # mask_NAME.png
_CONDITION = re.compile(r"condlabel\d?$", re.I)
_NUMBERED = re.compile(r"(\d+)_(.*)", re.S)


@dataclass(frozen=True)
class Listing:
    """The content of a folder, each list sorted by name. Hidden files are left out.

    `pictures` begin as a picture that can be read; `doubtful` have the ending of one and are
    refused when they are read. `files` are all others, `folders` the folders inside.
    """

    folder: Path
    pictures: Sequence[Path]
    doubtful: Sequence[Path]
    files: Sequence[Path]
    folders: Sequence[Path]


def list_folder(folder: Path, field: str = "folder") -> Listing:
    """What lies in a folder. Raises InputError about `field` when it cannot be read."""
    try:
        paths = sorted(
            (path for path in folder.iterdir() if not path.name.startswith(".")),
            key=lambda path: path.name,
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            field, folder, f"cannot be read ({why}); name a folder of pictures"
        ) from error
    pictures, doubtful, files, folders = [], [], [], []
    for path in paths:
        mode = _mode(path)
        ending = path.suffix.lower() in PICTURE_ENDINGS
        if stat.S_ISREG(mode) and BEGINNING.match(_head(path)):
            pictures.append(path)
        elif ending:
            doubtful.append(path)
        elif stat.S_ISDIR(mode):
            folders.append(path)
        else:
            files.append(path)
    return Listing(folder, pictures, doubtful, files, folders)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


@dataclass(frozen=True)
class FolderLayout:
    """How the pictures of a place lie: `numbered` folders as sd-scripts has them, or `folders` of
    which each is a subset. `links` are folders elsewhere; `left` is what is left alone."""

    root: Path
    numbered: bool
    folders: Sequence[Path]
    links: Sequence[Path] = ()
    left: Sequence[Path] = ()


def layout_of(place: Path, field: str = "folder") -> FolderLayout:
    """The layout of a place: numbered folders, wherever one is called `10_name`; else the pictures
    of the place itself; else those of its folders. Raises InputError when it cannot be read."""
    root = pictures_root(place, field)
    listing = list_folder(root, field)
    if any(map(repeats_of, listing.folders)):
        return FolderLayout(root, True, ())
    if listing.pictures or listing.doubtful:
        return FolderLayout(root, False, (root,))
    links = [path for path in (*listing.folders, *listing.files) if leads_out(path, root)]
    folders: list[Path] = []
    left = [path for path in listing.files if path not in links]
    for path in listing.folders:
        wanted = holds_pictures(path) and path.name.lower() not in MASK_FOLDERS
        if path not in links:
            (folders if wanted else left).append(path)
    deeper = [path.name for path in left if path.is_dir() and _leads_to_pictures(path)]
    deeper = [name for name in deeper if name.lower() not in MASK_FOLDERS]
    if deeper and not folders:
        names = ", ".join(map(printable, deeper[:SHOWN]))
        raise InputError(field, place, f"the pictures lie deeper, in {names}; name one of these")
    tables = [] if folders else sorted(root.rglob("*.parquet"))
    if tables:
        remedy = (
            f"{printable(tables[0].name)} is a table, which is not read; save its pictures as files"
            " with a caption .txt or a metadata.jsonl beside them"
        )
        raise InputError(field, place, remedy)
    return FolderLayout(root, False, folders, links, left)


def pictures_root(folder: Path, field: str = "folder") -> Path:
    """The folder that holds the pictures or their folders: below `folder` where nothing else there
    leads to pictures."""
    for _ in range(DEEPEST):
        listing = list_folder(folder, field)
        if listing.pictures or listing.doubtful or any(map(repeats_of, listing.folders)):
            return folder
        own = [path for path in listing.folders if not leads_out(path, folder)]
        inner = [path for path in own if _holds_numbered(path)]
        inner = inner or [path for path in own if _leads_to_pictures(path)]
        if len(inner) != 1 or (holds_pictures(inner[0]) and not _holds_numbered(inner[0])):
            return folder
        folder = inner[0]
    return folder


def _holds_numbered(folder: Path) -> bool:
    """Whether a folder is sd-scripts' layout."""
    try:
        return any(map(repeats_of, list_folder(folder).folders))
    except InputError:
        return False


def _leads_to_pictures(folder: Path, depth: int = 2) -> bool:
    """Whether pictures lie in a folder, or in one of its folders."""
    try:
        listing = list_folder(folder)
    except InputError:
        return False
    if listing.pictures or listing.doubtful:
        return True
    inner = [path for path in listing.folders if not leads_out(path, folder)]
    return depth > 0 and any(_leads_to_pictures(path, depth - 1) for path in inner)


def repeats_of(folder: Path) -> tuple[int, str] | None:
    """The repeats and the name of a folder called as sd-scripts does, `10_name` or `10_`, which is
    its own name; None for another name."""
    match = _NUMBERED.fullmatch(folder.name)
    if match is None or not 1 <= int(match[1]) <= MOST_REPEATS:
        return None
    return int(match[1]), match[2] or folder.name


def holds_pictures(folder: Path) -> bool:
    """Whether a picture, or what should be one, lies in a folder."""
    try:
        listing = list_folder(folder)
    except InputError:
        return False
    return bool(listing.pictures or listing.doubtful)


def split_masks(
    listing: Listing, captioned: Iterable[str]
) -> tuple[list[Path], dict[str, Path], list[Path]]:
    """The pictures without masks, stem → mask, and the other masks: further ones of pictures that
    have one, and those of no picture.

    A mask is called after its picture (`NAME-masklabel.png`, `NAME_mask.png`, `mask_NAME.png`) or
    lies under its name in `masks/`. A picture with a caption of its own (its stem in `captioned`)
    is no mask.
    """
    stems = {path.stem for path in listing.pictures}
    own = set(captioned)
    pictures: list[Path] = []
    masks: dict[str, Path] = {}
    further: list[Path] = []
    for path in listing.pictures:
        match = _MASK.fullmatch(path.stem) or _MASK_BEFORE.fullmatch(path.stem)
        if match is None or match[1] not in stems or path.stem in own:
            pictures.append(path)
        elif match[1] in masks or match[2] or _CONDITION.search(path.stem):
            further.append(path)
        else:
            masks[match[1]] = path
    for folder in listing.folders:
        if folder.name.lower() in MASK_FOLDERS and not leads_out(folder, listing.folder):
            named = masks_in(folder)
            found = masks_of(stems, named)
            further += sorted(set(named.values()) - set(found.values()))
            masks = found | masks
    return pictures, masks, further


def masks_of(stems: Collection[str], masks: Mapping[str, Path]) -> dict[str, Path]:
    """Stem of a picture → its mask. Names are compared without case and Unicode form, where they
    differ in nothing else."""
    counts = Counter(map(folded, stems))
    alike = {folded(stem): path for stem, path in masks.items()}
    found = {}
    for stem in stems:
        same = alike.get(folded(stem)) if counts[folded(stem)] == 1 else None
        if (path := masks.get(stem, same)) is not None:
            found[stem] = path
    return found


def masks_in(folder: Path, field: str = "masks") -> dict[str, Path]:
    """Stem of a picture → its mask in a folder of masks, named as the picture, `NAME_mask` or
    `mask_NAME`. Raises InputError when the folder cannot be read."""
    listing = list_folder(folder, field)
    found: dict[str, Path] = {}
    paths = [*listing.pictures, *listing.doubtful, *listing.files, *listing.folders]
    for path in paths:
        found.setdefault(path.stem, path)
        match = _MASK.fullmatch(path.stem) or _MASK_BEFORE.fullmatch(path.stem)
        if match is not None and not match[2] and not _CONDITION.search(path.stem):
            found.setdefault(match[1], path)
    return found


def left_alone(paths: Iterable[Path], where: str) -> list[str]:
    """One line that counts the files by ending; none without any. `where`: where they lie, or what
    they are."""
    counts = Counter(path.suffix.lower() or path.name for path in paths)
    if not counts:
        return []
    kinds = ", ".join(f"{number} × {printable(kind)}" for kind, number in counts.most_common(SHOWN))
    more = f" and {len(counts) - SHOWN} more kinds" if len(counts) > SHOWN else ""
    return [f"left alone {where}: {kinds}{more}"]


def by_folded_name(paths: Iterable[Path]) -> Mapping[str, list[Path]]:
    """Name without case and Unicode form → the files that have it."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(folded(path.name), []).append(path)
    return found
