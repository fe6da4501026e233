"""Expressive range: which of the base's expressions are left, and which one comes unasked."""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable, informedness

RECORD = Axis(
    id="expression",
    title="expressive range",
    unit="ratio to the base",
    range=(0.0, None),
    direction="up",
    across="mean",
    arm="L/D",
    observers=("tagger",),
    version=1,
    fault=1.0,
    origin="mean over expressions of max(0, J), against the same for the base with the description",
    limits="max(0, J) is taken prompt by prompt, so noise never counts negative. Small faces read worse in both arms.",
)
ATTRIBUTE = "expression"
BASE_SHOWS = 0.1


def measure(evidence: Evidence) -> Measured:
    """max(0, J) of the asked expression, for prompts that ask one."""
    if ATTRIBUTE not in evidence.free:
        raise Unavailable("the character does not leave the expression free")
    values, control = (np.maximum(informedness(evidence, letter, ATTRIBUTE), 0) for letter in ("L", "D"))
    if np.isnan(values).all():
        raise Unavailable("no asked expression can be judged by this tagger")
    if np.nanmean(control) < BASE_SHOWS:
        raise Unavailable(f"the base itself shows no difference of expressions (mean J {np.nanmean(control):.2f})")
    return Measured(values, control, default_lock(evidence))


def default_lock(evidence: Evidence) -> dict[str, object]:
    """The expression that the LoRA adds most where none is asked, and by how much (probability, 0 is none)."""
    unasked = [p for p, prompt in enumerate(evidence.prompts) if ATTRIBUTE not in prompt.asked]
    if not unasked:
        return {"default_lock": None, "default": None}
    on, off = evidence.seen("L", ATTRIBUTE), evidence.seen("D", ATTRIBUTE)
    rise = {value: float(on[value][unasked].mean() - off[value][unasked].mean()) for value in on}
    most = max(rise, key=lambda value: rise[value])
    return {"default_lock": rise[most], "default": most}
