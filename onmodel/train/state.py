"""The state of a run between two steps: factors, both moments of AdamW, and the losses so far.

Everything else of a step (its pictures, captions, times and noise) is drawn by counter, so this is all that an exact
resume needs.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onmodel.dataset.cache import read_sealed, write_sealed
from onmodel.train.adapters import Adapters

NAME = "state"


@dataclass
class History:
    """What a run did: loss, gradient norm and learning rate of each step; step → held-out loss; epoch → SHA-256 of the
    checkpoint that was kept.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    heldout: dict[int, float] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return len(self.losses)

    def rows(self, steps_per_epoch: int) -> list[dict[str, float | int]]:
        """One row per step for metrics.jsonl, steps and epochs counted from 1."""
        rows: list[dict[str, float | int]] = []
        for i, (loss, norm, rate) in enumerate(zip(self.losses, self.norms, self.rates, strict=True)):
            step = i + 1
            row = {
                "step": step,
                "epoch": i // steps_per_epoch + 1,
                "loss": loss,
                "grad_norm": norm,
                "learning_rate": rate,
            }
            rows.append(row | ({"heldout": self.heldout[step]} if step in self.heldout else {}))
        return rows


class State:
    """Factors, optimizer and history of a run, and the folder that keeps them."""

    def __init__(self, folder: Path, adapters: Adapters, weight_decay: float) -> None:
        """Brings everything to where an earlier attempt stopped, if there was one.

        Raises StateError naming the file when the saved state is damaged or a part of it is missing.
        """
        self.folder, self.adapters, self.history = folder, adapters, History()
        self.optimizer = torch.optim.AdamW([adapters.flat], weight_decay=weight_decay, fused=True)
        sealed = read_sealed(folder, NAME)
        if sealed is not None:
            self._restore(*sealed)

    def save(self) -> None:
        """Write the state whole or not at all. Raises SpaceError."""
        history, moments = self.history, self.optimizer.state[self.adapters.flat]
        tensors: dict[str, Tensor] = {
            "factors": self.adapters.flat,
            "exp_avg": moments["exp_avg"],
            "exp_avg_sq": moments["exp_avg_sq"],
            "history": torch.tensor([history.losses, history.norms, history.rates], dtype=torch.float64),
        }
        write_sealed(
            self.folder, NAME, tensors, {"heldout": list(history.heldout.items()), "kept": list(history.kept.items())}
        )

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        losses, norms, rates = tensors["history"].tolist()
        self.history = History(losses, norms, rates, dict(facts["heldout"]), dict(facts["kept"]))
        flat = self.adapters.flat
        with torch.no_grad():
            flat.copy_(tensors["factors"])
        self.optimizer.state[flat] = {
            "step": torch.tensor(float(self.history.steps), device=flat.device),
            "exp_avg": tensors["exp_avg"].to(flat.device),
            "exp_avg_sq": tensors["exp_avg_sq"].to(flat.device),
        }
