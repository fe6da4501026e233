"""The journal of a session's answers: lines are only ever appended, each on the disk before the
next pair is shown.

    {"pair": 0, "answer": "left"}   {"undo": 0}   {"end": 41}

A line that a crash tore is no line. Once ended, nobody can vote: the names may be out.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from onmodel.errors import BusyError, StateError
from onmodel.hashing import append_json_lines, read_json_lines

Answer = Literal["left", "right", "tie"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)
WAIT = 30.0  # seconds for another writer: the result of a session is worked out under the lock
REMEDY = "restore the file, or judge again with another --seed"


class Votes:
    """The answers so far, in the order of the pairs, and the file behind them. `pairs` is how many
    there are to answer; None reads a journal without its session.

    Raises StateError naming the line when the file is damaged.
    """

    def __init__(self, path: Path, pairs: int | None = None) -> None:
        self._path, self._pairs = path, pairs
        self.answers: list[Answer] = []
        self.ended = False
        try:
            rows = read_json_lines(path)
        except StateError as error:
            raise StateError(path, f"{error.what}; {REMEDY}") from error
        for number, row in enumerate(rows, 1):
            try:
                self._take(row)
            except ValueError as error:
                raise StateError(path, f"line {number} is damaged ({error}); {REMEDY}") from error

    def vote(self, pair: int, answer: str) -> None:
        """Answer the next pair. Raises ValueError when `pair` is not the next, `answer` is none of
        ANSWERS, or the session has ended."""
        self._append({"pair": pair, "answer": answer})

    def undo(self, pair: int) -> None:
        """Take the last answer back. Raises ValueError when `pair` is not the last answered, or
        after the end."""
        self._append({"undo": pair})

    def end(self) -> None:
        """No more votes. Raises ValueError after the end."""
        self._append({"end": len(self.answers)})

    def _append(self, row: Mapping[str, int | str]) -> None:
        before = list(self.answers), self.ended
        self._take(row)
        try:
            append_json_lines(self._path, [row])
        except BaseException:
            self.answers, self.ended = before
            raise

    def _take(self, row: object) -> None:
        """Do what a line says. Raises ValueError when it does not follow from those before."""
        at = len(self.answers)
        if self.ended:
            raise ValueError("the session has ended")
        if row == {"end": at}:
            self.ended = True
        elif isinstance(row, dict) and "undo" in row:
            if not at or row != {"undo": at - 1}:
                raise ValueError("only the last answer can be taken back")
            self.answers.pop()
        else:
            answer = next(
                (answer for answer in ANSWERS if row == {"pair": at, "answer": answer}), None
            )
            if answer is None or at == self._pairs:
                raise ValueError("not an answer to the pair that is shown")
            self.answers.append(answer)


@contextmanager
def voting(path: Path, pairs: int | None = None) -> Iterator[Votes]:
    """The journal while nobody else writes it. Raises BusyError when another does for long."""
    lock = FileLock(path.with_suffix(".lock"), timeout=WAIT)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"{path.parent} is being written by another process; end it and answer again"
        ) from error
    try:
        yield Votes(path, pairs)
    finally:
        lock.release()


def ended(path: Path) -> bool:
    """Has this session ended?"""
    return Votes(path).ended
