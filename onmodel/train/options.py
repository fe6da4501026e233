"""What a recipe can set about a training, and the numbers that follow from it."""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from onmodel.dataset.rules import LONGEST_SIDE, MOST_WEIGHT, DataConfig, SubsetConfig
from onmodel.families.modes import Quantize
from onmodel.families.settings import SamplingSettings, Timesteps
from onmodel.prompt_syntax import commands, segments
from onmodel.reading import LARGEST_WHOLE
from onmodel.text import shown
from onmodel.validation import StrictTable

LOKR_FACTOR = 8
LARGEST_RANK = 8_192  # the widest layers of the field are no wider
LEAST_PRODIGY_RATE = 0.1  # prodigy multiplies the rate that it estimates by the learning rate, 1
LARGEST_BATCH = 10_000
MOST_EPOCHS = 1_000_000
MOST_BLOCKS = 1_000
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=16, le=LONGEST_SIDE, multiple_of=16)]


class Ranks(StrictTable):
    """Another rank for some layers, e.g. `{ layers = "blocks.[0-3].*", rank = 8 }`."""

    layers: str = Field(description='Pattern of layer names, e.g. "blocks.[0-3].*".')
    rank: int = Field(
        ge=1, le=LARGEST_RANK, description="Rank of these layers. Alpha is scaled with it."
    )


class Preview(SamplingSettings):
    """Pictures drawn during a training, always with the same prompts and noise.

    They are written to the run's folder `previews/`.
    """

    prompts: list[str] = Field(
        min_length=1, max_length=1_000, description="Prompts of the preview pictures."
    )
    negative: str = Field(default="", description="Negative prompt.")
    every: int = Field(default=1, ge=1, description="Draw previews every n epochs.")
    seed: int = Field(
        default=0, ge=0, le=LARGEST_WHOLE, description="Seed of the noise, the same in every epoch."
    )
    size: Side | tuple[Side, Side] | None = Field(
        default=None, description="Side, or [width, height], in pixels. Unset: the resolution."
    )

    @model_validator(mode="after")
    def _weights(self) -> Self:
        for prompt in (*self.prompts, self.negative):
            segments(prompt)
        return self


