"""One attempt of a stage in the ledger: its messages as they come, and how it ended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from onmodel.errors import OnmodelError, PausedError
from onmodel.events import Event, Events, Message
from onmodel.ledger.store import Ledger
from onmodel.text import one_line, shown, without_secrets


@contextmanager
def recorded(ledger: Ledger, run: int, events: Events) -> Iterator[Events]:
    """Events whose messages the ledger keeps as those of `run`. An error that ends the context is
    recorded: Ctrl-C as paused, everything else as failed, each with its line.
    """
    started = time.monotonic()

    def keep(event: Event) -> None:
        if isinstance(event, Message):
            ledger.add_message(run, event)

    try:
        yield Events(events, keep)
    except BaseException as error:
        paused = isinstance(error, PausedError | KeyboardInterrupt)
        with suppress(OnmodelError):  # the error that ended the run is the one to tell
            seconds = time.monotonic() - started
            ledger.stop(run, "paused" if paused else "failed", _line(error), seconds)
        raise


def _line(error: BaseException) -> str:
    if isinstance(error, OnmodelError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C"
    return shown(one_line(without_secrets(f"{type(error).__name__}: {error}")), 200)
