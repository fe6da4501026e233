"""The numbers that a new recipe begins with, as each family's `spec.py` says them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usual:
    """What a new recipe says for a published base of 1024² pixels."""

    learning_rate: float
    rank: int
    alpha: int
    steps: int  # of sampling
    guidance: float
