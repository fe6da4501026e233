"""What a running training shows and records: the words beside its bar, and a row for every step
that was saved."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np
import torch

from onmodel.devices import used_memory
from onmodel.train.state import History
from onmodel.train.steps import StepRow

Record = Callable[[Sequence[StepRow]], None]
WINDOW = 50  # steps over which the shown loss and speed are averaged
SAVING_SHARE = 0.04  # of the time, at most
PATIENCE = 60.0  # seconds after which slow steps are saved


class Live:
    """Shows and records one attempt of a run. Rows go to `record` only after the state that
    produced them is saved, so that each step is recorded once, however often the run is
    interrupted."""

    def __init__(
        self, history: History, steps_per_epoch: int, device: torch.device, record: Record
    ) -> None:
        self._history, self._steps_per_epoch, self._device, self._record = (
            history,
            steps_per_epoch,
            device,
            record,
        )
        self._started = time.monotonic()
        self._times: deque[tuple[float, int]] = deque([(self._started, 0)], maxlen=WINDOW + 1)
        self._machine: dict[int, tuple[float, float, int]] = {}
        self._told = 0

    def step(self, pictures: int) -> str:
        """Note a finished step; returns the words for the bar."""
        self._times.append((time.monotonic(), pictures))
        self._machine[self._history.steps] = (
            round(time.monotonic() - self._started, 3),
            round(self._speed(), 3),
            used_memory(self._device) >> 20,
        )
        return self.words()

    def cells(self, epoch: int) -> dict[str, float | None]:
        """The row of an epoch: step, loss over the last steps, held-out loss."""
        losses, heldout = self._history.losses[-WINDOW:], self._history.heldout
        return {
            "epoch": epoch,
            "step": self._history.steps,
            "loss": float(np.mean(losses)),
            "heldout": float(np.mean(next(reversed(heldout.values())))) if heldout else None,
        }

    def words(self) -> str:
        """Loss (smoothed, of the steps that are read), held-out loss, learning rate, pictures a
        second, memory."""
        history = self._history
        words = [f"loss {np.mean(history.losses[-WINDOW:]):.4f}"] if history.losses else []
        if history.heldout:
            words.append(f"held-out {np.mean(next(reversed(history.heldout.values()))):.4f}")
        words += [
            f"lr {history.rates[-1]:.3g}",
            f"{self._speed():.3g} pictures/s",
            f"{used_memory(self._device) / 1e9:.1f} GB",
        ]
        return "  ".join(words)

    def flush(self) -> None:
        """Record the steps that are not recorded yet. Steps of earlier attempts have no time, speed
        and memory."""
        rows = self._history.rows(self._steps_per_epoch)[self._told :]
        for row in rows:
            if machine := self._machine.pop(row["step"], None):
                row["seconds"], row["pictures_per_second"], row["memory_mib"] = machine
        self._record(rows)
        self._told = self._history.steps

    def _speed(self) -> float:
        (start, _), *rest = self._times
        return sum(pictures for _, pictures in rest) / max(self._times[-1][0] - start, 1e-9)


class Rhythm:
    """When to save: every `every` steps or PATIENCE seconds, or less often where saving takes more
    than SAVING_SHARE of the time."""

    def __init__(self, every: int) -> None:
        self._every, self._steps, self._cost, self._ended = every, 0, 0.0, time.monotonic()

    def due(self, now: bool) -> bool:
        """Called after each step; `now` when it must not wait."""
        self._steps += 1
        seconds = time.monotonic() - self._ended
        many = self._steps >= self._every or seconds >= PATIENCE
        return now or (many and seconds >= self._cost / SAVING_SHARE)

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._steps, self._ended = 0, time.monotonic()
        self._cost = self._ended - self._began
