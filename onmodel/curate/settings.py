"""Settings of the functions that curate a data set. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path

from onmodel.command_settings import CommandSettings, option
from onmodel.errors import InputError

TARGET_HELP = "Wanted shares of an attribute, e.g. style=comic:1,pastel:2. May be repeated."


@dataclass(frozen=True, kw_only=True)
class ObserverSettings(CommandSettings):
    """Models that look at pictures. Without any, those of the toon world."""

    tagger: str | None = option(
        "Tagger in WD v3 format: a folder or hf://owner/name. Default: the toon tagger.", None
    )
    identity: str | None = option(
        "Identity model in CCIP format: a folder or hf://owner/name/folder.", None
    )

    @property
    def base_name(self) -> str:
        """The base whose own observers fill in: "toon" when none is named."""
        return "" if self.tagger or self.identity else "toon"


@dataclass(frozen=True, kw_only=True)
class EndpointSettings(CommandSettings):
    """A model behind an OpenAI-compatible address. The key is read from OPENAI_API_KEY."""

    endpoint: str = option(
        "OpenAI-compatible address, e.g. http://127.0.0.1:8080/v1.",
        "",
        environment="OPENAI_BASE_URL",
    )
    model: str = option(
        "Name of the model at the endpoint. The key is read from OPENAI_API_KEY.",
        "",
        environment="OPENAI_MODEL",
    )
    timeout: float = option("Seconds to wait for one answer.", 120.0, least=1)


@dataclass(frozen=True, kw_only=True)
class ImportSettings(CommandSettings):
    """What is recorded about imported pictures."""

    origin: str = option("Where the pictures come from, e.g. 'drawn by the author'.", "unknown")
    rights: str = option("Right or licence to use the pictures.", "unknown")
    background: str = option("Colour behind transparent pixels, as #rrggbb.", "#ffffff")
    tagger: str | None = option(
        "Tag pictures without a caption with this tagger in WD v3 format: a folder or"
        " hf://owner/name.",
        None,
    )


@dataclass(frozen=True, kw_only=True)
class CaptionSettings(EndpointSettings):
    """Which pictures get a sentence, and from what."""

    template: bool = option("Build sentences from the tags, offline, even with an endpoint.", False)
    subset: tuple[str, ...] = option("Only this subset. May be repeated.", ())
    again: bool = option("Also rewrite existing sentences, except hand-written ones.", False)
    at_once: int = option("Number of parallel requests.", 4, least=1, most=64)


@dataclass(frozen=True, kw_only=True)
class ChooseSettings(CommandSettings):
    """Which pictures are chosen, and how many."""

    count: int = option("Number of pictures to keep.", least=1, short="-k")
    subset: tuple[str, ...] = option("Choose only among this subset. May be repeated.", ())
    at_least: tuple[str, ...] = option(
        "Minimum number with a subset or tag value, e.g. smile=8. May be repeated.", ()
    )
    at_most: tuple[str, ...] = option(
        "Maximum number with a subset or tag value. May be repeated.", ()
    )
    spread: float = option("Weight of diversity against quality.", 1.0, least=0)


@dataclass(frozen=True, kw_only=True)
class SynthesisSettings(CommandSettings):
    """What is generated for a data set, and what of it is kept."""

    count: int = option("Number of pictures to add.", least=1, short="-n")
    subset: str = option("Subset that the new pictures go into.", "synthetic")
    target: tuple[str, ...] = option(
        f"{TARGET_HELP} Default: all values of every free attribute equally often.", ()
    )
    scenes: Path | None = option(
        "Use the scenes of this folder as prompts (see `onmodel dataset scene`).", None
    )
    tries: int = option("Candidates generated per wanted picture.", 4, least=1)
    agreement: float | None = option(
        "Minimum identity similarity (0–1). Default: the data set's 10th percentile.",
        None,
        least=0,
        most=1,
    )
    rights: str = option("Right or licence to use what the model generates.", "unknown")


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings(CommandSettings):
    """What generates the pictures: a base with or without a LoRA, or an endpoint."""

    lora: Path | None = option(
        "LoRA file or release folder. Default: the base alone, prompted by the sheet's tags.", None
    )
    endpoint: str = option("OpenAI-compatible address that generates the pictures.", "")
    model: str = option(
        "Name of the model at the endpoint. The key is read from OPENAI_API_KEY.", ""
    )
    seed: int = option("Seed of the noise.", 0, least=0)
    size: int = option("Side in pixels. Default (0): 96 for the toon base, else 1024.", 0, least=0)
    steps: int = option("Sampling steps. Default (0): 16 for the toon base, else 30.", 0, least=0)
    guidance: float = option(
        "Guidance scale. Default (0): 3 for the toon base, else 4.5.", 0.0, least=0
    )
    weight: float = option("Weight of the LoRA.", 1.0)
    batch: int = option("Pictures per batch. Changes memory and speed only.", 8, least=1)
    at_once: int = option("Number of parallel requests to the endpoint.", 2, least=1, most=64)
    timeout: float = option("Seconds to wait for one answer of the endpoint.", 300.0, least=1)

    def check(self, base: list[str] | None) -> None:
        """Raises InputError for settings that exclude each other."""
        own = {"lora": self.lora, "base": base, "steps": self.steps, "guidance": self.guidance}
        if self.endpoint and (given := [name for name, value in own.items() if value]):
            raise InputError(f"--{given[0]}", own[given[0]], "cannot be combined with --endpoint")
        if self.model and not self.endpoint:
            raise InputError("--model", self.model, "needs --endpoint")
        if self.size % 16:
            raise InputError("--size", self.size, "must be a multiple of 16")
