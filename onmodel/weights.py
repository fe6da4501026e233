"""Safetensors files: read tensor by tensor, and written so that equal tensors and words give equal
bytes.

`safetensors.save_file` writes metadata in a random order; here the header is sorted, so one recipe
gives one file hash. A file is read into buffers of one tensor, not mapped, and written as its
tensors come: a pass over a large file takes the memory of one layer. Only what takes or gives
torch's tensors needs torch.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from onmodel.errors import InputError
from onmodel.hashing import atomic_file, hash_json
from onmodel.reading import open_regular, parse_json_in
from onmodel.text import shown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PAYLOAD_KEY = "onmodel.payload_sha256"
FLOATS = ("F64", "F32", "F16", "BF16")  # what is read as numbers
SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I64": 8,
    "U64": 8,
    "I32": 4,
    "U32": 4,
    "I16": 2,
    "U16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
INTEGERS = {
    "I64": np.int64,
    "U64": np.uint64,
    "I32": np.int32,
    "U32": np.uint32,
    "I16": np.int16,
    "U16": np.uint16,
    "I8": np.int8,
    "U8": np.uint8,
}
_PICKLE = "is a PyTorch pickle, which can run code when it is opened; use the .safetensors"
# First bytes of what is found under the name of a safetensors file.
_OTHERS = {
    b"GGUF": "is a quantised GGUF file; use the bfloat16 .safetensors",
    b"PK\x03\x04": _PICKLE,
    **dict.fromkeys(
        (b"\x80\x02\x8a", b"\x80\x02}", b"\x80\x02c", b"\x80\x04\x95", b"\x80\x05\x95"), _PICKLE
    ),
    b"<": "is a web page and not the file; download it again, signed in where the site asks for it",
    b"version https://git-lfs": "is only a pointer to a Git LFS file; run git lfs pull",
}
_LONGEST_HEADER = 32 * 2**20  # bytes; the header of a whole checkpoint takes less than one MiB
_LONGEST_NAME = 1_000  # characters of a tensor's name; published ones have about 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor that a file holds or will hold; `dtype` in safetensors' words."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return SIZES[self.dtype] * int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Stored(Entry):
    """A tensor in a file, from byte `start` to byte `end`."""

    path: Path
    start: int
    end: int

    def rows(self, first: int, count: int) -> "Stored":
        """So many rows of a tensor, which lie together."""
        size = self.bytes // self.shape[0]
        start = self.start + first * size
        return Stored(self.dtype, (count, *self.shape[1:]), self.path, start, start + count * size)

    def read(self) -> "Tensor":
        """The tensor, read straight into memory of its own; its dtype is one of `FLOATS`, or fp8.

        Not through a mapped file: mapped pages stay in the process beside their copy, which doubles
        its memory. Raises InputError when the file was cut since its header was read.
        """
        import torch

        tensor = torch.empty(self.shape, dtype=_torch_dtypes()[self.dtype])
        buffer = tensor.reshape(-1).view(torch.uint8).numpy().data
        with self.path.open("rb") as file:
            file.seek(self.start)
            if file.readinto(buffer) != len(buffer):
                raise InputError(
                    "file", self.path, "became shorter while it was read; get it again"
                )
        return tensor


class WeightsFile:
    """An open safetensors file. `entries` maps its keys, `metadata` holds its words; a context
    manager.

    Raises InputError naming `field` when the file is missing, torn or something else.
    """

    def __init__(self, path: Path, field: str) -> None:
        self.path, self.field = path, field
        self.entries, self.metadata = read_header(path, field)
        self._file = path.open("rb", buffering=0)

    def __enter__(self) -> "WeightsFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def raw(self, key: str) -> np.ndarray:
        """The bytes of a tensor, uint8 [n]."""
        return self._bytes(self.entries[key].start, self.entries[key].end)

    def _bytes(self, start: int, end: int) -> np.ndarray:
        buffer = np.empty(end - start, np.uint8)
        self._file.seek(start)
        view, got = buffer.data, 0
        while got < len(buffer):  # an unbuffered read may stop short
            count = self._file.readinto(view[got:])
            if not count:
                raise InputError(self.field, self.path, "was cut while it was read; get it again")
            got += count
        return buffer

    def read(self, key: str) -> np.ndarray:
        """A tensor as float32. Raises InputError for integers and 8-bit floats."""
        return decode(self.raw(key), self._number(key))

    def first_rows(self, key: str, count: int) -> np.ndarray:
        """At most so many first rows of a matrix as float32; nothing else of it is read. Raises
        InputError as `read` does."""
        entry = self._number(key)
        part = Entry(entry.dtype, (min(count, entry.shape[0]), *entry.shape[1:]))
        return decode(self._bytes(entry.start, entry.start + part.bytes), part)

    def _number(self, key: str) -> Stored:
        entry = self.entries[key]
        if entry.dtype not in FLOATS:
            raise InputError(
                self.field,
                self.path,
                f"{shown(key)} is {entry.dtype}; use the bfloat16 or float32 file",
            )
        return entry


def decode(raw: np.ndarray, entry: Entry) -> np.ndarray:
    """The bytes of a tensor, of `FLOATS` or `INTEGERS`, as float32 of its shape."""
    if entry.dtype == "BF16":  # the upper half of a float32
        return (
            np.left_shift(raw.view(np.uint16), 16, dtype=np.uint32)
            .view(np.float32)
            .reshape(entry.shape)
        )
    kind = {"F64": np.float64, "F32": np.float32, "F16": np.float16, **INTEGERS}[entry.dtype]
    with np.errstate(
        over="ignore"
    ):  # what float32 cannot hold becomes infinite, which every reader refuses
        return raw.view(kind).astype(np.float32, copy=False).reshape(entry.shape)


def encode(array: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers rounded once, to nearest even, into the bits of `dtype` (bfloat16 as uint16)."""
    if dtype == "BF16":
        bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(
            array, {"F64": np.float64, "F32": np.float32, "F16": np.float16}[dtype]
        )


