"""Arrays kept in one file: the SHA-256 of the rest (32 bytes), then an .npz. What comes back is
what was written. `arrays_of_pictures` is the one cache of what observers find in pictures.

The checksums inside an .npz do not cover an array whose own header was changed to a smaller shape.
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from onmodel.errors import StateError
from onmodel.events import Task
from onmodel.hashing import hash_json, write_atomic

_DIGEST = 32  # bytes


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write the file whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    data = buffer.getvalue()
    write_atomic(path, hashlib.sha256(data).digest() + data)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays by name; None when there is no file. Raises StateError for a file that is not as
    it was written."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(
            path, f"cannot be read ({error.strerror}); remove it and run the same command again"
        ) from error
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        raise StateError(path, "is damaged; remove it and run the same command again")
    with np.load(io.BytesIO(data[_DIGEST:]), allow_pickle=False) as arrays:
        return dict(arrays)


def arrays_of_pictures(
    count: int,
    chunk: int,
    key: Callable[[slice], object],
    make: Callable[[slice], Mapping[str, np.ndarray]],
    cache: Path,
    task: Task,
) -> dict[str, np.ndarray]:
    """Arrays over `count` pictures, made `chunk` pictures at a time and kept in `cache`.

    `key` gives the JSON values that decide what a chunk holds, `make` its arrays by name, the first
    axis over its pictures. `task` advances by pictures. Raises StateError for a damaged cache.
    """
    found: dict[str, np.ndarray] = {}
    for start in range(0, count, chunk):
        part = slice(start, min(start + chunk, count))
        path = cache / f"{hash_json(key(part))}.arrays"
        piece: Mapping[str, np.ndarray] | None = read_arrays(path)
        if piece is None:
            piece = make(part)
            write_arrays(path, piece)
        for name, array in piece.items():
            if name not in found:  # joining pieces at the end would hold everything twice
                found[name] = np.empty((count, *array.shape[1:]), array.dtype)
            found[name][part] = array
        task.advance(part.stop - part.start)
    return found
