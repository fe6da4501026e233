"""The journal of a session's answers: lines are only ever appended, each on the disk before the next pair is shown.

    {"pair": 0, "answer": "left"}   {"undo": 0}   {"end": 41}

A line that a crash tore is no line. Once ended, nobody can vote: the names may be out.
"""

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from onmodel.errors import BusyError, SpaceError, StateError
from onmodel.hashing import fsync_folder

Answer = Literal["left", "right", "tie"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)


class Votes:
    """The answers so far, in the order of the pairs, and the file behind them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.answers: list[Answer] = []
        self.ended = False
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._size = len(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise StateError(path, f"line {number} is damaged; restore the file, or judge again with another --seed"
                                 ) from error  # fmt: skip

    def vote(self, pair: int, answer: Answer) -> None:
        """Answer the next pair. Raises ValueError when `pair` is not the next, or the session has ended."""
        self._append({"pair": pair, "answer": answer})

    def undo(self, pair: int) -> None:
        """Take the last answer back. Raises ValueError when `pair` is not the last answered, or after the end."""
        self._append({"undo": pair})

    def end(self) -> None:
        """No more votes. Raises ValueError after the end."""
        self._append({"end": len(self.answers)})

    def _append(self, row: Mapping[str, int | str]) -> None:
        before = list(self.answers), self.ended
        self._take(row)
        try:
            self._write(json.dumps(row).encode() + b"\n")
        except OSError as error:
            self.answers, self.ended = before
            if error.errno == errno.ENOSPC:
                raise SpaceError(self._path) from error
            raise

    def _write(self, line: bytes) -> None:
        """One line behind the whole ones, or none."""
        new = not self._path.exists()
        with self._path.open("ab", buffering=0) as file:
            file.truncate(self._size)  # what a crash tore
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(self._size)
                raise
        self._size += len(line)
        if new:
            fsync_folder(self._path.parent)

    def _take(self, row: Mapping[str, int | str]) -> None:
        """Do what a line says. Raises ValueError when it does not follow from those before."""
        if self.ended:
            raise ValueError("the session has ended")
        if "end" in row:
            self.ended = True
        elif "undo" in row:
            if not self.answers or row["undo"] != len(self.answers) - 1:
                raise ValueError("only the last answer can be taken back")
            self.answers.pop()
        else:
            answer = next((answer for answer in ANSWERS if answer == row["answer"]), None)
            if answer is None or row["pair"] != len(self.answers):
                raise ValueError("not an answer to the pair that is shown")
            self.answers.append(answer)


@contextmanager
def voting(path: Path) -> Iterator[Votes]:
    """The journal for the only process that may write it. Raises BusyError when another does."""
    lock = FileLock(path.with_suffix(".lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(f"{path.parent} is being judged by another process; end it, or take another --seed") from error
    try:
        yield Votes(path)
    finally:
        lock.release()


def ended(path: Path) -> bool:
    """Has this session ended?"""
    return Votes(path).ended
