"""One writer at a time for a folder, among processes and among threads; readers need no lock. And
the name of a process, by which others find out whether it still runs."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from onmodel.errors import BusyError, InputError

PATIENCE = 5.0  # seconds that the second writer waits; most commands end within
_SAME_START = 5.0  # seconds by which a process's start may seem to move when the clock is set


@dataclass(frozen=True, slots=True)
class ProcessName:
    """A process: its number, its start in seconds since 1970, its machine.

    Numbers are used again, so the start belongs to the name. As text it is "number start machine".
    """

    number: int
    start: float
    machine: str

    @classmethod
    def own(cls) -> "ProcessName":
        """This process."""
        import psutil

        return cls(os.getpid(), psutil.Process().create_time(), platform.node())

    @classmethod
    def parse(cls, text: str) -> "ProcessName":
        """The name in a text that `str` made. Raises ValueError for any other text."""
        number, start, machine = text.split(" ", 2)
        return cls(int(number), float(start), machine)

    def __str__(self) -> str:
        return f"{self.number} {self.start:.2f} {self.machine}"

    @property
    def elsewhere(self) -> bool:
        """Whether it ran on another machine, where its end cannot be seen."""
        return self.machine != platform.node()

    def runs(self) -> bool:
        """Whether it still runs on this machine."""
        import psutil

        try:
            start = psutil.Process(self.number).create_time()
        except (psutil.Error, ValueError, OverflowError):
            return False
        return not self.elsewhere and abs(start - self.start) < _SAME_START


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
