"""Tensors kept on the disk between two attempts of a stage, sealed: what comes back is what was written, or an error.

A sealed set is a safetensors file named by its content and one JSON written after it. A kill between the two leaves the
older pair in force. Without the JSON there is nothing; with it, a missing or changed file is a StateError.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from onmodel.errors import StateError
from onmodel.hashing import hash_json, read_json, sha256_bytes, write_atomic, write_json


def write_sealed(folder: Path, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Put tensors and JSON facts under `name` in `folder`, in place of what was there. Raises SpaceError."""
    data = safetensors.torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
    digest = sha256_bytes(data)
    file = f"{name}-{digest[:16]}.safetensors"
    write_atomic(folder / file, data)
    record = {"file": file, "sha256": digest, "facts": dict(facts)}
    write_json(folder / f"{name}.json", {**record, "seal": hash_json(record)})
    for old in folder.glob(f"{name}-*.safetensors"):
        if old.name != file:
            old.unlink(missing_ok=True)


def read_sealed(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and facts of `name`, or None when nothing was sealed. Raises StateError naming the damaged file."""
    index = folder / f"{name}.json"
    if not index.exists():
        return None
    record = read_json(index)
    seal = record.pop("seal", None) if isinstance(record, dict) else None
    if seal != hash_json(record):
        raise StateError(index, "was changed since it was written")
    path = folder / record["file"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StateError(path, f"{index.name} names it and it cannot be read ({error.strerror})") from error
    if sha256_bytes(data) != record["sha256"]:
        raise StateError(path, "was changed since it was written")
    return safetensors.torch.load(data), record["facts"]
