"""What work reports while it runs: tasks that advance, notes, rows of result tables, findings.

Work calls an `Events`, which passes each event to its listeners. A terminal (cli/render.py), the
ledger (engine/attempt.py) and a test's recording bus are listeners. Nothing is printed here.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["title", "info", "warning", "error"]
Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, eq=False)
class TaskStarted:
    """Work of `total` units begins. The object itself identifies the task in later events."""

    name: str
    total: int
    unit: str = ""


@dataclass(frozen=True, slots=True)
class TaskAdvanced:
    """`units` more are done; `words` describe the current state, e.g. "loss 0.12"."""

    task: TaskStarted
    units: int
    words: str = ""


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task is over after `seconds`; `completed` is False when an error ended it."""

    task: TaskStarted
    seconds: float
    completed: bool


@dataclass(frozen=True, slots=True)
class Note:
    """One message, with lines of detail below it."""

    text: str
    level: Level = "info"
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a result table: its cells by column, and the same as one line of text."""

    table: str
    text: str
    cells: Mapping[str, str | float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: what it is about, what was found, what to do. Where it is the
    memory that a `stage` will take, `bytes` of it."""

    about: str
    status: Status
    text: str
    remedy: str = ""
    stage: str = ""
    bytes: int = 0

    def __str__(self) -> str:
        remedy = f" — {self.remedy}" if self.remedy else ""
        return f"{self.status:4}  {self.about}: {self.text}{remedy}"


Message = Note | Row | Finding  # what the ledger keeps of a run
Event = TaskStarted | TaskAdvanced | TaskEnded | Message
Listener = Callable[[Event], None]


class Task:
    """A task in progress, as `Events.task` yields it."""

    def __init__(self, events: "Events", started: TaskStarted) -> None:
        self._events, self._started = events, started

    def advance(self, units: int = 1, words: str = "") -> None:
        """Report that `units` more are done."""
        self._events(TaskAdvanced(self._started, units, words))

    def note(self, text: str) -> None:
        """Report a message while the task goes on."""
        self._events.note(text)


class Events:
    """Passes events to listeners, in the thread that reports them. Without listeners it is silent.

    It is a listener itself: `Events(events, other)` extends `events` by one.
    """

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def __call__(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    @contextmanager
    def task(self, name: str, total: int, unit: str = "") -> Iterator[Task]:
        """Report the start and the end of work of `total` units."""
        started, begin = TaskStarted(name, total, unit), time.monotonic()
        self(started)
        completed = False
        try:
            yield Task(self, started)
            completed = True
        finally:
            self(TaskEnded(started, time.monotonic() - begin, completed))

    def note(self, text: str, level: Level = "info", details: Sequence[str] = ()) -> None:
        """Report a message."""
        self(Note(text, level, tuple(details)))

    def row(self, table: str, text: str, **cells: str | float | None) -> None:
        """Report a row of the result table `table`; `text` is the same as one line."""
        self(Row(table, text, cells))


def first(lines: Sequence[str], count: int, rest: str) -> list[str]:
    """The first `count` lines, and how many more there are; `rest` names where those are listed."""
    more = [f"and {len(lines) - count} more, all in {rest}"] if len(lines) > count else []
    return [*lines[:count], *more]
