"""Folders of this machine that a character can use: those below the folders that `onmodel studio
--root` names. The browser sees their names and ids."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.dataset.formats import PICTURE_ENDINGS
from onmodel.errors import InputError
from onmodel.hashing import sha256_bytes

DEEPEST = 3  # levels below a root
MOST_FOLDERS = 2_000  # that are looked at
_TAGGER = ("model.onnx", "selected_tags.csv")
_DETECTOR = "model.onnx"
_MODELS = ("diffusion_models", "unet", "checkpoints")  # inside ComfyUI's models/


@dataclass(frozen=True, slots=True)
class RootFolder:
    """A folder below a root; `name` begins with the root's own name. `detector`: it
    holds a model that may be one."""

    id: str
    name: str
    path: Path
    comfyui: bool
    pictures: bool
    tagger: bool
    detector: bool


def folders(roots: Sequence[Path]) -> list[RootFolder]:
    """ComfyUI folders, taggers in WD v3 format, other ONNX models, and folders that hold pictures,
    by name. Links are not followed."""
    found = [_folder(root, path) for root in roots for path in _below(root)]
    known = {
        row.id: row for row in found if row.comfyui or row.pictures or row.tagger or row.detector
    }
    return sorted(known.values(), key=lambda row: row.name.casefold())


def folder_of(roots: Sequence[Path], id: str, field: str) -> Path:
    """The folder with this id. Raises InputError about `field` for any other."""
    for row in folders(roots):
        if row.id == id:
            return row.path
    raise InputError(field, id, "is not below a --root any more; reload the page")


def copy_pictures(source: Path, target: Path) -> None:
    """Copy a folder's files; hidden ones and links are left out."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        return [
            name
            for name in names
            if name.startswith(".") or os.path.islink(os.path.join(folder, name))
        ]

    shutil.copytree(source, target, ignore=left_out, dirs_exist_ok=True)


def fullest_folder(folder: Path) -> Path:
    """The folder, or the one below it, that holds the most pictures: a first recipe trains on it.
    A dropped folder and an unpacked zip lie below."""
    best, most = folder, 0
    for root, inner, names in os.walk(folder):
        inner.sort()
        count = sum(Path(name).suffix.lower() in PICTURE_ENDINGS for name in names)
        if count > most:
            best, most = Path(root), count
    return best


def _below(root: Path) -> Iterator[Path]:
    """The root and the folders below it, the upper ones first."""
    level, count = [root], 0
    for _ in range(DEEPEST + 1):
        inner: list[Path] = []
        for folder in level:
            count += 1
            if count > MOST_FOLDERS:
                return
            yield folder
            inner += _inner(folder)
        level = inner


def _inner(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(entry.path)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            )
    except OSError:  # one that may not be read
        return []


def _folder(root: Path, path: Path) -> RootFolder:
    id = sha256_bytes(os.fsencode(path))[:12]
    name = path.relative_to(root.parent).as_posix()
    comfyui = any((path / "models" / inner).is_dir() for inner in _MODELS)
    tagger = all((path / file).is_file() for file in _TAGGER)
    detector = not tagger and (path / _DETECTOR).is_file()
    return RootFolder(id, name, path, comfyui, _holds_pictures(path), tagger, detector)


def _holds_pictures(path: Path) -> bool:
    """By the names alone: a root may hold many thousand pictures."""
    try:
        with os.scandir(path) as entries:
            return any(Path(entry.name).suffix.lower() in PICTURE_ENDINGS for entry in entries)
    except OSError:
        return False
