"""Events and training steps on their way from a worker to the head, in batches."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onmodel.events import Event, Events, Finding, Message, TaskAdvanced, TaskEnded, TaskStarted

SECONDS = 1.0  # between two batches of a job


@dataclass(frozen=True, slots=True)
class StartedReport:
    """A task began; later reports name it by its number in the job."""

    number: int
    name: str
    total: int
    unit: str


@dataclass(frozen=True, slots=True)
class AdvancedReport:
    """A task moved on."""

    number: int
    units: int
    words: str


@dataclass(frozen=True, slots=True)
class EndedReport:
    """A task is over."""

    number: int
    seconds: float
    completed: bool


@dataclass(frozen=True, slots=True)
class StepsReport:
    """Steps of a training."""

    rows: Sequence[Mapping[str, Any]]


Report = StartedReport | AdvancedReport | EndedReport | StepsReport | Message


class Reporter:
    """On the worker: collects what a job reports and sends it every second. Use it as a context;
    everything is sent at its end."""

    def __init__(self, send: Callable[[list[Report]], None]) -> None:
        self.events = Events(self._listen)
        self._send = send
        self._waiting: list[Report] = []
        self._numbers: dict[TaskStarted, int] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, daemon=True)

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take steps of a training."""
        self._add(StepsReport(list(rows)))

    def __enter__(self) -> "Reporter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._flush()

    def _listen(self, event: Event) -> None:
        match event:
            case TaskStarted(name, total, unit):
                number = self._numbers[event] = len(self._numbers)
                self._add(StartedReport(number, name, total, unit))
            case TaskAdvanced(task, units, words):
                self._add(AdvancedReport(self._numbers[task], units, words))
            case TaskEnded(task, seconds, completed):
                self._add(EndedReport(self._numbers[task], seconds, completed))
            case _:
                self._add(event)

    def _add(self, report: Report) -> None:
        with self._lock:
            self._waiting.append(report)

    def _repeat(self) -> None:
        while not self._over.wait(SECONDS):
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            sent, self._waiting = self._waiting, []
        if sent:
            self._send(sent)


class Replay:
    """On the head: the reports of a job as events. A job that is lost is ended by `close`, which
    ends the tasks that it left open."""

    def __init__(self, events: Events, record: Callable[[Sequence[Mapping[str, Any]]], None]):
        self._events, self._record = events, record
        self._tasks: dict[int, TaskStarted] = {}

    def __call__(self, reports: Sequence[Report]) -> None:
        for report in reports:
            match report:
                case StartedReport(number, name, total, unit):
                    self._tasks[number] = TaskStarted(name, total, unit)
                    self._events(self._tasks[number])
                case AdvancedReport(number, units, words):
                    if number in self._tasks:
                        self._events(TaskAdvanced(self._tasks[number], units, words))
                case EndedReport(number, seconds, completed):
                    if number in self._tasks:
                        self._events(TaskEnded(self._tasks.pop(number), seconds, completed))
                case StepsReport(rows):
                    self._record(rows)
                case _:
                    self._events(report)

    def close(self) -> None:
        """End the tasks that are still open."""
        for task in self._tasks.values():
            self._events(TaskEnded(task, 0.0, False))
        self._tasks.clear()


def labelled(events: Events, label: str) -> Events:
    """Events whose tasks and notes begin with a label, as several stages report at once."""

    tasks: dict[TaskStarted, TaskStarted] = {}

    def listen(event: Event) -> None:
        match event:
            case TaskStarted(name, total, unit):
                tasks[event] = TaskStarted(f"{label}: {name}", total, unit)
                events(tasks[event])
            case TaskAdvanced(task, units, words):
                events(TaskAdvanced(tasks[task], units, words))
            case TaskEnded(task, seconds, completed):
                events(TaskEnded(tasks.pop(task), seconds, completed))
            case _:
                events(_with_label(event, label))

    return Events(listen)


def _with_label(message: Message, label: str) -> Message:
    if isinstance(message, Finding):
        return message
    return replace(message, text=f"{label}: {message.text}")