def finite(bits: np.ndarray, dtype: str) -> bool:
    """Is every number finite, of those that `encode` gave?"""
    return bool(((bits & 0x7F80) != 0x7F80).all() if dtype == "BF16" else np.isfinite(bits).all())


def lora_weights(path: Path, field: str = "lora") -> Path:
    """The file with the tensors of a LoRA, which is a file or a PEFT folder. Raises InputError for
    another folder."""
    if not os.path.isdir(path):  # which raises nothing, whatever the name
        return path
    if not (path / "adapter_model.safetensors").exists():
        raise InputError(
            field, path, "holds no adapter_model.safetensors; name a LoRA file or a PEFT folder"
        )
    return path / "adapter_model.safetensors"


def open_weights(path: Path, field: str, framework: str = "pt") -> Any:
    """`safe_open` on the CPU. Raises InputError naming `field` when it is missing, torn or
    something else."""
    with open_regular(path, field) as file:  # a pipe would never open
        start = file.read(24)
    if what := next((what for first, what in _OTHERS.items() if start.startswith(first)), None):
        raise InputError(field, path, what)
    length = int.from_bytes(start[:8], "little")
    if length > _LONGEST_HEADER:  # before safetensors maps the whole file
        what = f"is no complete safetensors file (a header of {length} bytes, over"
        raise InputError(field, path, f"{what} {_LONGEST_HEADER}); get it again")
    try:
        return safe_open(path, framework=framework)
    except (SafetensorError, OSError) as error:
        what = f"is no complete safetensors file ({shown(error)}); get it again"
        raise InputError(field, path, what) from error


