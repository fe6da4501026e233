"""What a first look found, as the second look at the same models has to know it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from onmodel.evaluate.details import Count, Number


@dataclass(frozen=True, slots=True)
class Declared:
    """What a first look found of one declared question on one pair of models. `settles`: more
    prompts may settle it where it is open."""

    axis: str
    model: str
    against: str
    outcome: Literal["better", "worse", "same", "open"]
    p: Number
    settles: bool = True

    @property
    def called(self) -> bool:
        """Whether a difference is claimed."""
        return self.outcome in ("better", "worse")


@dataclass(frozen=True, slots=True)
class FirstLook:
    """The evaluation that a second look adds prompts to: its stage, its signature, the number of
    its prompts and what it `found` of the declared questions."""

    stage: str
    signature: str
    prompts: Count
    found: Sequence[Declared]

    @property
    def questions(self) -> list[str]:
        """The declared questions that were tested, each once."""
        return list(dict.fromkeys(one.axis for one in self.found))

    @property
    def open(self) -> list[str]:
        """The questions that are open on a pair and that more prompts may settle, each once."""
        found = (one for one in self.found if one.outcome == "open" and one.settles)
        return list(dict.fromkeys(one.axis for one in found))
