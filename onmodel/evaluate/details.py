"""What the axes of an evaluation explain beside their numbers, as types: the details that pages and
cards read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field, JsonValue, TypeAdapter

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0)]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Details of `reproduction`: identity agreement by prompt and seed; below the threshold a
    picture does not show the character. `hits`: the share that do, with its interval."""

    threshold: Number
    agreement: Mapping[str, Sequence[Number]]
    hits: tuple[Number, Number, Number] | None = None


@dataclass(frozen=True, slots=True)
class Trait:
    """Share of a trait's checks that are violated, by the model and by the references; None where
    nothing could be checked."""

    checks: Count
    violated: Number | None
    references: Number = 0.0


@dataclass(frozen=True, slots=True)
class Traits:
    """Details of `design`: every trait of the sheet, and the name of the worst; `required` names
    those that must be seen, the others must not be."""

    traits: Mapping[str, Trait]
    worst: str = ""
    required: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StylePull:
    """Details of `style`: by training subset, the share of the way to its style; None where the
    base draws in that style already."""

    pull_by_subset: Mapping[str, Number | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HueGain:
    """Details of `colour_area`: percentage points of the picture gained by hue, over the whole
    picture, in the background, and by prompt and region in the order of the hues."""

    whole: Mapping[str, Number]
    background: Mapping[str, Number]
    prompts: Mapping[str, Mapping[str, Sequence[Number]]]


@dataclass(frozen=True, slots=True)
class Entangled:
    """Details of `entanglement`: asked attribute → open attribute → shift beyond the base's."""

    matrix: Mapping[str, Mapping[str, Number | None]]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Details of the axes over all free attributes: attribute → why it is left out."""

    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NearCopy:
    """A generated picture and the training picture that is most similar to it."""

    prompt: str
    seed: Count
    similarity: Number
    training: str


@dataclass(frozen=True, slots=True)
class NearCopies:
    """Details of `memorisation`: the most similar pairs; above the threshold it is a copy."""

    threshold: Number
    nearest: Sequence[NearCopy]


TRAITS = TypeAdapter(Traits)
AGREEMENT, STYLE_PULL = TypeAdapter(Agreement), TypeAdapter(StylePull)
HUE_GAIN, ENTANGLED = TypeAdapter(HueGain), TypeAdapter(Entangled)
NEAR_COPIES, LEFT_OUT = TypeAdapter(NearCopies), TypeAdapter(LeftOut)
# The details that pages read. All others are kept as they are and read by nobody.
DETAILS: Mapping[str, TypeAdapter] = {
    "reproduction": AGREEMENT,
    "design": TRAITS,
    "style": STYLE_PULL,
    "colour_area": HUE_GAIN,
    "entanglement": ENTANGLED,
    "memorisation": NEAR_COPIES,
    "responsiveness": LEFT_OUT,
    "override": LEFT_OUT,
}


def checked_details(details: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for axis, adapter in DETAILS.items():
        if axis in details:
            adapter.validate_python(details[axis])
    return details
