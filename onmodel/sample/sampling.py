"""How pictures are generated, as the sampler, the picture cache and the plan take it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onmodel.families.settings import EmptyText, SamplerName, Schedule

# Raised when a sampler gives other pixels for the same request.
_VERSIONS: dict["SamplerName", int] = {
    "euler": 2,
    "euler_ancestral": 1,
    "dpmpp_2m": 1,
    "er_sde": 1,
}
_TITLES: dict["SamplerName", str] = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "dpmpp_2m": "DPM++ 2M",
    "er_sde": "ER SDE",
}  # as other programs call them


# `Sampling.sampler_version`.
VERSION_PATTERN = (
    r"^(?P<sampler>euler|euler_ancestral|dpmpp_2m|er_sde)"
    r"-(?P<schedule>flow|simple|sgm_uniform|normal)-\d+"
    r"(-rescale(?P<rescale>\d[\d.]*(e-\d+)?))?(-(?P<empty>comfyui)_empty_text)?$"
)


@dataclass(frozen=True, slots=True)
class DrawnBatch:
    """Pictures of one size that are generated at once, sides in pixels. `guided`: the negative
    prompt is predicted too."""

    pictures: int
    width: int
    height: int
    guided: bool


@dataclass(frozen=True, slots=True)
class Sampling:
    """How pictures are generated. Sides in pixels; `batch` only trades memory for speed and is no
    part of a key. Guidance 1 leaves the negative prompt out and costs half; `guidance_rescale`
    brings that share of the guided prediction back to the unguided one's deviation."""

    steps: int = 16
    guidance: float = 3.0
    shift: float = 3.0
    weight: float = 1.0
    width: int = 96
    height: int = 96
    batch: int = 8
    sampler: "SamplerName" = "euler"
    schedule: "Schedule" = "flow"
    empty_text: "EmptyText" = "diffusers"
    guidance_rescale: float = 0.0

    @property
    def guided(self) -> bool:
        """Whether the negative prompt is predicted too."""
        return self.guidance != 1.0

    def drawn(self, pictures: int) -> DrawnBatch:
        """The largest batch of so many pictures."""
        batch = min(self.batch, pictures)
        return DrawnBatch(batch, self.width, self.height, self.guided)

    @property
    def sampler_version(self) -> str:
        """Sampler, schedule and version, as in a signature: euler-flow-2; behind them the guidance
        rescale, and how an empty text is encoded, unless as in training:
        euler-flow-2-rescale0.7-comfyui_empty_text."""
        rescale = f"-rescale{self.guidance_rescale!r}" if self.guidance_rescale else ""
        empty = "" if self.empty_text == "diffusers" else f"-{self.empty_text}_empty_text"
        return f"{self.sampler}-{self.schedule}-{_VERSIONS[self.sampler]}{rescale}{empty}"

    @property
    def sampler_title(self) -> str:
        """The sampler's name in A1111 and on Civitai."""
        return _TITLES[self.sampler]
