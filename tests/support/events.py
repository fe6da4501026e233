"""A bus that records its events, and its messages as a terminal shows them."""

import io

from onmodel.cli.console import PlainConsole
from onmodel.cli.render import show
from onmodel.events import Event, Events, Finding, Note, Row


class Recorded(Events):
    """Events without a terminal; every event is kept in `events`, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        super().__init__(self.events.append)

    @property
    def text(self) -> str:
        """Notes, rows and findings as plain lines."""
        console = PlainConsole(file=io.StringIO(), width=200)
        for event in self.events:
            if isinstance(event, Note | Row | Finding):
                show(console, event)
        return console.file.getvalue()  # type: ignore[attr-defined]
