"""The folders of ComfyUI, Forge and SwarmUI, in which families find their files by their keys and
not by their names."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from onmodel.errors import InputError
from onmodel.reading import read_yaml
from onmodel.weights import Stored, read_header

FIELD = "base.comfyui"
# SwarmUI brings a ComfyUI along.
_ROOTS = (".", "dlbackend/comfy/ComfyUI", "dlbackend/ComfyUI", "ComfyUI")
WEIGHTS, GGUF = (".safetensors", ".sft"), ".gguf"

Header = dict[str, Stored]


def roots_of(comfyui: Path) -> list[Path]:
    """The installations in a folder. Raises InputError for one that is not there."""
    given = comfyui.expanduser()
    if not given.is_dir():
        raise InputError(FIELD, given, "no such folder; name the one that ComfyUI is installed in")
    whole = any((given / inner).is_dir() for inner in _ROOTS[1:])
    if given.name.lower() == "models" and not whole:  # the folder within
        given = given.parent
    return [given / inner for inner in _ROOTS if (given / inner).is_dir()]


def weight_files(roots: Collection[Path], kinds: Collection[str]) -> list[Path]:
    """The safetensors and GGUF files in the folders of these kinds below models/, each once,
    sorted; names of folders in lower case."""
    files: dict[Path, Path] = {}
    for folder in [*_model_folders(roots, kinds), *_extra_folders(roots, kinds)]:
        for path in _below(folder):
            if path.suffix.lower() in (*WEIGHTS, GGUF):
                files.setdefault(path.resolve(), path)
    return list(files.values())


def header_of(path: Path) -> Header:
    """The tensors of a file; none of a damaged one, which no part is taken from."""
    try:
        return read_header(path, FIELD)[0]
    except InputError:
        return {}


def _below(folder: Path) -> Iterator[Path]:
    """The files below a folder. Links to folders are followed, as in ComfyUI, each folder once."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(place) / name for name in sorted(names))


def _model_folders(roots: Collection[Path], kinds: Collection[str]) -> Iterator[Path]:
    for root in roots:
        for models in (root / "models", root / "Models"):
            for folder in sorted(models.iterdir()) if models.is_dir() else ():
                if folder.name.lower() in kinds and folder.is_dir():
                    yield folder


def _extra_folders(roots: Collection[Path], kinds: Collection[str]) -> Iterator[Path]:
    """The folders of ComfyUI's extra_model_paths.yaml: sections with a base_path and, for each
    kind of model, one folder in a line."""
    for root in roots:
        path = root / "extra_model_paths.yaml"
        if not path.is_file():
            continue
        table = read_yaml(path, FIELD)
        for section in table.values() if isinstance(table, dict) else ():
            if not isinstance(section, dict):
                continue
            base = root / Path(os.path.expandvars(str(section.get("base_path", ".")))).expanduser()
            for kind in kinds:
                for line in str(section.get(kind) or "").splitlines():
                    if line.strip() and (base / line.strip()).is_dir():
                        yield base / line.strip()
