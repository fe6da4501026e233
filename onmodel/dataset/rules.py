"""How the pictures of a run are shown: sizes, captions, flips; for the whole run, or for one subset
of its data."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from onmodel.dataset.captions import CaptionRules, Form

STEP = 16  # pixels; sides of buckets are multiples of it
LONGEST_SIDE = 8_192  # pixels
MOST_REPEATS = 100_000
MOST_WEIGHT = 1e6


class Showing(BaseModel):
    """What can be said for a whole run and for one subset.

    `resolution` is the side in pixels of a square of the buckets' area; of several, an epoch shows
    every picture at each. A picture smaller than its bucket is not enlarged unless `enlarge` says
    so: it is shown at its own size. `buckets = false` cuts every picture to a square. `bucket_step`
    and `bucket_sides` (shortest, longest) are in pixels; without them sides are from half to double
    the resolution in sixteenths of it.

    `caption` is what is said of a picture: its tags, its sentence, or `both` in turn. Tags are
    shuffled behind the first `keep_tokens`. `tag_dropout` and `caption_dropout` are shares; every
    `caption_dropout_every`-th epoch is shown without any caption (0: none). `flip` mirrors a
    picture every other time, at random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resolution: int | tuple[int, ...] = 1024
    enlarge: bool = False
    buckets: bool = True
    bucket_step: int | None = Field(default=None, ge=STEP, le=LONGEST_SIDE, multiple_of=STEP)
    bucket_sides: tuple[int, int] | None = None
    caption: Form = "tags"
    shuffle_tags: bool = True
    keep_tokens: int = Field(default=2, ge=0, le=10_000)
    tag_dropout: float = Field(default=0.0, ge=0, lt=1)
    caption_dropout: float = Field(default=0.0, ge=0, le=1)
    caption_dropout_every: int = Field(default=0, ge=0)
    flip: bool = False

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


class SubsetShowing(Showing):
    """What is said of one subset. What is not said is no part of it when it is written down: it is
    the run's.

    An epoch shows each picture `repeats` times (at each resolution). Its loss counts `loss_weight`.
    Pictures of a `regularisation` subset show what must not change; their loss counts the run's
    `prior_weight` besides.
    """

    repeats: int = Field(default=1, ge=1, le=MOST_REPEATS)
    loss_weight: float = Field(default=1.0, ge=0, le=MOST_WEIGHT)
    regularisation: bool = False

    @model_serializer(mode="wrap")
    def _as_said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            name: value for name, value in handler(self).items() if name in self.model_fields_set
        }

    def over(self, *others: Showing | Mapping[str, Any]) -> Self:
        """This with everything said: what it leaves unsaid is as the others say, a later one before
        an earlier one."""
        said = {
            name: field.default
            for name, field in type(self).model_fields.items()
            if not field.is_required()
        }
        for other in (*others, self):
            table = other.model_dump() if isinstance(other, Showing) else other
            said |= {
                name: value for name, value in table.items() if name in type(self).model_fields
            }
        return type(self).model_validate(said)
