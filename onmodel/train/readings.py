"""Losses and norms of steps, read from the device seldom: a reading waits until the device is done,
which leaves a card idle while the next step is prepared."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.train.state import History

WAIT = 1.0  # seconds between two readings


class Readings:
    """The losses and norms of the steps that are not in the history yet. `check` looks at the
    history after each of them, whenever they are read."""

    def __init__(
        self, history: History, learning_rate: float, check: Callable[[], None] = lambda: None
    ) -> None:
        self._history, self._learning_rate, self._check = history, learning_rate, check
        self._unread: list[Tensor] = []
        self._read = time.monotonic()

    def add(self, loss: Tensor, norm: Tensor) -> None:
        """Note a step's loss and the norm of its gradient, where they are."""
        self._unread.append(torch.stack((loss, norm)))

    def due(self) -> bool:
        """Are the last ones older than a second?"""
        return time.monotonic() - self._read >= WAIT

    def read(self) -> None:
        """Complete the history. Raises InputError naming the first step whose loss or gradient is
        not finite."""
        history = self._history
        values = torch.stack(self._unread).tolist() if self._unread else []
        self._unread.clear()
        self._read = time.monotonic()
        for loss, norm in values:
            history.losses.append(loss)
            history.norms.append(norm)
            if not math.isfinite(loss + norm):
                raise InputError(
                    "learning_rate",
                    self._learning_rate,
                    f"the loss is not finite at step {len(history.losses)}; lower it",
                )
            self._check()
