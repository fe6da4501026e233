"""Commands that change a data set in the making run one at a time."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any


def writes(command: Callable[..., None]) -> Callable[..., None]:
    """A command that holds the lock of its folder `work` while it runs. With `dry_run` it reads
    only, without the lock."""

    @wraps(command)
    def holding(**arguments: Any) -> None:
        from onmodel.curate.workshop import held

        with nullcontext() if arguments.get("dry_run") else held(arguments["work"]):
            command(**arguments)

    return holding
