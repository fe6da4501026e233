"""The row of one step of a training, as metrics.jsonl and the ledger hold it."""

from typing import NotRequired, TypedDict


class StepRow(TypedDict):
    """Steps and epochs count from 1. Held-out losses are there after an epoch, the last three keys
    where the step was computed by the running process."""

    step: int
    epoch: int
    loss: float
    grad_norm: float
    learning_rate: float
    heldout: NotRequired[float]
    heldout_quartiles: NotRequired[list[float]]
    heldout_without_ema: NotRequired[float]
    seconds: NotRequired[float]
    pictures_per_second: NotRequired[float]
    memory_mib: NotRequired[int]
