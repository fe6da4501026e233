"""A project: one folder that holds the ledger, the objects, the picture cache, and what a person
reads.

onmodel.db  objects/ab/<hash>/  scratch/<key>/  pictures/ab/<key>.png  logs/  summary.json  report/
release/<name>/
damaged/ (what `onmodel doctor PROJECT --fix` moved out of the way)

Beside an object lies <hash>.jsonl, the hashes of its files and how they looked (checked.py).
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from onmodel import checked
from onmodel.errors import BusyError, InputError, StateError
from onmodel.hashing import (
    TEMPORARY_PREFIX,
    fsync_folder,
    naming,
    read_json,
    sha256_file,
    sweep,
    write_json,
)
from onmodel.ledger.store import Ledger, LedgerDamage, Run
from onmodel.locking import ProcessName
from onmodel.records import Artifact
from onmodel.release.folder import CHECKSUMS, read_checksums

LEDGER = "onmodel.db"
KEY_DIGITS = 24  # of a stage's key, in the name of its scratch folder
PATIENCE = 60.0  # seconds that one waits for another process to finish writing the report
SHOWN = 5  # files that are named one by one


class Project:
    """Opens (and makes) a project folder. Reading needs no lock; `writing()` takes the only one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _usable(folder):
            folder.mkdir(parents=True, exist_ok=True)
        ledger = folder / LEDGER
        if not (ledger.exists() and ledger.stat().st_size) and any(
            (folder / "objects").glob("*/*")
        ):
            remedy = f"restore it, or run `onmodel doctor {folder} --fix`, which begins a new one"
            raise LedgerDamage(
                ledger, f"is missing or empty, but {folder / 'objects'} is not; {remedy}"
            )
        self.ledger = Ledger(ledger)
        self.pictures = folder / "pictures"
        self._whole: set[str] = set()  # objects that were checked
        self._held = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the project for this process. Raises BusyError naming the process that holds it."""
        with holding(self.folder):
            self._held = True
            try:
                self._sweep()
                yield
            finally:
                self._held = False

    @contextmanager
    def results(self, patience: float = PATIENCE) -> Iterator[None]:
        """Hold what a person reads — summary.json, report/ and release/ — to write it, also while a
        run works.

        Waits `patience` seconds. Raises BusyError when another process still writes there.
        """
        lock = FileLock(self.folder / "results.lock", timeout=patience)
        try:
            with _usable(self.folder):
                lock.acquire()
        except Timeout as error:
            raise BusyError(
                f"{self.folder}: another process writes the report; run the same command again"
            ) from error
        try:
            for folder in (self.folder, self.folder / "report", self.folder / "release"):
                sweep(folder)
            yield
        finally:
            lock.release()

    def scratch(self, key: str) -> Path:
        """The private folder of one stage; survives a kill."""
        folder = self.folder / "scratch" / key[:KEY_DIGITS]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def scratches(self) -> dict[str, Path]:
        """Every folder of a stage that was begun, by the first digits of its key."""
        return {path.name: path for path in _matching(self.folder / "scratch", KEY_DIGITS)}

    def place(self, hash: str) -> Path:
        """Where the object of this hash lies, or would lie."""
        return self.folder / "objects" / hash[:2] / hash

    def objects(self) -> dict[str, Path]:
        """Every object's folder by its hash, whether the ledger names it or not."""
        shards = _matching(self.folder / "objects", 2)
        return {path.name: path for shard in shards for path in _matching(shard, 64)}

    def finished(self, key: str) -> Run | None:
        """What the ledger has under a key; None when the object is gone, so that it is made
        again."""
        run = self.ledger.finished(key)
        return run if run and self.place(run.artifact).is_dir() else None

    def object(self, kind: str, hash: str) -> Artifact:
        """An artifact that the ledger names. Raises StateError when it is gone, or a file of it is
        not as it was made.

        A file that looks as it did when it was hashed is not read again (checked.py).
        """
        path = self.place(hash)
        if not path.is_dir():
            raise StateError(
                path,
                f"the {kind} that the ledger names is missing; run its recipe again to make it"
                " anew",
            )
        if hash not in self._whole:
            self._check(kind, path)
            self._whole.add(hash)
        return Artifact(kind, hash, path)

    def artifacts(self, kind: str) -> list[Artifact]:
        """Every artifact of a kind that the ledger names and that was not freed, oldest first."""
        return [
            self.object(kind, hash)
            for hash in self.ledger.artifacts(kind)
            if self.place(hash).is_dir()
        ]

    def commit(self, scratch: Path, kind: str) -> Artifact:
        """Move `scratch/out` into the objects in one step. After a kill, `committed` or a re-run
        completes it."""
        out = scratch / "out"
        files = checked.check_folder(out, {})
        hash = checked.folder_hash(files)
        path = self.place(hash)
        write_json(scratch / "commit.json", {"kind": kind, "hash": hash})
        if path.exists() and fault_of(path) is None:
            shutil.rmtree(out)
        else:
            if path.exists():
                self.set_aside(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(out, path)
            fsync_folder(path.parent)
            checked.write_table(table_of(path), files)
        return Artifact(kind, hash, path)

    def committed(self, scratch: Path) -> Artifact | None:
        """What a process moved into the objects just before it was killed, if the ledger never
        heard of it."""
        note = scratch / "commit.json"
        if not note.exists():
            return None
        row = read_json(note)
        path = self.place(row["hash"])
        return Artifact(row["kind"], row["hash"], path) if path.exists() else None

    def set_aside(self, path: Path) -> Path:
        """Move what is damaged out of the way, to `damaged/`; returns where it lies now. Hold the
        project."""
        target = free_name(self.folder / "damaged" / path.relative_to(self.folder))
        with naming(path):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
            fsync_folder(path.parent)
        return target

    def publish(self, artifact: Artifact, target: Path) -> None:
        """Copy an artifact to where a person looks for it, whole or not at all; what was published
        before is replaced.

        Nothing is replaced where all of it lies there already. Raises InputError naming files that
        a person put there or changed, and StateError when a file of the artifact does not have the
        hash that its checksums give.
        """
        with self.results():
            new = _hashes(artifact.path, hidden=False)
            _refuse_damaged(self.folder, artifact.path, new)
            here = _hashes(target, hidden=True) if os.path.lexists(target) else {}
            if here and all(here.get(name) == hash for name, hash in new.items()):
                return
            _refuse_own(target, here)
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.parent / f"{TEMPORARY_PREFIX}{os.getpid()}"
            try:
                with naming(target):
                    _copy(artifact.path, temporary / "new", list(new))
                    if target.exists():
                        os.replace(target, temporary / "old")
                    os.replace(temporary / "new", target)
                    fsync_folder(target.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _check(self, kind: str, path: Path) -> None:
        before = checked.read_table(table_of(path))
        now = checked.check_folder(path, before)
        found = checked.fault(path.name, now, before)
        if found is None:
            if self._held and now != before:
                checked.write_table(table_of(path), now)
            return
        file, what = found
        remedy = (
            f"`onmodel doctor {self.folder} --fix` moves the {kind} out of the way; then run its"
            " recipe again"
        )
        said = {
            "added": (
                f"is no part of the {kind} that was made; move it elsewhere and run the same"
                " command again"
            ),
            "missing": f"is missing; {remedy}",
            "changed": f"was changed since it was made; {remedy}",
        }
        raise StateError(path / file, said[what])

    def _sweep(self) -> None:
        """Remove what killed processes left: temporaries, and the scratch of stages that were
        finished since.

        The report's folders have a lock of their own; they are swept unless another process writes
        there.
        """
        with suppress(BusyError), self.results(patience=0):
            pass
        for folder in (
            *self.work_folders(),
            *(Path(root) for root, _, _ in os.walk(self.folder / "scratch")),
        ):
            sweep(folder)
        newest_is_finished = {key[:KEY_DIGITS]: done for key, done in self.ledger.keys().items()}
        for key, path in self.scratches().items():
            if newest_is_finished.get(key):
                shutil.rmtree(path, ignore_errors=True)

    def work_folders(self) -> Iterator[Path]:
        """The folders outside scratch/ in which a run makes temporaries."""
        yield self.folder / "logs"
        for name in ("objects", "pictures"):
            yield self.folder / name
            yield from _matching(self.folder / name, 2)


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a project's only lock for writing. Raises BusyError naming the process that holds it."""
    holder = folder / "writer.txt"
    lock = FileLock(folder / "writer.lock", timeout=0)
    try:
        with _usable(folder):
            lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"{folder} is being written by {_holder(holder)}; wait for it, or use another --project"
        ) from error
    try:
        with _usable(folder):
            holder.write_text(str(ProcessName.own()), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink()  # while it is ours
        lock.release()


def free_name(path: Path) -> Path:
    """`path`, or the first of `path.2`, `path.3` … that is not there yet."""
    found, number = path, 1
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found


def table_of(path: Path) -> Path:
    """The table of an object's files."""
    return path.with_name(f"{path.name}.jsonl")


def fault_of(path: Path) -> tuple[str, str] | None:
    """What keeps an object from having its hash, as `checked.fault` says it. Reads every byte."""
    return checked.fault(
        path.name, checked.check_folder(path, {}), checked.read_table(table_of(path))
    )


def _matching(folder: Path, digits: int) -> list[Path]:
    """The folders in `folder` whose names are so many hex digits, sorted; links are left out."""
    if not folder.is_dir():
        return []
    name = re.compile(f"[0-9a-f]{{{digits}}}")
    return [
        Path(entry.path)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
        if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
    ]


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    """A project folder that cannot be made or written is a mistake of the one who named it."""
    with naming(folder):
        try:
            yield
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            reason = error.strerror
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
                raise
            reason = error.strerror
        else:
            return
    raise InputError(
        "project", folder, f"cannot be written ({reason}); check it, or name another with --project"
    )


def _holder(path: Path) -> str:
    """Who writer.txt says holds the project; a process that is gone is not named."""
    try:
        found = ProcessName.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "another process"
    if found.elsewhere:
        return f"process {found.number} on {found.machine}"
    return f"process {found.number}" if found.runs() else "another process"


def _hashes(folder: Path, hidden: bool) -> dict[str, str]:
    """Path in the folder → SHA-256, or "" for what is no plain file. `hidden` takes names that
    begin with a dot."""
    if not folder.is_dir() or folder.is_symlink():
        return {"": ""}
    found = {}
    for root, folders, names in os.walk(folder):
        for name in [*names, *(name for name in folders if Path(root, name).is_symlink())]:
            path = Path(root, name)
            plain = path.is_file() and not path.is_symlink()
            found[path.relative_to(folder).as_posix()] = sha256_file(path) if plain else ""
    return {
        name: hash
        for name, hash in found.items()
        if hidden or not any(part.startswith(".") for part in name.split("/"))
    }


def _refuse_damaged(project: Path, folder: Path, new: dict[str, str]) -> None:
    """Raise StateError where a release's files and its checksums disagree."""
    if CHECKSUMS in new:
        listed = read_checksums((folder / CHECKSUMS).read_bytes())
        for name in sorted(listed.keys() | new.keys() - {CHECKSUMS}):
            if listed.get(name) != new.get(name):
                remedy = (
                    f"`onmodel doctor {project} --fix` moves it out of the way; then run the recipe"
                    " again"
                )
                raise StateError(folder / name, f"does not have the hash in {CHECKSUMS}; {remedy}")


def _refuse_own(target: Path, here: dict[str, str]) -> None:
    """Raise InputError for files that were not published as they are now."""
    listed = read_checksums((target / CHECKSUMS).read_bytes()) if here.get(CHECKSUMS) else {}
    own = sorted(
        name
        for name, hash in here.items()
        if name != CHECKSUMS and (not hash or listed.get(name) != hash)
    )
    own += [CHECKSUMS] if CHECKSUMS in here and not listed else []
    if own:
        files = ", ".join(str(target / name) for name in own[:SHOWN])
        files += f" and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
        raise InputError(
            "release",
            files,
            "not as onmodel published it; move it elsewhere and run the command again",
        )


def _copy(source: Path, target: Path, names: list[str]) -> None:
    """Copy files, with the mode that the umask gives, onto the disk itself."""
    folders = {target}
    for name in names:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        folders |= {parent for parent in path.parents if parent.is_relative_to(target)}
        shutil.copyfile(source / name, path)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    for folder in folders:
        fsync_folder(folder)
