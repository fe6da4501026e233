"""What a recipe can set about a training, and the numbers that follow from it."""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from onmodel.dataset.rules import LONGEST_SIDE, MOST_WEIGHT, Showing
from onmodel.families.protocol import MOST_SHIFT, Timesteps
from onmodel.reading import LARGEST_WHOLE

LOKR_FACTOR = 8
LARGEST_RANK = 8_192  # the widest layers of the field are no wider
LARGEST_BATCH = 10_000
MOST_EPOCHS = 1_000_000
MOST_SAMPLING_STEPS = 1_000
MOST_GUIDANCE = 1_000.0
Side = Annotated[int, Field(ge=16, le=LONGEST_SIDE, multiple_of=16)]


class Ranks(BaseModel):
    """Another rank for the layers whose name matches a pattern, e.g. `{ layers = "blocks.[0-3].*",
    rank = 8 }`.

    Their scale stays the run's: alpha is brought along.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layers: str
    rank: int = Field(ge=1, le=LARGEST_RANK)


class Preview(BaseModel):
    """Pictures drawn with the weights as they are, every so many epochs, through the sampler of all
    other stages.

    Always the same prompts and noise. `size` is a side, or [width, height], in pixels; without it
    the resolution. They lie in the run's folder `previews/`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: list[str] = Field(min_length=1, max_length=1_000)
    negative: str = ""
    every: int = Field(1, ge=1)
    seed: int = Field(0, ge=0, le=LARGEST_WHOLE)
    steps: int = Field(16, ge=1, le=MOST_SAMPLING_STEPS)
    guidance: float = Field(3.0, ge=0, le=MOST_GUIDANCE)
    shift: float = Field(3.0, gt=0, le=MOST_SHIFT)
    size: Side | tuple[Side, Side] | None = None


class Options(Showing):
    """The settings of a training run, but for its data. How pictures are shown (`Showing`) holds
    for every subset that says nothing else.

    Network. `rslora` scales by alpha/√rank instead of alpha/rank
    (https://arxiv.org/abs/2312.03732). `targets` is a preset of the base or a list of patterns such
    as `["*.mlp.*", "final_layer.linear"]`; of `ranks` the last that matches a layer decides.
    `lokr_factor` is LyCORIS's `factor`: the size of the smaller Kronecker factor, −1 for the most
    even one.

    Steps. A step takes `gradient_accumulation` batches. `warmup` counts steps and `cycles` the
    restarts of `cosine_with_restarts`. `optimizer_args` go to the optimizer's own constructor.
    `ema` is the decay of an average of the weights, 0 for none; with it checkpoints hold the
    average. `loss_weighting` weighs a picture by its time: `sigma_sqrt` and `cosmap` as in
    https://arxiv.org/abs/2403.03206, `min_snr` with γ = 5 as in https://arxiv.org/abs/2303.09556
    for a velocity.

    Checkpoints are written every `keep_every` epochs and at the end. With `keep_last` or
    `keep_best` (by the held-out loss) only the last, or best, so many of them stay; the end always
    does. `validation` measures the loss on held-out pictures with each of them.

    `resolution` is the side in pixels of a square of the buckets' area. `precision` is that of the
    large products: "auto" is bf16 where the machine multiplies it in hardware, else fp32.
    `gradient_checkpointing` computes blocks twice instead of keeping their activations; "auto" does
    so when these would not fit the free memory.
    """

    epochs: int = Field(ge=1, le=MOST_EPOCHS)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    network: Literal["lora", "dora", "lokr"] = "lora"
    rank: int = Field(32, ge=1, le=LARGEST_RANK)
    alpha: float = Field(32, gt=0, le=MOST_WEIGHT)
    rslora: bool = False
    targets: str | list[str] = "attention_mlp"
    ranks: list[Ranks] = Field(default_factory=list)
    lokr_factor: int = Field(LOKR_FACTOR, ge=-1, le=LARGEST_RANK)
    batch: int = Field(2, ge=1, le=LARGEST_BATCH)
    gradient_accumulation: int = Field(1, ge=1, le=LARGEST_BATCH)
    timesteps: Timesteps = Timesteps()
    loss_weighting: Literal["none", "sigma_sqrt", "cosmap", "min_snr"] = "none"
    optimizer: Literal["adamw", "adamw_8bit", "prodigy", "adafactor", "came"] = "adamw"
    optimizer_args: dict[str, Any] = Field(default_factory=dict)
    weight_decay: float = Field(0.01, ge=0, le=1_000)
    warmup: int = Field(0, ge=0)
    schedule: Literal["constant", "linear", "cosine", "cosine_with_restarts"] = "constant"
    cycles: int = Field(1, ge=1, le=MOST_EPOCHS)
    grad_clip: float = Field(1.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    keep_every: int = Field(1, ge=1)
    keep_last: int | None = Field(None, ge=1)
    keep_best: int | None = Field(None, ge=1)
    save_precision: Literal["fp32", "bf16"] = "fp32"
    validation: bool = True
    preview: Preview | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    gradient_checkpointing: bool | Literal["auto"] = "auto"

    @model_validator(mode="after")
    def _no_idle_setting(self) -> Self:
        """A setting that another one makes idle is refused, not ignored, unless it is as without a
        word."""
        if self.keep_best is not None and not self.validation:
            raise ValueError("keep_best goes by the held-out loss; set validation = true")
        if self.cycles > 1 and self.schedule != "cosine_with_restarts":
            raise ValueError('cycles belong to schedule = "cosine_with_restarts"')
        if self.lokr_factor != LOKR_FACTOR and self.network != "lokr":
            raise ValueError('lokr_factor belongs to network = "lokr"')
        if self.network == "lokr" and self.rslora:
            raise ValueError("rslora is for lora and dora")
        if self.lokr_factor == 0:
            raise ValueError("lokr_factor is −1 or 1 and more")
        return self

    def gauge(self, layer: str) -> tuple[int, float]:
        """Rank and alpha of a layer; its scale is always alpha/rank, so rsLoRA's alpha is
        alpha·√rank."""
        rank = next(
            (rule.rank for rule in reversed(self.ranks) if fnmatchcase(layer, rule.layers)),
            self.rank,
        )
        return rank, self.alpha * rank**0.5 if self.rslora else self.alpha * rank / self.rank

    def kept(self, epoch: int) -> bool:
        """Is a checkpoint written after this epoch (from 1)?"""
        return epoch % self.keep_every == 0 or epoch == self.epochs

    def dropped(self, heldout: Mapping[int, float | None]) -> set[int]:
        """Which of the written checkpoints (epoch → held-out loss) do not stay."""
        if self.keep_last is None and self.keep_best is None:
            return set()
        stay = {self.epochs} | set(sorted(heldout)[-self.keep_last :] if self.keep_last else [])
        if self.keep_best:
            stay |= set(
                sorted(heldout, key=lambda epoch: (heldout[epoch], epoch))[: self.keep_best]
            )
        return set(heldout) - stay

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step (from 0) of `total`: linear warm-up, then the schedule, which
        ends at zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, total - self.warmup)
        match self.schedule:
            case "constant":
                return self.learning_rate
            case "linear":
                return self.learning_rate * (1 - done)
            case "cosine" | "cosine_with_restarts":
                cycle = done * self.cycles % 1.0
                return self.learning_rate * 0.5 * (1 + math.cos(math.pi * cycle))
