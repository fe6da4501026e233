"""The steps of a training as they happen: into the ledger, as JSON lines for whoever looks on, and
to a tracker."""

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onmodel.errors import InputError
from onmodel.hashing import naming, write_atomic
from onmodel.ledger.store import Ledger
from onmodel.paths import inside
from onmodel.text import one_line, shown

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")


def check_tracker(name: str | None) -> None:
    """Raise InputError when a tracker is unknown or its package is not installed."""
    if name is None:
        return
    if name not in TRACKERS:
        raise InputError("--tracker", name, f"one of {', '.join(TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise InputError("--tracker", name, f"is not installed; pip install {name}")


class Journal:
    """Where the steps of one training go. `path` is its file of JSON lines; it holds what the
    ledger holds."""

    def __init__(self, ledger: Ledger, key: str, path: Path, tracker: Any) -> None:
        self._ledger, self._key, self._path, self._tracker = ledger, key, path, tracker
        rows = ledger.steps(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if rows or path.exists():  # what an earlier training of this name left
            write_atomic(path, _lines(rows))

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take rows, each with its `step`; those of an earlier attempt are passed over."""
        new = self._ledger.add_steps(self._key, rows)
        with naming(self._path), self._path.open("ab") as file:
            file.write(_lines(new))
        if self._tracker is not None:
            for row in new:
                self._tracker.log(dict(_numbers(row)), step=row["step"])


@contextmanager
def journal(
    ledger: Ledger,
    key: str,
    name: str,
    folder: Path,
    tracker: str | None,
    settings: Mapping[str, Any],
) -> Iterator[Journal]:
    """The journal of the training stage `name`: `folder/name.jsonl`, and what a tracker writes, in
    `folder` too if it asks for one. A tracker is one of accelerate's, and is told the settings.
    """
    path = inside(folder, f"{name}.jsonl", "stages")
    if tracker is None:
        yield Journal(ledger, key, path, None)
        return
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # its loggers ask which process this is
    kind = LOGGER_TYPE_TO_CLASS[tracker]
    place = (
        {"logging_dir": str(folder)}
        if kind.requires_logging_directory or tracker == "mlflow"
        else {}
    )
    plain = {
        field: value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
        for field, value in settings.items()
    }
    try:
        open_tracker = kind(name, **place)
        open_tracker.start()
        open_tracker.store_init_configuration(plain)
    except Exception as error:  # others' code, which may ask a service: no login, no network
        raise InputError(
            "--tracker",
            tracker,
            f"does not start ({shown(one_line(error), 200)}); check its login and network",
        ) from error
    try:
        yield Journal(ledger, key, path, open_tracker)
    finally:
        open_tracker.finish()


def _numbers(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """A row as trackers take it: one number to a name."""
    for name, value in row.items():
        if isinstance(value, list):
            yield from ((f"{name}_{number}", one) for number, one in enumerate(value, 1))
        elif name != "step":
            yield name, value


def _lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
