"""Settings that every family has: how noise levels are drawn for training, and how pictures are
generated."""

from typing import Literal, Self

from pydantic import Field, model_validator

from onmodel.validation import StrictTable

MOST_SHIFT = 1_000.0
Schedule = Literal["flow", "simple", "sgm_uniform", "normal"]  # of noise levels
SamplerName = Literal["euler", "euler_ancestral", "dpmpp_2m", "er_sde"]
# What an empty prompt becomes where programs differ.
EmptyText = Literal["diffusers", "comfyui"]
MOST_SAMPLING_STEPS = 1_000
MOST_GUIDANCE = 1_000.0


class Timesteps(StrictTable):
    """How noise levels are drawn (https://arxiv.org/abs/2403.03206, 3.1)."""

    kind: Literal["auto", "logit_normal", "uniform"] = Field(
        default="auto",
        description=(
            "Distribution of times t in 0–1 (1 is noise). logit_normal: sigmoid(mean + std·normal)."
            " auto: that for flow models, uniform for others."
        ),
    )
    mean: float = Field(default=0.0, ge=-100, le=100, description="Mean of logit_normal.")
    std: float = Field(default=1.0, gt=0, le=100, description="Standard deviation of logit_normal.")
    shift: float = Field(
        default=1.0,
        gt=0,
        le=MOST_SHIFT,
        description="Shift towards noise: shift·t / (1 + (shift−1)·t). 1: none.",
    )

    @model_validator(mode="after")
    def _used(self) -> Self:
        if self.kind == "uniform" and (self.mean, self.std) != (0.0, 1.0):
            raise ValueError(
                'mean and std belong to kind = "logit_normal"; uniform times have none'
            )
        return self


class SamplingSettings(StrictTable):
    """How pictures are generated (docs/reference/sampling.md)."""

    steps: int = Field(default=16, ge=1, le=MOST_SAMPLING_STEPS, description="Sampling steps.")
    guidance: float = Field(default=3.0, ge=0, le=MOST_GUIDANCE, description="Guidance scale.")
    guidance_rescale: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description=(
            "Share of the guided prediction that is brought back to the unguided one's deviation"
            " (CFG rescale). Usual for v-prediction with zero terminal SNR: 0.7."
        ),
    )
    shift: float = Field(
        default=3.0,
        gt=0,
        le=MOST_SHIFT,
        description="Shift of the schedule towards noise; bases that predict noise have none.",
    )
    sampler: SamplerName = Field(
        default="euler",
        description="Sampler. euler_ancestral and er_sde add noise in every step.",
    )
    schedule: Schedule = Field(
        default="flow",
        description="Noise levels: flow as in diffusers, the others as in ComfyUI.",
    )
    empty_text: EmptyText = Field(
        default="diffusers",
        description=(
            "How an empty prompt or negative prompt is encoded. diffusers: no text, as in training."
            " comfyui: one padding token."
        ),
    )
