"""Commands that change a data set in the making: one at a time, each from the state that the one
before left."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any


def writes(command: Callable[..., None]) -> Callable[..., None]:
    """A command that holds its folder `work` while it runs, and so opens it after others wrote;
    with `dry_run` it only reads."""

    @wraps(command)
    def holding(**arguments: Any) -> None:
        from onmodel.curate.workshop import held

        with nullcontext() if arguments.get("dry_run") else held(arguments["work"]):
            command(**arguments)

    return holding
