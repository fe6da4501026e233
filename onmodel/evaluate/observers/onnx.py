"""ONNX files of others: their hashes, the files that they need beside them, and running them.

Whatever is wrong with such a file is an InputError that names the observer and the file; an answer
that is no finite number is refused, never measured.
"""

import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from onmodel.errors import InputError
from onmodel.hashing import sha256_file
from onmodel.paths import name_fault

LONGEST_SIDE = 4_096  # pixels of an input; 16 pictures of it are 3 GB
MOST_NUMBERS = 100_000_000  # of one answer
# TensorProto.external_data (field 13) with its entry "location", as
# https://onnx.ai/onnx/repo-docs/ExternalData.html.
_LOCATION = re.compile(
    rb"\x6a(?:[\x00-\x7f]|[\x80-\xff][\x00-\x7f])\x0a\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])"
)


def hashes(field: str, files: Iterable[Path]) -> list[str]:
    """SHA-256 of each file, an ONNX file's followed by those of its external data.

    Raises InputError for what `check_files` refuses.
    """
    return [sha256_file(path) for path in check_files(field, files)]


def check_files(field: str, files: Iterable[Path]) -> list[Path]:
    """The files, an ONNX file followed by its external data. Nothing is loaded.

    Raises InputError for a file that is missing, empty or not a regular one, or whose data lies
    outside its folder.
    """
    found = []
    for path in files:
        found += [
            path,
            *(_external(field, path) if path.suffix == ".onnx" and _filled(field, path) else ()),
        ]
    for path in found:
        _filled(field, path)
    return found


def _filled(field: str, path: Path) -> bool:
    if not path.is_file():
        raise InputError(field, path, "no such file")
    if path.stat().st_size == 0:
        raise InputError(field, path, "is empty; fetch it again")
    return True


def _external(field: str, path: Path) -> list[Path]:
    names: dict[str, None] = {}
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for match in _LOCATION.finditer(data):
                low, *high = match[1]
                length = (low & 0x7F) | (high[0] << 7 if high else 0)
                names[
                    data[match.end() : match.end() + length]
                    .decode("utf-8", "replace")
                    .removeprefix("./")
                ] = None
    except (OSError, ValueError) as error:
        raise InputError(field, path, f"cannot be read ({error})") from error
    for name in names:
        if any(name_fault(part, 255) for part in name.split("/")):
            raise InputError(
                field,
                path,
                f"takes data from {name!r}, which is no file in its folder; export it again",
            )
        if not (path.parent / name).is_file():
            raise InputError(field, path, f"needs the file {name} beside it, which is missing")
    return [path.parent / name for name in names]


class Network:
    """An ONNX file with one picture input. `shape` and `answer`: those of the input and of the
    first output, None where a side is left open. `hashes`: of the file and its external data."""

    def __init__(self, field: str, path: Path, threads: int) -> None:
        silence_onnxruntime()
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise InputError(
                field, path, "needs onnxruntime: pip install 'onmodel[evaluate]'"
            ) from error
        self.field, self.path = field, path
        self.hashes = hashes(field, [path])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            entries, exit = self._session.get_inputs(), self._session.get_outputs()[0]
        except _errors() as error:
            raise InputError(
                field, path, f"is no ONNX model that runs here ({_line(error)})"
            ) from error
        if len(entries) != 1 or entries[0].type != "tensor(float)":
            told = ", ".join(f"{entry.name} {entry.type}" for entry in entries) or "none"
            raise InputError(
                field, path, f"its inputs are {told}; export it with one picture input of float32"
            )
        self._input, self._output = entries[0].name, exit.name
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.shape, self.answer = (_known_sides(tensor.shape) for tensor in (entries[0], exit))

    def side(self, axis: int, where_open: int | None = None) -> int:
        """The input's side in pixels. Raises InputError when the file leaves it open and nothing
        stands for that."""
        if len(self.shape) == 0:
            raise InputError(self.field, self.path, "its input has no shape; export it with one")
        side = (self.shape[axis] or where_open) if len(self.shape) == 4 else None
        if side is None:
            remedy = f"its input is {self.shape}; the picture's side must be written in the file"
            raise InputError(self.field, self.path, remedy)
        if not 1 <= side <= LONGEST_SIDE:
            raise InputError(
                self.field,
                self.path,
                f"its side is {side} pixels; 1 to {LONGEST_SIDE} are computed",
            )
        return side

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """One float32 batch [n, …] to the first output [n, D]; a file with a fixed batch is fed one
        row at a time.

        Raises InputError when it cannot be computed, or the answer is not n rows of finite numbers.
        """
        if self.shape[:1] == [1] and len(batch) > 1:
            return np.concatenate([self(row[None]) for row in batch])
        try:
            output: Any = self._session.run([self._output], {self._input: batch})[0]
            rows = np.asarray(output, dtype=np.float32)
        except _errors() as error:
            raise InputError(
                self.field, self.path, f"does not take pictures ({_line(error)})"
            ) from error
        if rows.ndim == 0 or len(rows) != len(batch) or not 1 <= rows.size <= MOST_NUMBERS:
            remedy = (
                f"answers {list(rows.shape)} to {len(batch)} pictures; export it with a row for"
                " each"
            )
            raise InputError(self.field, self.path, remedy)
        if not np.isfinite(rows).all():
            raise InputError(
                self.field, self.path, "answers NaN or infinity; export it again in float32"
            )
        return rows.reshape(len(batch), -1)


def silence_onnxruntime() -> None:
    """Keep onnxruntime from writing records of use into the home folder and sending them; call it
    before whatever imports it. It reads the variable when it is loaded."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"


def rows_of(network: Network, batches: Iterator[np.ndarray]) -> np.ndarray:
    """The answers to several batches, [N, D]. Raises InputError when they are not equally long."""
    rows: Sequence[np.ndarray] = [network(batch) for batch in batches]
    if len({row.shape[1] for row in rows}) > 1:
        raise InputError(
            network.field, network.path, "answers rows of different lengths; export it again"
        )
    return np.concatenate(rows)


def _known_sides(shape: Sequence[object] | None) -> list[int | None]:
    """A tensor's sides, None for those that the file leaves open."""
    return [side if isinstance(side, int) else None for side in shape or ()]


def batches_of(
    images: Sequence[Image.Image], prepare: Callable[[Image.Image], np.ndarray]
) -> Iterator[np.ndarray]:
    """The prepared pictures in batches [n, …]."""
    for chunk in chunks(images):
        yield np.stack([prepare(image) for image in chunk])


def _errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a file or an input that it cannot compute: its own errors have no
    common base."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [
        kind
        for kind in vars(state).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    return (*own, RuntimeError, ValueError, TypeError, IndexError, OSError, MemoryError)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120]


def chunks(images: Sequence[Image.Image], size: int = 16) -> Iterator[Sequence[Image.Image]]:
    """Pieces of at most `size` pictures, so that memory does not grow with their number."""
    return (images[start : start + size] for start in range(0, len(images), size))
