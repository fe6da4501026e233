"""Safetensors files: opened with a clear error, read without mapping, written so that equal content gives equal bytes.

`safetensors.save_file` writes metadata in a random order; here the header is sorted, so one recipe gives one file hash.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from onmodel.errors import InputError
from onmodel.hashing import sha256_bytes, write_atomic

PAYLOAD_KEY = "onmodel.payload_sha256"
_DTYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
DTYPES = {name: dtype for dtype, name in _DTYPE_NAMES.items()}
# First bytes of other kinds of files with weights.
_OTHERS = {
    b"GGUF": "is a quantised GGUF file; use the bfloat16 .safetensors",
    b"PK\x03\x04": "is a PyTorch pickle, which can run code when it is opened; use the .safetensors",
}


def open_weights(path: Path, field: str) -> Any:
    """`safe_open` for torch on the CPU. Raises InputError naming `field` when it is missing, torn or something else."""
    if not path.is_file():
        raise InputError(field, path, "no such file")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        with path.open("rb") as file:
            start = file.read(4)
        what = _OTHERS.get(start, f"is no complete safetensors file ({error}); get it again")
        raise InputError(field, path, what) from error


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file. `dtype` is the file's word for it, `start` its first byte."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    def read(self) -> Tensor:
        """The tensor, read straight into memory of its own.

        Not through a mapped file: mapped pages stay in the process beside their copy, which doubles its memory.
        Raises InputError when the file was cut since its header was read. The dtype must be one of `DTYPES`.
        """
        tensor = torch.empty(self.shape, dtype=DTYPES[self.dtype])
        buffer = tensor.reshape(-1).view(torch.uint8).numpy().data
        with self.path.open("rb") as file:
            file.seek(self.start)
            if file.readinto(buffer) != len(buffer):
                raise InputError("file", self.path, "became shorter while it was read; get it again")
        return tensor


def read_header(path: Path, field: str) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of a safetensors file by name, and its words; no tensor is read. Raises InputError."""
    with open_weights(path, field), path.open("rb") as file:  # the first checks that header and file agree
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    words: dict[str, str] = header.pop("__metadata__", {})
    tensors = {
        name: Stored(path, row["dtype"], tuple(row["shape"]), 8 + length + row["data_offsets"][0])
        for name, row in header.items()
    }
    return tensors, words


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
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {}
    pieces, offset = [], 0
    for name in order:
        tensor = tensors[name].detach().cpu().contiguous()
        piece = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        end = offset + len(piece)
        header[name] = {"dtype": _DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        pieces.append(piece)
        offset = end
    payload = b"".join(pieces)
    digest = sha256_bytes(payload)
    header["__metadata__"] = {**metadata, PAYLOAD_KEY: digest, "modelspec.hash_sha256": f"0x{digest}"}
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    write_atomic(path, len(text).to_bytes(8, "little") + text + payload)
