"""What is printed: streams that take any text, lines of plain text, JSON, and rich's console
without its markup."""

import json
import os
import sys
from typing import Any

from rich.console import Console

from onmodel.text import printable

PIPE_WIDTH = 1000  # columns of a table that goes to a file or another program
_quiet = False


def open_streams() -> None:
    """Make stdout and stderr take any text. Called once, where a process begins.

    A character that the stream's encoding lacks becomes an escape, e.g. `\\u2192`. A stream that is
    closed, or that Windows leaves out for programs without a window, discards what it is given.
    """
    while (
        free := os.open(os.devnull, os.O_RDWR)
    ) < 3:  # else the next file that is opened would be written to
        os.set_inheritable(free, True)
    os.close(free)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def be_quiet() -> None:
    """From here on PlainConsole prints nothing on stderr: no plan, progress or notes."""
    global _quiet
    _quiet = True


def close_streams() -> None:
    """Write what stdout and stderr still hold, and drop it where nobody takes it: the interpreter
    would complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def say(text: object = "", stderr: bool = False) -> None:
    """Print one line; control characters in it, as of a file's name, are written as escapes."""
    print(printable(text), file=sys.stderr if stderr else sys.stdout)


def say_json(value: Any) -> None:
    """Print a value as JSON in ASCII, which every terminal and program can read."""
    print(json.dumps(value, indent=1))


class PlainConsole(Console):
    """A rich console that reads no markup or emoji names in text, and writes control characters as
    escapes.

    A string is one line. Text of several lines, and styled text, is passed as rich.text.Text with
    printable parts.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)
        self.quiet = self.quiet or (_quiet and self.stderr)
        if not self.is_terminal and "width" not in options and "COLUMNS" not in os.environ:
            self.width = PIPE_WIDTH  # a pipe has no width; rich would cut tables to 80 columns

    def render_str(self, text: str, **options: Any) -> Any:
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Leave it to the entry point how a command ends whose reader is gone."""
        raise
