"""Progress on stderr with time left; silent when stderr is no terminal, but for one line per
task."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from onmodel.console import PlainConsole
from onmodel.text import printable


class _Bars(RichProgress):
    """Bars, each with its words on a line below, where a narrow terminal has room for them."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if task.fields["shown"]:
                yield Text(printable(task.fields["shown"]))


class Task:
    """One bar. `advance(n, "loss 0.12")` moves it and shows the words."""

    def __init__(self, rich: RichProgress, id: int) -> None:
        self._rich, self._id = rich, id

    def advance(self, steps: int = 1, shown: str = "") -> None:
        if shown:
            self._rich.update(self._id, shown=shown)  # type: ignore[arg-type]
        self._rich.advance(self._id, steps)  # type: ignore[arg-type]

    def note(self, line: str) -> None:
        """Print a line that stays, above the bars."""
        self._rich.console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


class Progress:
    """Bars for the tasks of a run. Use as a context manager; without a terminal it prints a line
    when a task ends."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or PlainConsole(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._rich = _Bars(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        )

    def __enter__(self) -> "Progress":
        self._rich.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rich.stop()

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        """A bar of `total` units that vanishes when done and leaves one line with its seconds."""
        started, description = time.monotonic(), printable(description)
        id = self._rich.add_task(description, total=total, shown="")
        try:
            yield Task(self._rich, id)
        finally:
            self._rich.remove_task(id)
        self.console.print(Text(f"  {description}: {total} in {time.monotonic() - started:.1f} s"))
