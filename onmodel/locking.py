"""One writer at a time for a folder, among processes and among threads; readers need no lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from onmodel.errors import BusyError, InputError

PATIENCE = 5.0  # seconds that the second writer waits; most commands end within


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this thread, which may already hold it. Raises BusyError naming the process
    that does.

    The lock ends with its process, however that ends.
    """
    holder = folder / "writer.txt"
    lock = FileLock(folder / "writer.lock", timeout=PATIENCE, is_singleton=True)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"{folder} is being written by {_holder(holder)}; run the command again when it ends"
        ) from error
    except OSError as error:
        raise InputError(
            "folder", folder, f"cannot be written ({error.strerror}); check its permissions"
        ) from error
    try:
        holder.write_text(f"process {os.getpid()}", encoding="utf-8")
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") or "another process"
    except (OSError, ValueError):
        return "another process"
