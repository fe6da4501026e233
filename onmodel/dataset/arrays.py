"""Arrays kept in one file: the SHA-256 of the rest (32 bytes), then an .npz. What comes back is
what was written.

The checksums inside an .npz do not cover an array whose own header was changed to a smaller shape.
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onmodel.errors import StateError
from onmodel.hashing import write_atomic

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
