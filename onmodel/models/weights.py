"""Safetensors files: opened with a clear error, and written so that equal tensors and words give equal bytes.

`safetensors.save_file` writes metadata in a random order; here the header is sorted, so one recipe gives one file hash.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from onmodel.errors import InputError
from onmodel.hashing import write_atomic

PAYLOAD_KEY = "onmodel.payload_sha256"
_DTYPE_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def open_weights(path: Path, field: str) -> Any:
    """`safe_open` for torch on the CPU. Raises InputError naming `field` when it is missing, torn or something else."""
    if not path.is_file():
        raise InputError(field, path, "no such file")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise InputError(field, path, f"is no complete safetensors file ({error}); get it again") from error


def read_metadata(path: Path, field: str = "file") -> dict[str, str]:
    """The words in the header of a safetensors file; empty when it has none."""
    with open_weights(path, field) as file:
        return dict(file.metadata() or {})


def payload_sha256(path: Path) -> str:
    """SHA-256 of the tensors' bytes, i.e. of everything after the header (kohya's `sshs_model_hash`)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        file.seek(8 + length)
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write float tensors with a canonical header: keys sorted, no spaces, padded to 8 bytes as safetensors does.

    Wider types come first, as in safetensors, so that every tensor is aligned. The hash of the tensors' bytes is put
    into the header under `onmodel.payload_sha256`, and under modelspec's `modelspec.hash_sha256`.
    """
    pieces = [_bytes(tensors[name]) for name in _order(tensors)]
    digest = _sha256(pieces)
    words = {**metadata, PAYLOAD_KEY: digest, "modelspec.hash_sha256": f"0x{digest}"}
    write_atomic(path, [_header(tensors, words), *pieces])


def serialize(tensors: Mapping[str, Tensor]) -> tuple[list[bytes | memoryview], str]:
    """A safetensors file as pieces that share the tensors' memory where they lie on the CPU, and its SHA-256."""
    pieces: list[bytes | memoryview] = [_header(tensors, {}), *(_bytes(tensors[name]) for name in _order(tensors))]
    return pieces, _sha256(pieces)


def _order(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _header(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> bytes:
    table: dict[str, Any] = {"__metadata__": dict(words)} if words else {}
    offset = 0
    for name in _order(tensors):
        tensor = tensors[name]
        end = offset + tensor.nbytes
        table[name] = {"dtype": _DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes(tensor: Tensor) -> memoryview:
    """A tensor's bytes, copied only from another device or when it is not contiguous."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _sha256(pieces: Iterable[bytes | memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
