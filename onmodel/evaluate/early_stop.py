"""Successive halving over the variants of an experiment: after the first prompts, the half of the
variants that surely changes most goes on to all prompts.

What was stopped is never called better or worse, and it stays in the family of comparisons, so the
choice lowers no p of the others.
"""

from collections.abc import Sequence

from pydantic import Field

from onmodel.evaluate.compare import UNAVAILABLE, compare
from onmodel.evaluate.evaluation import Evaluation
from onmodel.validation import StrictTable


class EarlyStop(StrictTable):
    """Which models a first look leaves for all prompts."""

    stage: str = Field(description="Evaluate stage that asked the first prompts.")
    prompts: int = Field(ge=1, description="How many it asked.")
    base: tuple[str, ...] = Field(description="Trainings that the variants are compared with.")
    variants: tuple[tuple[str, ...], ...] = Field(
        min_length=2, description="Trainings of each variant."
    )

    @property
    def stopped(self) -> int:
        """How many trainings are not measured any more."""
        return sum(map(len, self.variants)) - sum(sorted(map(len, self.variants))[-self.kept :])

    @property
    def kept(self) -> int:
        """How many variants go on: half of them, rounded up."""
        return -(-len(self.variants) // 2)

    def going_on(self, first: Evaluation) -> set[str]:
        """The stages that are measured on all prompts: the base, and the variants whose surest
        effect on a question is largest (the earlier one of equals)."""
        order = sorted(self.variants, key=lambda own: -surest_effect(first, self.base, own))
        return {*self.base, *(stage for own in order[: self.kept] for stage in own)}


def surest_effect(first: Evaluation, base: Sequence[str], variant: Sequence[str]) -> float:
    """The largest change on a question that the 95 % interval leaves, in whole faults: its end next
    to 0, below 0 where 0 is in every interval. Of several trainings the least sure pair counts."""
    models = {row.name.partition("@")[0]: row for row in first.models}
    found = []
    for axis in first.questions:
        if axis not in first.axes:
            continue
        rows = [
            compare(first, axis, models[ours], models[other]) for ours in variant for other in base
        ]
        if all(row.outcome != UNAVAILABLE for row in rows):
            found.append(min(max(row.low, -row.high) for row in rows) / rows[0].axis.fault)
    return max(found, default=float("-inf"))
