"""Ctrl-C during a training: once finishes the step and saves, twice stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from onmodel.events import Events


@contextmanager
def pausing(events: Events) -> Iterator[threading.Event]:
    """Within the context the first Ctrl-C sets the flag and is reported; the next one interrupts as
    usual."""
    wanted = threading.Event()
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # signals reach the main thread alone
        yield wanted
        return
    before = signal.getsignal(signal.SIGINT)

    def pause(number: int, frame: Any) -> None:
        wanted.set()
        signal.signal(signal.SIGINT, before)
        events.note("finishing this step; Ctrl-C again stops at once", "warning")

    signal.signal(signal.SIGINT, pause)
    try:
        yield wanted
    finally:
        signal.signal(signal.SIGINT, before)
