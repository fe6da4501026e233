"""Tensors kept on the disk between two attempts of a stage, sealed: what comes back is what was
written, or an error.

A sealed set is a safetensors file named by its content and one JSON written after it. A kill
between the two leaves the older pair in force. Without the JSON there is nothing; with it, a
missing or changed file is a StateError.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from onmodel.errors import StateError
from onmodel.hashing import atomic_file, hash_json, read_json, sha256_file, write_json
from onmodel.weights import serialize

Facts = dict[str, Any]  # JSON values
Sealed = tuple[dict[str, Tensor], Facts]


def write_sealed(
    folder: Path, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, object]
) -> None:
    """Put tensors and JSON facts under `name` in `folder`, in place of what was there. Raises
    SpaceError."""
    pieces, digest = serialize(tensors)
    file = f"{name}-{digest[:16]}.safetensors"
    with atomic_file(folder / file) as handle:
        handle.writelines(pieces)
    record = {"file": file, "sha256": digest, "facts": dict(facts)}
    write_json(folder / f"{name}.json", {**record, "seal": hash_json(record)})
    for old in folder.glob(f"{name}-*.safetensors"):
        if old.name != file:
            old.unlink(missing_ok=True)


def read_sealed(folder: Path, name: str) -> Sealed | None:
    """Tensors and facts of `name`, or None when nothing was sealed. Raises StateError naming the
    damaged file."""
    found = _check(folder, name)
    return found and (safetensors.torch.load_file(found[0]), found[1])


def map_sealed(folder: Path, name: str) -> Sealed | None:
    """As `read_sealed`, but the tensors stay in the file, mapped: they cost no memory until they
    are used, and then share it with every process that maps the same file. For what is written
    once; a mapped file cannot be replaced on Windows.
    """
    found = _check(folder, name)
    if found is None:
        return None
    with safe_open(found[0], framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, found[1]  # noqa: SIM118


def _check(folder: Path, name: str) -> tuple[Path, Facts] | None:
    """The file and the facts of a sealed set, neither changed since they were written."""
    index = folder / f"{name}.json"
    if not index.exists():
        return None
    record = read_json(index)
    seal = record.pop("seal", None) if isinstance(record, dict) else None
    if seal != hash_json(record):
        raise StateError(index, "was changed since it was written")
    path = folder / record["file"]
    try:
        digest = sha256_file(path)
    except OSError as error:
        raise StateError(
            path, f"{index.name} names it and it cannot be read ({error.strerror})"
        ) from error
    if digest != record["sha256"]:
        raise StateError(path, "was changed since it was written")
    return path, record["facts"]
