"""The state of a run between two steps: the trained tensors, their average, the optimizer's, and
the losses so far.

Everything else of a step (its pictures, captions, times and noise) is drawn by counter, so this is
all that an exact resume needs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onmodel.dataset.cache import read_sealed, write_sealed
from onmodel.train.adapters import Trained
from onmodel.train.optimizers import make_optimizer, restore, state_of
from onmodel.train.options import Options
from onmodel.train.steps import StepRow

NAME = "state"


@dataclass
class History:
    """What a run did: loss, gradient norm and learning rate of each step; step → held-out loss of
    each quartile of the times, of the kept weights and, where these are an average, of the others;
    epoch → SHA-256 of the checkpoint.

    Losses and norms follow the rates when they are read (readings.py).
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    heldout: dict[int, list[float]] = field(default_factory=dict)
    heldout_without_ema: dict[int, list[float]] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return len(self.rates)

    def rows(self, steps_per_epoch: int) -> list[StepRow]:
        """One row per step for metrics.jsonl, steps and epochs counted from 1."""
        rows: list[StepRow] = []
        for i, (loss, norm, rate) in enumerate(
            zip(self.losses, self.norms, self.rates, strict=True)
        ):
            step = i + 1
            row: StepRow = {
                "step": step,
                "epoch": i // steps_per_epoch + 1,
                "loss": loss,
                "grad_norm": norm,
                "learning_rate": rate,
            }
            if step in self.heldout:
                row["heldout"] = float(np.mean(self.heldout[step]))
                row["heldout_quartiles"] = self.heldout[step]
            if step in self.heldout_without_ema:
                row["heldout_without_ema"] = float(np.mean(self.heldout_without_ema[step]))
            rows.append(row)
        return rows


class State:
    """The trained tensors, their average, optimizer and history of a run, and the folder that keeps
    them."""

    def __init__(
        self,
        folder: Path,
        adapters: Trained,
        options: Options,
        rates: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Restore the state of an earlier attempt if there is one. `rates` as in `make_optimizer`.

        Raises StateError naming the file when the saved state is damaged or incomplete, InputError
        when the optimizer is not available.
        """
        self.folder, self.adapters, self.history = folder, adapters, History()
        self.ema, self._decay = adapters.flat.detach().clone() if options.ema else None, options.ema
        self.optimizer = make_optimizer(options, adapters, rates)
        sealed = read_sealed(folder, NAME)
        if sealed is not None:
            self._restore(*sealed)

    def average(self) -> None:
        """Update the average of the weights after a step. Early steps count more: the decay is at
        most (1+n)/(10+n)."""
        if self.ema is not None:
            n = self.history.steps
            self.ema.lerp_(self.adapters.flat.detach(), 1 - min(self._decay, (1 + n) / (10 + n)))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the context the tensors hold their average, if there is one."""
        if self.ema is None:
            yield
            return
        flat = self.adapters.flat.detach()
        raw = flat.clone()
        flat.copy_(self.ema)
        try:
            yield
        finally:
            flat.copy_(raw)

    def save(self) -> None:
        """Write the state whole or not at all. Raises SpaceError."""
        history = self.history
        optimizer, numbers = state_of(self.optimizer)
        tensors: dict[str, Tensor] = {
            **optimizer,
            "trained": self.adapters.flat,
            "history": torch.tensor(
                [history.losses, history.norms, history.rates], dtype=torch.float64
            ),
            **({} if self.ema is None else {"ema": self.ema}),
        }
        tables = {
            name: list(getattr(history, name).items())
            for name in ("heldout", "heldout_without_ema", "kept")
        }
        write_sealed(self.folder, NAME, tensors, {**tables, "optimizer": numbers})

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        losses, norms, rates = tensors.pop("history").tolist()
        numbers = facts.pop("optimizer")
        self.history = History(
            losses, norms, rates, **{name: dict(rows) for name, rows in facts.items()}
        )
        with torch.no_grad():
            self.adapters.flat.copy_(tensors.pop("trained"))
            if self.ema is not None:
                self.ema.copy_(tensors.pop("ema"))
        restore(self.optimizer, tensors, numbers)