def read_header(path: Path, field: str) -> tuple[dict[str, Stored], dict[str, str]]:
    """The tensors of a safetensors file by name, and its words; no tensor is read. Raises
    InputError."""
    # Opening it is safetensors' own check of every length and offset, and of the header's types.
    with open_weights(path, field, framework="np"), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = parse_json_in(file.read(length).decode(), path, field)
    words: dict[str, str] = header.pop("__metadata__", None) or {}
    first = 8 + length
    tensors = {
        name: Stored(
            row["dtype"],
            tuple(row["shape"]),
            path,
            first + row["data_offsets"][0],
            first + row["data_offsets"][1],
        )
        for name, row in header.items()
    }
    for name, tensor in tensors.items():
        if len(name) > _LONGEST_NAME:
            said = f"{shown(name)} is the name of a tensor, of {len(name)} characters"
            raise InputError(field, path, f"{said}; get the file again")
        if tensor.dtype not in SIZES:
            raise InputError(
                field, path, f"{shown(name)} is {tensor.dtype}; use the bfloat16 or float32 file"
            )
    return tensors, words


def read_metadata(path: Path, field: str = "file") -> dict[str, str]:
    """The words in the header of a safetensors file; empty when it has none."""
    return read_header(path, field)[1]


def payload_sha256(path: Path) -> str:
    """SHA-256 of the tensors' bytes, i.e. of everything after the header (kohya's
    `sshs_model_hash`)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        file.seek(8 + length)
        return hashlib.file_digest(file, "sha256").hexdigest()


def table_sha256(path: Path) -> str:
    """SHA-256 of the tensors' names, types, shapes and places, which the hash of their bytes does
    not cover."""
    entries, _ = read_header(path, "file")
    first = min((entry.start for entry in entries.values()), default=0)
    return _table_sha256(
        entries,
        {name: (entry.start - first, entry.end - first) for name, entry in entries.items()},
    )


def weights_sha256(path: Path) -> str:
    """SHA-256 of the tensors alone: their table and their bytes, whatever the header's words say.

    It names a model where only its tensors count, as A1111's AutoV3 hash does.
    """
    return hash_json([table_sha256(path), payload_sha256(path)])


def is_canonical(path: Path) -> bool:
    """Whether the header is byte for byte what `stream_weights` writes for these tensors and
    words."""
    entries, words = read_header(path, "file")
    with path.open("rb") as file:
        text = file.read(int.from_bytes(file.read(8), "little"))
    known = all(entry.dtype in SIZES for entry in entries.values())
    return known and text.rstrip(b" ") == _header(entries, words).rstrip(b" ")


def written_order(entries: Mapping[str, Entry]) -> list[str]:
    """The order of tensors in a file: wider types first, as in safetensors, so that every tensor is
    aligned."""
    return sorted(entries, key=lambda name: (-SIZES[entries[name].dtype], name))


@dataclass(frozen=True)
class Payload:
    """The tensors of a file while they are in memory. Their hashes are known before the file is
    written, so that a header can hold them.

    `arrays` hold the bits of each tensor (`encode`); they must not change. `words` are the words of
    the header that follow from the tensors, such as a LoRA's rank.
    """

    entries: Mapping[str, Entry]
    arrays: Mapping[str, np.ndarray]
    words: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def sha256(self) -> str:
        """What `payload_sha256` gives for the written file."""
        digest = hashlib.sha256()
        for name in written_order(self.entries):
            digest.update(_data(self.arrays[name]))
        return digest.hexdigest()

    @property
    def table_sha256(self) -> str:
        """What `table_sha256` gives for the written file."""
        return _table_sha256(self.entries, _places(self.entries))

    def write(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the bytes that `stream_weights` would, the header first."""
        text = _header(self.entries, _with_hash({**metadata, **self.words}, self.sha256))
        with atomic_file(path) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in written_order(self.entries):
                assert self.arrays[name].nbytes == self.entries[name].bytes, name
                file.write(_data(self.arrays[name]))


