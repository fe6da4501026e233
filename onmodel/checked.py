"""Hashes of files, kept so that a file that still looks as it did is not read again.

A table is a file of JSON lines, one for each file: `{"file", "sha256", "size", "mtime_ns",
"inode"}`. The last line of a file counts. A changed file with its old size and time passes here;
`onmodel doctor PROJECT` reads every byte.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from onmodel.hashing import append_json_lines, files_of, hash_json, sha256_file, write_cached


@dataclass(frozen=True, slots=True)
class Checked:
    """A file's hash, and how it looked when it was hashed."""

    sha256: str
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path, facts: os.stat_result, before: "Checked | None" = None) -> "Checked":
        """The file now: read, or as `before` says if it still looks so. `facts` must be older than
        the reading."""
        look = facts.st_size, facts.st_mtime_ns, facts.st_ino
        if before and (before.size, before.mtime_ns, before.inode) == look:
            return before
        return cls(sha256_file(path), *look)


def check_folder(folder: Path, before: Mapping[str, Checked]) -> dict[str, Checked]:
    """Every file of a folder by its path in it; only those are read that do not look as `before`
    says."""
    return {
        name: Checked.of(folder / name, facts, before.get(name)) for name, facts in files_of(folder)
    }


def folder_hash(files: Mapping[str, Checked]) -> str:
    """The hash of the folder as `hashing.tree_hash` gives it."""
    return hash_json({name: file.sha256 for name, file in files.items()})


def fault(
    hash: str, now: Mapping[str, Checked], before: Mapping[str, Checked]
) -> tuple[str, str] | None:
    """The file that keeps a folder from having its hash, and what is wrong with it: changed, added
    or missing.

    `before` is believed only where it gives the hash itself; else the file is "", the folder.
    """
    if folder_hash(now) == hash:
        return None
    if folder_hash(before) != hash:
        return "", "changed"
    for name, file in before.items():
        if name not in now:
            return name, "missing"
        if now[name].sha256 != file.sha256:
            return name, "changed"
    return next(name for name in now if name not in before), "added"


def read_table(path: Path) -> dict[str, Checked]:
    """The table at `path`. It only saves time, so a damaged line is left out, and no file is an
    empty table."""
    found = {}
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            row = json.loads(line)
            found[row["file"]] = Checked(row["sha256"], row["size"], row["mtime_ns"], row["inode"])
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return found


def write_table(path: Path, files: Mapping[str, Checked]) -> None:
    """Write the whole table. It can be made again, so this does not wait for the disk."""
    write_cached(path, "".join(json.dumps(row) + "\n" for row in _rows(files)).encode())


def append_table(path: Path, files: Mapping[str, Checked]) -> None:
    """Add files to the table, or new looks of files that are in it."""
    append_json_lines(path, _rows(files))


def _rows(files: Mapping[str, Checked]) -> Iterable[dict[str, str | int]]:
    for name, file in files.items():
        yield {
            "file": name,
            "sha256": file.sha256,
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "inode": file.inode,
        }
