"""Events on a terminal: progress bars with time left on stderr, and lines that stay.

Where the console is no terminal there are no bars; a task leaves one line when it completes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from onmodel.cli.console import PlainConsole
from onmodel.events import (
    Event,
    Events,
    Finding,
    Message,
    Note,
    Row,
    TaskAdvanced,
    TaskEnded,
    TaskStarted,
)
from onmodel.text import printable

NOTE_STYLES = {"title": "bold", "info": "", "warning": "yellow", "error": "bold red"}
STATUS_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
PLAIN_WIDTH = 160  # columns of a table where the output is a file or a pipe


@contextmanager
def on_terminal(console: Console | None = None) -> Iterator[Events]:
    """A bus whose events are shown on `console`, by default on stderr."""
    console = console or PlainConsole(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with _Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield Events(_Terminal(console, bars))


def messages_on(console: Console) -> Events:
    """A bus that shows only messages on `console`, no tasks."""

    def listen(event: Event) -> None:
        if isinstance(event, Message):
            show(console, event)

    return Events(listen)


def show(console: Console, message: Message) -> None:
    """Print one message; only a title and a finding begin at the margin."""
    match message:
        case Note(text, level, details):
            margin = "" if level == "title" else "  "
            _line(console, Text(f"{margin}{printable(text)}", NOTE_STYLES[level]))
            for line in details:
                _line(console, Text(f"    {printable(line)}"))
        case Row():
            _line(console, Text(f"  {printable(message.text)}"))
        case Finding():
            words = Text(printable(message))
            words.stylize(STATUS_STYLES[message.status], 0, len(message.status))
            _line(console, words)


def wide(console: Console) -> Console:
    """The console for tables: itself, or one of PLAIN_WIDTH columns where it is no terminal."""
    if console.is_terminal:
        return console
    return PlainConsole(file=console.file, width=max(console.width, PLAIN_WIDTH))


class _Bars(Progress):
    """Bars, each with its words on a line below, where a narrow terminal has room for them."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if task.fields["words"]:
                yield Text(printable(task.fields["words"]))


class _Terminal:
    """The listener: bars for tasks, lines for everything else."""

    def __init__(self, console: Console, bars: _Bars) -> None:
        self._console, self._bars = console, bars
        self._ids: dict[TaskStarted, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case TaskStarted(name, total):
                self._ids[event] = self._bars.add_task(printable(name), total=total, words="")
            case TaskAdvanced(task, units, words):
                if words:
                    self._bars.update(self._ids[task], words=words)
                self._bars.advance(self._ids[task], units)
            case TaskEnded(task, seconds, completed):
                self._bars.remove_task(self._ids.pop(task))
                if completed:
                    amount = f"{task.total} {task.unit}".rstrip()
                    line = f"  {printable(task.name)}: {amount} in {seconds:.1f} s"
                    _line(self._console, Text(line))
            case _:
                show(self._console, event)


def _line(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)