def tensor_payload(tensors: Mapping[str, "Tensor"]) -> Payload:
    """Torch's tensors as they are; on the CPU without a copy."""
    return Payload(_entries(tensors), {name: _bytes(tensor) for name, tensor in tensors.items()})


def write_weights(path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str]) -> None:
    """Write torch's tensors (`Payload.write`)."""
    tensor_payload(tensors).write(path, metadata)


def stream_weights(
    path: Path,
    entries: Mapping[str, Entry],
    pieces: Iterable[np.ndarray],
    metadata: Mapping[str, str],
    final: Callable[[], Mapping[str, str]] | None = None,
) -> None:
    """Write tensors one at a time, `pieces` in `written_order(entries)` and in the bits of their
    dtype (`encode`).

    The header is canonical: keys sorted, no spaces, padded to 8 bytes as safetensors does. The hash
    of the tensors' bytes is put into it under `onmodel.payload_sha256`, and under modelspec's
    `modelspec.hash_sha256`. Words that are known only when all tensors are (an energy) come from
    `final`, and take no more room than `metadata`'s.
    """
    length = len(_header(entries, _with_hash(metadata, "0" * 64)))
    digest = hashlib.sha256()
    with atomic_file(path) as file:
        file.seek(8 + length)
        for name, piece in zip(written_order(entries), pieces, strict=True):
            assert piece.nbytes == entries[name].bytes, name
            data = _data(piece)
            digest.update(data)
            file.write(data)
        words = metadata if final is None else final()
        text = _header(entries, _with_hash(words, digest.hexdigest()))
        assert len(text) <= length
        file.seek(0)
        file.write(length.to_bytes(8, "little") + text.ljust(length))


def serialize(tensors: Mapping[str, "Tensor"]) -> tuple[list[bytes | memoryview], str]:
    """A safetensors file without words, as pieces that share the tensors' memory where they lie on
    the CPU, and its SHA-256.
    """
    entries = _entries(tensors)
    text = _header(entries, {})
    pieces: list[bytes | memoryview] = [len(text).to_bytes(8, "little") + text]
    pieces += [_bytes(tensors[name]).data for name in written_order(entries)]
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return pieces, digest.hexdigest()


def _with_hash(words: Mapping[str, str], digest: str) -> dict[str, str]:
    """The words of a header with the hash of the tensors' bytes."""
    return {**words, PAYLOAD_KEY: digest, "modelspec.hash_sha256": f"0x{digest}"}


def _places(entries: Mapping[str, Entry]) -> dict[str, tuple[int, int]]:
    """Where each tensor begins and ends in a file that is written here, in bytes after the
    header."""
    places, end = {}, 0
    for name in written_order(entries):
        start, end = end, end + entries[name].bytes
        places[name] = start, end
    return places


def _table_sha256(entries: Mapping[str, Entry], places: Mapping[str, tuple[int, int]]) -> str:
    return hash_json(
        {name: [entry.dtype, list(entry.shape), *places[name]] for name, entry in entries.items()}
    )


def _data(array: np.ndarray) -> memoryview:
    """An array's bytes."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _header(entries: Mapping[str, Entry], words: Mapping[str, str]) -> bytes:
    table: dict[str, Any] = {"__metadata__": dict(words)} if words else {}
    for name, place in _places(entries).items():
        table[name] = {
            "dtype": entries[name].dtype,
            "shape": list(entries[name].shape),
            "data_offsets": place,
        }
    text = json.dumps(table, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def _entries(tensors: Mapping[str, "Tensor"]) -> dict[str, Entry]:
    names = {dtype: name for name, dtype in _torch_dtypes().items()}
    return {
        name: Entry(names[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()
    }


def _bytes(tensor: "Tensor") -> np.ndarray:
    """A tensor's bytes [n], copied only from another device or when it is not contiguous."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _torch_dtypes() -> "dict[str, torch.dtype]":
    import torch

    return {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "U8": torch.uint8,
        "BOOL": torch.bool,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
    }
