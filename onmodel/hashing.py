"""Hashes, canonical JSON and writes that leave either the old file or the new one, never half of
one."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any, BinaryIO

import rfc8785

from onmodel.errors import SpaceError, StateError

TEMPORARY_PREFIX = ".onmodel-"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # no room on the disk, or no more for this user


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
    return hash_json(file_hashes(folder))


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder, by its path in it; `hash_json` of this is the folder's
    `tree_hash`."""
    return {name: sha256_file(folder / name) for name, _ in files_of(folder)}


def files_of(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every regular file of a folder and its subfolders: its path in the folder, and what the
    system says of it."""
    for root, _, names in os.walk(folder):
        start = Path(root).relative_to(folder).as_posix()
        for name in names:
            try:
                facts = os.stat(os.path.join(root, name))
            except FileNotFoundError:  # a link that leads nowhere
                continue
            if stat.S_ISREG(facts.st_mode):
                yield name if start == "." else f"{start}/{name}", facts


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn a full disk into SpaceError, and give every other OSError that names no file the name
    `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise SpaceError(path) from error
        if error.errno is not None and error.filename is None:  # else its text is all that it says
            error.filename = str(path)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into that takes its name only when the block ends well: temporary in the same
    folder, fsync, replace, fsync of the folder.

    Raises SpaceError when the disk is full; the old file is then untouched. Every other OSError
    names the file.
    """
    temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open(
                "xb"
            ) as file:  # not tempfile: its files are readable by their owner alone
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            fsync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all (`atomic_file`)."""
    with atomic_file(path) as file:
        file.write(data)


def write_cached(path: Path, data: bytes) -> None:
    """Write a file that can be made again: whole or not at all, but without waiting for the disk,
    so that a power cut may leave an empty one. Raises SpaceError when the disk is full."""
    temporary = path.with_name(TEMPORARY_PREFIX + secrets.token_hex(8))
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Indented JSON in the order of its tables, written atomically."""
    write_atomic(
        path,
        (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode(
            "utf-8", "backslashreplace"
        ),
    )


def read_json(path: Path) -> Any:
    """Read JSON that onmodel wrote. Raises StateError naming the file when it is missing or
    damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StateError(path, f"cannot be read ({error})") from error


def read_json_lines(path: Path) -> list[Any]:
    """The whole lines of a file of JSON lines; one that a killed process left half written does not
    count. No file, no lines. Raises StateError naming the file and the line that is damaged."""
    return list(json_lines(path, whole_lines(path)))


def whole_lines(path: Path, start: int = 0) -> bytes:
    """The bytes of a file from `start` to the end of its last whole line; none without a file.
    Raises StateError for a file that cannot be read."""
    try:
        if not path.exists():
            return b""
        if not path.is_file():
            raise StateError(path, "is no regular file")  # reading a pipe would wait for ever
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except OSError as error:
        raise StateError(path, f"cannot be read ({error.strerror})") from error
    return data[: data.rfind(b"\n") + 1]


def json_lines(path: Path, data: bytes, first: int = 1) -> Iterator[Any]:
    """Whole lines of the file `path` as JSON, one by one; `first` is the number of the first.

    Only "\\n" ends a line: texts may hold U+2028 and other signs that end one elsewhere. Raises
    StateError naming the file and the line that is damaged.
    """
    for number, line in enumerate(BytesIO(data), first):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StateError(path, f"line {number} is damaged ({error})") from error
        yield row


def append_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Append each row as one line of JSON, all or none, and wait for the disk. A half line that a
    kill left is cut off first.

    Two processes must not append at once: hold the lock of the folder. Raises SpaceError when the
    disk is full.
    """
    lines = b"".join(json.dumps(row, ensure_ascii=True).encode() + b"\n" for row in rows)
    new = not path.exists()
    with (
        naming(path),
        path.open("ab+", buffering=0) as file,
    ):  # a buffer would write its rest when the file is closed
        whole = _end_of_lines(file)
        try:
            file.truncate(whole)
            if (file.write(lines) or 0) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except OSError:
            file.truncate(whole)
            raise
    if new:
        fsync_folder(path.parent)


def _end_of_lines(file: FileIO) -> int:
    """Where the last whole line ends, in bytes. Reads the file only where a kill left half a
    line."""
    size = file.seek(0, os.SEEK_END)
    if size:
        file.seek(size - 1)
        if file.read(1) != b"\n":
            file.seek(0)
            return file.readall().rfind(b"\n") + 1
    return size


def fsync_folder(folder: Path) -> None:
    """Make a rename last. Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path) -> None:
    """Remove temporaries that a killed process left in `folder` (only its direct children); no
    folder, none."""
    for path in temporaries(folder):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def temporaries(folder: Path) -> list[Path]:
    """What a killed process left half written in `folder`, or one that works there writes now."""
    if not folder.is_dir():
        return []
    return sorted(folder / name for name in os.listdir(folder) if name.startswith(TEMPORARY_PREFIX))