class Options(DataConfig):
    """The settings of a training run, without its data. How pictures are shown holds for every
    subset that sets nothing else."""

    epochs: int = Field(ge=1, le=MOST_EPOCHS, description="Number of epochs.")
    learning_rate: float = Field(gt=0, allow_inf_nan=False, description="Peak learning rate.")
    network: Literal["lora", "dora", "lokr"] = Field(default="lora", description="Kind of adapter.")
    rank: int = Field(default=32, ge=1, le=LARGEST_RANK, description="Rank of the adapter.")
    alpha: float = Field(
        default=32,
        gt=0,
        le=MOST_WEIGHT,
        description="Alpha of the adapter; its scale is alpha/rank.",
    )
    rslora: bool = Field(
        default=False,
        description=(
            "Scale by alpha/√rank instead of alpha/rank (https://arxiv.org/abs/2312.03732)."
        ),
    )
    targets: str | list[str] = Field(
        default="attention_mlp",
        description='Trained layers: a preset of the base, or patterns such as ["*.mlp.*"].',
    )
    train_text_conditioner: bool = Field(
        default=False,
        description=(
            "Train the text conditioner's blocks too (the LLM adapter). The base's makers advise "
            "against it."
        ),
    )
    text_conditioner_rate: Rate | None = Field(
        default=None,
        description="Rate of the text conditioner. Unset: learning_rate, as in sd-scripts.",
    )
    train_text_encoder: bool = Field(
        default=False, description="Train the text encoder's blocks too."
    )
    text_encoder_rate: Rate | None = Field(
        default=None,
        description="Rate of the text encoder. Unset: learning_rate, as in sd-scripts.",
    )
    ranks: list[Ranks] = Field(
        default_factory=list,
        description=("Other ranks for some layers. The last pattern that matches a layer decides."),
    )
    lokr_factor: int = Field(
        default=LOKR_FACTOR,
        ge=-1,
        le=LARGEST_RANK,
        description="Size of the smaller Kronecker factor of a LoKr. −1: as even as possible.",
    )
    batch: int = Field(default=2, ge=1, le=LARGEST_BATCH, description="Pictures per batch.")
    gradient_accumulation: int = Field(
        default=1, ge=1, le=LARGEST_BATCH, description="Batches per training step."
    )
    timesteps: Timesteps = Field(
        default=Timesteps(), description="Distribution of the noise levels."
    )
    loss_weighting: Literal["none", "sigma_sqrt", "cosmap", "min_snr"] = Field(
        default="none",
        description=(
            "Weight of the loss by noise level: sigma_sqrt and cosmap "
            "(https://arxiv.org/abs/2403.03206), min_snr with γ = 5 "
            "(https://arxiv.org/abs/2303.09556)."
        ),
    )
    noise_offset: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Deviation of a number added to each channel's noise, as in sd-scripts.",
    )
    optimizer: Literal["adamw", "adamw_8bit", "prodigy", "adafactor", "came"] = Field(
        default="adamw", description="Optimizer."
    )
    optimizer_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of the optimizer's constructor."
    )
    prior_weight: float = Field(
        default=1.0,
        ge=0,
        le=MOST_WEIGHT,
        description="Factor on the loss of regularisation pictures.",
    )
    weight_decay: float = Field(default=0.01, ge=0, le=1_000, description="Weight decay.")
    warmup: int = Field(default=0, ge=0, description="Steps of linear warm-up.")
    schedule: Literal["constant", "linear", "cosine", "cosine_with_restarts"] = Field(
        default="constant", description="Learning rate schedule after the warm-up."
    )
    cycles: int = Field(
        default=1, ge=1, le=MOST_EPOCHS, description="Restarts of cosine_with_restarts."
    )
    grad_clip: float = Field(
        default=1.0, ge=0, description="Largest norm of the gradient. 0: no clipping."
    )
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description=("Decay of an average of the weights, which checkpoints then hold. 0: none."),
    )
    keep_every: int = Field(
        default=1, ge=1, description="Write a checkpoint every n epochs, and at the end."
    )
    keep_last: int | None = Field(
        default=None, ge=1, description="Keep only the last n checkpoints. Unset: all."
    )
    keep_best: int | None = Field(
        default=None,
        ge=1,
        description="Keep only the n checkpoints with the lowest held-out loss. Unset: all.",
    )
    save_precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="Number format of checkpoints."
    )
    validation: bool = Field(
        default=True, description="Measure the loss on held-out pictures at each checkpoint."
    )
    preview: Preview | None = Field(
        default=None, description="Pictures drawn during the training. Unset: none."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description=(
            "Number format of large matrix products. auto: bf16 where the hardware supports it."
        ),
    )
    gradient_checkpointing: bool | Literal["auto", "offload"] = Field(
        default="auto",
        description=(
            "Compute blocks twice to save memory. offload: and keep their inputs in the host's "
            "memory meanwhile. auto: when activations would not fit."
        ),
    )
    memory: str = Field(
        default="auto",
        pattern=r"^(auto|[0-9]{1,6}(\.[0-9]{1,6})? ?(GB|GiB))$",
        description=(
            'Memory that a training step may take, e.g. "6 GB"; more is saved until it fits. '
            "Coding pictures and previews are not limited. auto: what is free on the card."
        ),
    )
    swap_blocks: Annotated[int, Field(ge=0, le=MOST_BLOCKS)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "Blocks whose weights lie in the host's memory and come to the card when they compute. "
            "auto: as few as memory needs."
        ),
    )
    vae_tiles: bool | Literal["auto"] = Field(
        default="auto",
        description=(
            "Encode and decode large pictures in strips. auto: when a training step does not fit "
            "into `memory` without saving; what coding itself takes is not looked at."
        ),
    )
    quantize: Quantize | None = Field(
        default=None,
        description=(
            "8-bit format of the base's weights during the training. It changes what is learnt; "
            "the run notes the error. Unset: the base's own format."
        ),
    )

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
        for kind in ("text_conditioner", "text_encoder"):
            if getattr(self, f"{kind}_rate") is not None and not getattr(self, f"train_{kind}"):
                raise ValueError(f"{kind}_rate needs train_{kind} = true")
        if self.optimizer == "prodigy" and set(self.text_rates.values()) - {self.learning_rate}:
            raise ValueError(
                "prodigy has one rate for all; leave out text_conditioner_rate, text_encoder_rate"
            )
        if self.network != "lora" and (self.quantize or self.swap_blocks not in (0, "auto")):
            raise ValueError('quantize and swap_blocks need network = "lora"')
        if self.lokr_factor == 0:
            raise ValueError("lokr_factor is −1 or 1 and more")
        return self

    @property
    def text_rates(self) -> dict[str, float]:
        """Kind of component → learning rate, of what encodes text and is trained."""
        rates = {}
        if self.train_text_conditioner:
            rates["text conditioner"] = self.text_conditioner_rate or self.learning_rate
        if self.train_text_encoder:
            rates["text encoder"] = self.text_encoder_rate or self.learning_rate
        return rates

    @property
    def memory_bytes(self) -> int | None:
        """`memory` in bytes; None for "auto"."""
        if self.memory == "auto":
            return None
        number, unit = self.memory.rstrip("GiB"), self.memory[-2:]
        return int(float(number) * (2**30 if unit == "iB" else 10**9))

    @field_validator("optimizer_args", mode="before")
    @classmethod
    def _as_a_table(cls, value: object) -> object:
        if isinstance(value, str | list):
            raise ValueError("write a table, e.g. { betas = [0.9, 0.99] }")
        return value

    def doubts(self, steps: int) -> list[str]:
        """Notes about settings under which a run of `steps` steps learns next to nothing."""
        notes = []
        if self.optimizer == "prodigy" and self.learning_rate < LEAST_PRODIGY_RATE:
            notes.append(
                f"learning_rate = {self.learning_rate:g}: prodigy finds its own rate, which this"
                " factor makes next to nothing; write learning_rate = 1.0"
            )
        if self.warmup and self.warmup >= steps:
            share = steps / self.warmup
            notes.append(
                f"warmup = {self.warmup} is longer than the run of {steps} steps: the learning rate"
                f" reaches {share:.0%} of {self.learning_rate:g}; lower warmup"
            )
        if self.caption_dropout == 1 or self.caption_dropout_every == 1:
            notes.append("no caption is ever shown; lower caption_dropout or caption_dropout_every")
        preview = self.preview
        prompts = [*preview.prompts, preview.negative] if preview else []
        for command in dict.fromkeys(found for prompt in prompts for found in commands(prompt)):
            notes.append(
                f"preview: {shown(command, 40)} is read as words, not as other programs read it;"
                " take it out of the prompt"
            )
        return notes

    def rank_alpha(self, layer: str) -> tuple[int, float]:
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


class TrainSubset(SubsetConfig):
    """One subset of a training. Unset fields inherit from the data set's own file, then from the
    train stage."""

    subset: str = Field(description="Name of the subset.")
    stage: str | None = Field(
        default=None, description="Curate stage of the subset. Unset: the run's `dataset`."
    )

    @property
    def label(self) -> str:
        return f"{self.stage}/{self.subset}" if self.stage else self.subset

    @property
    def exposures(self) -> int:
        """How often an epoch shows each picture, when every field is set."""
        return self.repeats * len(self.resolutions)
