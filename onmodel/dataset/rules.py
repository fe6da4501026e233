"""How the pictures of a run are shown: sizes, captions, flips; for the whole run, or for one subset
of its data."""

from collections.abc import Mapping
from typing import Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from onmodel.dataset.captions import CaptionRules, Form
from onmodel.validation import StrictTable

STEP = 16  # pixels; sides of buckets are multiples of it
LONGEST_SIDE = 8_192  # pixels
MOST_REPEATS = 100_000
MOST_WEIGHT = 1e6


class DataConfig(StrictTable):
    """How training shows pictures: sizes, captions and flips, for a run or for one subset."""

    resolution: int | tuple[int, ...] = Field(
        default=1024,
        description=(
            "Side in pixels of a square of the bucket's area. With several, an epoch shows "
            "each picture at each."
        ),
    )
    enlarge: bool = Field(
        default=False, description="Enlarge pictures that are smaller than their bucket."
    )
    buckets: bool = Field(
        default=True,
        description="Group pictures by aspect ratio. false: crop every picture to a square.",
    )
    bucket_step: int | None = Field(
        default=None,
        ge=STEP,
        le=LONGEST_SIDE,
        multiple_of=STEP,
        description="Step of bucket sides in pixels. Unset: a sixteenth of the resolution.",
    )
    bucket_sides: tuple[int, int] | None = Field(
        default=None,
        description=(
            "Shortest and longest bucket side in pixels. Unset: half and double the resolution."
        ),
    )
    caption: Form = Field(
        default="tags", description="Caption form: tags, sentence, or both in turn."
    )
    shuffle_tags: bool = Field(
        default=True, description="Shuffle the tags after the first `keep_tokens`."
    )
    keep_tokens: int = Field(
        default=2, ge=0, le=10_000, description="Number of first tags that keep their place."
    )
    tag_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Probability (0–1) that a tag after `keep_tokens` is dropped.",
    )
    caption_dropout: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Probability (0–1) that a picture is shown without a caption.",
    )
    caption_dropout_every: int = Field(
        default=0, ge=0, description="Show every n-th epoch without captions. 0: never."
    )
    flip: bool = Field(
        default=False, description="Mirror each picture half of the time, at random."
    )

    @field_validator("resolution")
    @classmethod
    def _of_some_size(cls, resolution: int | tuple[int, ...]) -> int | tuple[int, ...]:
        sides = resolution if isinstance(resolution, tuple) else (resolution,)
        if (
            not sides
            or min(sides) < 2 * STEP
            or max(sides) > LONGEST_SIDE
            or len(set(sides)) < len(sides)
        ):
            limits = f"from {2 * STEP} to {LONGEST_SIDE}"
            raise ValueError(
                f"resolutions are different numbers of pixels {limits}, e.g. [768, 1024]"
            )
        return resolution

    @field_validator("bucket_sides")
    @classmethod
    def _short_and_long(cls, sides: tuple[int, int] | None) -> tuple[int, int] | None:
        if sides is not None and not STEP <= sides[0] <= sides[1] <= LONGEST_SIDE:
            raise ValueError(
                f"write the shortest and the longest side in pixels, e.g. [{STEP * 32},"
                f" {STEP * 96}]"
            )
        return sides

    @property
    def resolutions(self) -> tuple[int, ...]:
        return self.resolution if isinstance(self.resolution, tuple) else (self.resolution,)

    @property
    def caption_rules(self) -> CaptionRules:
        """How captions are varied."""
        return CaptionRules(
            self.caption,
            self.shuffle_tags,
            self.keep_tokens,
            self.tag_dropout,
            self.caption_dropout,
            self.caption_dropout_every,
        )


class SubsetConfig(DataConfig):
    """How one subset is shown. Unset fields inherit from the train stage and are not serialised."""

    repeats: int = Field(
        default=1,
        ge=1,
        le=MOST_REPEATS,
        description="How often an epoch shows each picture (at each resolution).",
    )
    loss_weight: float = Field(
        default=1.0, ge=0, le=MOST_WEIGHT, description="Factor on the loss of the subset."
    )
    regularisation: bool = Field(
        default=False,
        description=(
            "Pictures that show what must not change; their loss is also multiplied by "
            "`prior_weight`."
        ),
    )

    @model_serializer(mode="wrap")
    def _as_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {
            name: value for name, value in handler(self).items() if name in self.model_fields_set
        }

    def over(self, *others: DataConfig | Mapping[str, object]) -> Self:
        """A copy with every field set. Unset fields are taken from `others`, the last of them
        first, then from the defaults."""
        said = {
            name: field.default
            for name, field in type(self).model_fields.items()
            if not field.is_required()
        }
        for other in (*others, self):
            table = other.model_dump() if isinstance(other, DataConfig) else other
            said |= {
                name: value for name, value in table.items() if name in type(self).model_fields
            }
        return type(self).model_validate(said)
