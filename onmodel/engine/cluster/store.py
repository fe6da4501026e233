"""Files by their SHA-256 on a worker's machine: what a job needs is fetched once, and what was used
longest ago is removed when the folder is full. The workers of a machine share the folder."""

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from onmodel.errors import StateError
from onmodel.hashing import atomic_file, sweep
from onmodel.stages.base import keep_file


class Store:
    """A folder `files/ab/<sha256>` of at most `most` bytes, apart from what a running job uses."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder / "files", most

    def has(self, sha256: str) -> bool:
        return self._place(sha256).is_file()

    def add(self, sha256: str, pieces: Iterable[bytes]) -> None:
        """Take a file. Raises StateError when it does not have the hash."""
        with atomic_file(self._place(sha256)) as file:
            write_checked(file, sha256, pieces)

    def adopt(self, sha256: str, path: Path) -> None:
        """Take a file of this machine whose hash is known."""
        if not self.has(sha256):
            keep_file(path, self._place(sha256))

    def put(self, sha256: str, target: Path) -> bool:
        """Put a file of the store at `target`, as a link where that is possible. False when it is
        not there."""
        place = self._place(sha256)
        try:
            os.utime(place)  # used now
            keep_file(place, target)
        except FileNotFoundError:  # another worker removed it
            return False
        return True

    def trim(self) -> None:
        """Remove the files that were used longest ago, until the rest is small enough."""
        found = []
        for shard in self._folder.glob("*"):
            sweep(shard)
            for path in shard.iterdir():
                with suppress(FileNotFoundError):
                    facts = path.stat()
                    found.append((facts.st_mtime_ns, facts.st_size, path))
        left = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if left <= self._most:
                break
            path.unlink(missing_ok=True)
            left -= size

    def _place(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


def write_checked(file: BinaryIO, sha256: str, pieces: Iterable[bytes]) -> None:
    """Write what came from another machine. Raises StateError when it does not have the hash."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        file.write(piece)
    if digest.hexdigest() != sha256:
        raise StateError(sha256, "did not arrive as it was sent")
