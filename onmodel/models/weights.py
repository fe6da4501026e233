"""Safetensors files: opened with a clear error, and written so that equal tensors and words give equal bytes.

`safetensors.save_file` writes metadata in a random order; here the header is sorted, so one recipe gives one file hash.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from onmodel.errors import InputError
from onmodel.hashing import sha256_bytes, write_atomic

PAYLOAD_KEY = "onmodel.payload_sha256"
_DTYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


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
