"""What a recipe can set about a training, and the numbers that follow from it."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from onmodel.dataset.rules import Showing


class Timesteps(BaseModel):
    """How times t in 0…1 are drawn, before they are shifted towards noise: shift·t / (1 + (shift−1)·t)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["logit_normal", "uniform"] = "logit_normal"
    shift: float = Field(default=1.0, gt=0)


class Options(Showing):
    """The settings of a training run, but for its data.

    How pictures are shown (`Showing`) holds for every subset that says nothing else. `warmup` counts steps. A
    checkpoint is kept every `keep_every` epochs and at the end. `validation` measures the loss on held-out pictures
    with each of them.
    `precision` is that of the large products: "auto" is bf16 where the machine multiplies it in hardware, else fp32.
    `gradient_checkpointing` computes blocks twice instead of keeping their activations.
    """

    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    rank: int = Field(32, ge=1)
    alpha: float = Field(32, gt=0)
    targets: str = "attention_mlp"
    batch: int = Field(2, ge=1)
    timesteps: Timesteps = Timesteps()
    weight_decay: float = Field(0.01, ge=0)
    warmup: int = Field(0, ge=0)
    schedule: Literal["constant", "cosine"] = "constant"
    grad_clip: float = Field(1.0, ge=0)
    keep_every: int = Field(1, ge=1)
    validation: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    gradient_checkpointing: bool = False

    def kept(self, epoch: int) -> bool:
        """Is a checkpoint kept after this epoch (from 1)?"""
        return epoch % self.keep_every == 0 or epoch == self.epochs

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step (from 0) of `total`: linear warm-up, then constant or half a cosine to zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - self.warmup) / max(1, total - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
