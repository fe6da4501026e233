"""Hashes, canonical JSON and writes that leave either the old file or the new one, never half of one."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import rfc8785

from onmodel.errors import SpaceError, StateError

TEMPORARY_PREFIX = ".onmodel-"


def sha256_bytes(data: bytes) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """RFC 8785 canonical JSON: one value, one byte string."""
    return rfc8785.dumps(value)


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`."""
    return sha256_bytes(canonical_json(value))


def tree_hash(folder: Path) -> str:
    """One hash for a folder: SHA-256 over the sorted (relative path, file hash) pairs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hash_json({path.relative_to(folder).as_posix(): sha256_file(path) for path in files})


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that takes its name only when the block ends well: temporary in the same folder, fsync,
    replace, fsync of the folder.

    Raises SpaceError when the disk is full; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp gives 0600; a released file is for everyone
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise SpaceError(path) from error
        raise
    fsync_folder(path.parent)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all (`atomic_file`)."""
    with atomic_file(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON in the order of its tables, written atomically."""
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))


def read_json(path: Path) -> Any:
    """Read JSON that onmodel wrote. Raises StateError naming the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StateError(path, f"cannot be read ({error})") from error


def read_json_lines(path: Path) -> list[Any]:
    """The whole lines of a file of JSON lines; one that a killed process left half written does not count.

    Only "\\n" ends a line: texts may hold U+2028 and other signs that end one elsewhere. No file, no lines. Raises
    StateError naming the file and the line that is damaged.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise StateError(path, f"cannot be read ({error.strerror})") from error
    rows = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n")[:-1], 1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise StateError(path, f"line {number} is damaged ({error})") from error
    return rows


def append_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Append each row as one line of JSON, and wait for the disk. A half line that a kill left is cut off first.

    Two processes must not append at once: hold the lock of the folder.
    """
    data = path.read_bytes() if path.exists() else b""
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)
    with path.open("ab") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Make a rename last. Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove temporaries that a killed process left in `folder` (only its direct children)."""
    for path in folder.glob(TEMPORARY_PREFIX + "*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
