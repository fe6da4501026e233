"""The settings of every stage that generates and judges pictures."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from onmodel.errors import InputError
from onmodel.evaluate.observers import Observers, load_observers
from onmodel.evaluate.observers.files import FILES
from onmodel.evaluate.observers.source import SCHEME, content, wrong
from onmodel.families.modes import Modes
from onmodel.families.settings import SamplingSettings
from onmodel.sample.sampling import Sampling
from onmodel.stages.base import Context, NamedStage, StageSettings, of_bytes
from onmodel.train.options import LARGEST_BATCH, MOST_BLOCKS, Side
from onmodel.validation import StrictTable

if TYPE_CHECKING:
    from onmodel.families.protocol import Family

PROMPTED = ("trigger", "count_tag", "tags", "description", "free", "outfits")  # what prompts say
Place = Annotated[str, Field(pattern=f"^{SCHEME}")] | Path  # on the hub, or a folder
MOST_SEEDS = 10_000
MOST_LORA_WEIGHT = 100.0


class ReferenceSource(StrictTable):
    """Held-out pictures of the character."""

    stage: str = Field(description="Curate stage with held-out pictures.")
    subset: str | None = Field(
        default=None, description="Its subset. Unset: all held-out pictures."
    )


class Generating(StageSettings, SamplingSettings):
    """What every stage that generates and judges pictures can set. Observers are folders, or
    `hf://owner/name[/folder]` (docs/explanation/observers.md)."""

    weight: float = Field(
        default=1.0, ge=-MOST_LORA_WEIGHT, le=MOST_LORA_WEIGHT, description="Weight of the LoRA."
    )
    size: Side | tuple[Side, Side] = Field(
        default=96, description="Side, or [width, height], in pixels."
    )
    batch: int = Field(
        default=8,
        ge=1,
        le=LARGEST_BATCH,
        description="Pictures per batch. Changes memory and speed only.",
    )
    swap_blocks: int = Field(
        default=0,
        ge=0,
        le=MOST_BLOCKS,
        description=(
            "Blocks whose weights lie in the host's memory and come to the card when they compute. "
            "Changes memory and speed only."
        ),
    )
    vae_tiles: bool = Field(
        default=False,
        description="Decode large pictures in strips. Changes memory and speed only.",
    )
    references: ReferenceSource | None = Field(
        default=None, description="Held-out pictures of the character to compare with."
    )
    tagger: Place | None = Field(
        default=None,
        description=(
            "Tagger in WD v3 format: a folder or hf://owner/name. Unset: the toon base's own,"
            " else none."
        ),
    )
    identity: Place | None = Field(
        default=None,
        description="Identity model in CCIP format. Unset: the toon base's own, else none.",
    )
    detectors: tuple[Place, ...] = Field(
        default=(),
        description="Detectors of persons and heads. Empty: the toon base's own, else none.",
    )
    corruption: Place | None = Field(
        default=None,
        description="Classifier of corrupted pictures. Unset: the toon base's own, else none.",
    )
    aesthetic: Place | None = Field(
        default=None, description="Classifier of aesthetic quality. Unset: none."
    )
    style_embedding: Place | None = Field(
        default=None, description="Model of drawing styles. Unset: none."
    )
    copy_embedding: Place | None = Field(
        default=None,
        description=("Model that finds copies of training pictures. Unset: pixels are compared."),
    )
    content_embedding: Place | None = Field(
        default=None, description="Model of picture content. Unset: none."
    )

    @field_validator("references", mode="before")
    @classmethod
    def _whole_stage(cls, value: object) -> object:
        return {"stage": value} if isinstance(value, str) else value

    @field_validator("detectors", mode="before")
    @classmethod
    def _one_detector(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value

    def keyed(self) -> dict[str, object]:
        return of_bytes(super().keyed())

    def told(self) -> dict[str, object]:
        return of_bytes(super().told())

    @property
    def modes(self) -> Modes:
        """How the base computes."""
        return Modes(vae_tiles=self.vae_tiles, swap_blocks=self.swap_blocks)

    @contextmanager
    def computing(self, context: Context) -> Iterator[Context]:
        """The context with a base that, once it is loaded, computes as these settings say."""
        modes = self.modes
        with ExitStack() as stack:

            @cache
            def family() -> "Family":
                found = context.family()
                stack.enter_context(found.computing(modes))
                return found

            yield context if modes == Modes() else replace(context, family=family)

    @property
    def sampling(self) -> Sampling:
        """The same as the picture cache takes it."""
        width, height = (self.size, self.size) if isinstance(self.size, int) else self.size
        return Sampling(
            self.steps,
            self.guidance,
            self.shift,
            self.weight,
            width,
            height,
            self.batch,
            self.sampler,
            self.schedule,
            self.empty_text,
            self.guidance_rescale,
        )

    def named_stages(self) -> list[NamedStage]:
        held_out = self.references
        if held_out is None:
            return []
        return [NamedStage("references", held_out.stage, "dataset", held_out.subset)]

    def contents(self) -> dict[str, object]:
        """The files of the observers; None while they are not to be had. On the hub another
        revision has other files, and the place is told in the results, so it stays."""
        return {
            name: [
                [place if isinstance(place, str) else "", _content(name, str(place))]
                for place in places
            ]
            for name, places in self._named().items()
        }

    @property
    def missing(self) -> tuple[InputError, ...]:
        """What is wrong with the observers that were named."""
        named = [
            (observer, str(place)) for observer, places in self._named().items() for place in places
        ]
        return tuple(error for observer, place in named if (error := wrong(observer, place)))

    def observers(self, context: Context) -> Observers:
        """The observers that were named, or the toon world's own."""
        named = {name: [str(place) for place in places] for name, places in self._named().items()}
        return load_observers(context.base_name, named, context.threads)

    def _named(self) -> dict[str, list[Path | str]]:
        """Observer → its places, for those that are named."""
        places = {name: getattr(self, name) for name in FILES}
        return {
            name: list(value) if isinstance(value, tuple) else [value]
            for name, value in places.items()
            if value
        }


def _content(observer: str, place: str) -> list[str | None] | None:
    try:
        return content(observer, place)
    except InputError:
        return None
