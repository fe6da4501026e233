"""Style fixation: when a style is asked, does the LoRA move as far towards it as the base does?"""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable

RECORD = Axis(
    id="style",
    title="style fixation",
    unit="share of the shift that is missing",
    range=(0.0, 1.0),
    direction="zero",
    across="mean",
    arm="L, D",
    observers=("tagger",),
    version=1,
    fault=1.0,
    origin="1 − projection of the LoRA's style shift on the base's shift when a style is asked, cut to 0 … 1",
    limits="Style is the tagger's style tags, no style embedding; styles that the base ignores are skipped. "
    "The pull of unstyled pictures is a number of its own, in the details.",
)
ATTRIBUTE = "style"
BASE_MOVES = 0.2  # length of the base's shift below which it ignores the style word


def measure(evidence: Evidence) -> Measured:
    """1 − projection for prompts that ask a style; shifts start from the mean of the prompts that ask none."""
    shifts = {}
    starts = {}
    asked = np.array([ATTRIBUTE in prompt.asked for prompt in evidence.prompts])
    if not asked.any() or asked.all():
        raise Unavailable("needs prompts with and without a style")
    for letter in ("L", "D"):
        seen = evidence.seen(letter, ATTRIBUTE)
        if not seen:
            raise Unavailable("the tagger knows none of the styles")
        by_prompt = np.stack([found.mean(1) for found in seen.values()], axis=-1)
        starts[letter] = by_prompt[~asked].mean(0)
        shifts[letter] = by_prompt - starts[letter]
    squared = (shifts["D"] ** 2).sum(-1)
    usable = asked & (squared >= BASE_MOVES**2)
    if not usable.any():
        raise Unavailable("the base itself ignores every style that was asked")
    projection = (shifts["L"] * shifts["D"]).sum(-1) / np.where(usable, squared, 1)
    values = np.where(usable, np.clip(1 - projection, 0, 1), np.nan)
    return Measured(values, details=pull(starts, list(evidence.seen("L", ATTRIBUTE))))


def pull(starts: dict[str, np.ndarray], styles: list[str]) -> dict[str, object]:
    """How far unstyled pictures moved from the base's styles (half the sum of changes, 0 … 1), and towards which."""
    change = starts["L"] - starts["D"]
    return {"pull": float(np.abs(change).sum() / 2), "pull_towards": styles[int(change.argmax())]}
