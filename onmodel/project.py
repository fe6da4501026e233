"""A project: one folder that holds the ledger, the objects, the picture cache, and what a person reads.

onmodel.db  objects/ab/<hash>/  scratch/<key>/  pictures/ab/<key>.png  summary.json  report/  release/<name>/
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from onmodel.errors import BusyError, SpaceError, StateError
from onmodel.hashing import TEMPORARY_PREFIX, fsync_folder, read_json, sweep, tree_hash, write_json
from onmodel.ledger.store import Ledger
from onmodel.records import Artifact


class Project:
    """Opens (and makes) a project folder. Reading needs no lock; `writing()` takes the only one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "onmodel.db")
        self.pictures = folder / "pictures"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the project for this process. Raises BusyError naming the process that holds it."""
        holder = self.folder / "writer.txt"
        lock = FileLock(self.folder / "writer.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            who = holder.read_text() if holder.exists() else "another process"
            raise BusyError(
                f"{self.folder} is being written by {who}; wait for it, or use another --project"
            ) from error
        try:
            holder.write_text(f"process {os.getpid()}")
            sweep(self.folder)
            yield
        finally:
            lock.release()

    def scratch(self, key: str) -> Path:
        """The private folder of one stage; survives a kill."""
        folder = self.folder / "scratch" / key[:24]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def object(self, kind: str, hash: str) -> Artifact:
        """An artifact that the ledger knows. Raises StateError when its folder is gone."""
        path = self.folder / "objects" / hash[:2] / hash
        if not (path / "lineage.json").exists():
            raise StateError(path, f"the {kind} that the ledger names is missing; restore it or start a new project")
        return Artifact(kind, hash, path)

    def artifacts(self, kind: str) -> list[Artifact]:
        """Every artifact of a kind that the ledger names, oldest first."""
        return [self.object(kind, hash) for hash in self.ledger.artifacts(kind)]

    def commit(self, scratch: Path, kind: str) -> Artifact:
        """Move `scratch/out` into the objects in one step. After a kill, `committed` or a re-run completes it."""
        out = scratch / "out"
        hash = tree_hash(out)
        path = self.folder / "objects" / hash[:2] / hash
        write_json(scratch / "commit.json", {"kind": kind, "hash": hash})
        if path.exists():
            shutil.rmtree(out)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(out, path)
            fsync_folder(path.parent)
        return Artifact(kind, hash, path)

    def committed(self, scratch: Path) -> Artifact | None:
        """What a process moved into the objects just before it was killed, if the ledger never heard of it."""
        note = scratch / "commit.json"
        if not note.exists():
            return None
        row = read_json(note)
        path = self.folder / "objects" / row["hash"][:2] / row["hash"]
        return Artifact(row["kind"], row["hash"], path) if path.exists() else None

    def publish(self, artifact: Artifact, target: Path) -> None:
        """Copy an artifact to where a person looks for it, whole or not at all; what was there before is replaced."""
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
        try:
            shutil.copytree(artifact.path, temporary / "new", ignore=shutil.ignore_patterns(".*"))
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
                raise SpaceError(target) from error
            raise
        if target.exists():
            os.replace(target, temporary / "old")
        os.replace(temporary / "new", target)
        shutil.rmtree(temporary)
