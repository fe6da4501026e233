"""Everything that onmodel raises on purpose. A user's mistake is one line that names field, value
and remedy.

OnmodelError            exit 1
├── InputError          exit 2   a recipe, a file or an argument is wrong; nothing was written
├── StateError          exit 1   a file that onmodel wrote is missing or damaged
├── SpaceError          exit 1   the disk is full; what existed still loads, the same command
│                                continues
├── PausedError         exit 130 Ctrl-C during a training or a blind session; all is saved, the same
│                                command continues
├── ServiceError        exit 1   a service did not answer, or not usably; earlier answers are kept
├── BusyError           exit 1   another process holds the project
└── VerifyError         exit 1   a hash does not match; names the node
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from onmodel.text import shown, without_secrets

if TYPE_CHECKING:
    from pydantic import ValidationError

_QUOTED = 300  # characters of a field or value; a wrong value may be a list of 100,000 entries
_LONGEST = 4_000  # characters of a message; what is quoted of a file may have any length


class OnmodelError(Exception):
    """Base of the tree; `exit_code` is what the command line returns.

    The message is one printable line of a bounded length, without secrets (text.py).
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        super().__init__(shown(without_secrets(str(message)), _LONGEST))


class InputError(OnmodelError):
    """A user's mistake: which field, which value, what to do."""

    exit_code = 2

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(
            f"{shown(field, _QUOTED)}: {shown(value, _QUOTED)} — {shown(remedy, 4 * _QUOTED)}"
        )

    @classmethod
    def of(cls, error: "ValidationError", prefix: str) -> "InputError":
        """The first fault that pydantic found, its field below `prefix`."""
        first = error.errors()[0]
        value = "missing" if first["type"] == "missing" else first.get("input")
        message = re.sub(r"^(Value error, |Input )", "", first["msg"])
        return cls(".".join([prefix, *map(str, first["loc"])]), value, message)


class StateError(OnmodelError):
    """A file of the project's own state is missing or damaged; onmodel never continues over it."""

    def __init__(self, path: Path | str, what: str) -> None:
        self.path, self.what = Path(path), what
        super().__init__(f"{path}: {what}")


class SpaceError(OnmodelError):
    """The disk is full. Nothing was torn; free some room and run the same command again."""

    def __init__(self, path: Path | str, what: str = "no space left on the disk") -> None:
        super().__init__(f"{path}: {what} — free some room and run the same command again")


class PausedError(OnmodelError):
    """A training was asked to stop, finished its step and saved its state; or a judge stopped after
    some pairs."""

    exit_code = 130

    def __init__(self, step: int, total: int) -> None:
        super().__init__(
            f"paused after step {step} of {total}; run the same command again to go on"
        )


class ServiceError(OnmodelError):
    """A service that was asked did not answer, or not usably; what it answered before is kept."""


class BusyError(OnmodelError):
    """Another process writes to this project."""


class VerifyError(OnmodelError):
    """A hash does not match what the lineage says; `node` is the first that fails."""

    def __init__(self, node: str, what: str) -> None:
        self.node, self.what = node, what
        super().__init__(f"{node}: {what}")
