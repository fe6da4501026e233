"""Expressive range, two numbers: are the base's expressions left where they are asked, and does one
come unasked?"""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable, chosen, informedness
from onmodel.ledger import versions

RECORD = Axis(
    id="expression",
    title="expressive range",
    unit="ratio to the base",
    range=(0.0, None),
    direction="up",
    across="mean",
    arm="L/D",
    observers=("tagger",),
    version=versions.AXES["expression"],
    fault=1.0,
    origin="mean over expressions of max(0, J), against the same for the base with the description",
    limits=(
        "max(0, J) is taken prompt by prompt, so noise never counts negative. Small faces read"
        " worse in both arms."
    ),
)
DEFAULT = Axis(
    id="default_expression",
    title="one expression unasked",
    unit="probability",
    range=(-1.0, 1.0),
    direction="down",
    across="mean",
    arm="L-D",
    observers=("tagger",),
    version=versions.AXES["default_expression"],
    fault=1.0,
    origin=(
        "P(e seen | no expression asked), LoRA minus base, for the expression e that the LoRA adds"
        " most; half of the prompts choose it for the other half, so that chance adds nothing"
    ),
    limits=(
        "A base that mostly draws e itself leaves little to add. Small faces read worse in both"
        " arms."
    ),
)
ATTRIBUTE = "expression"
BASE_SHOWS = 0.1


def measure(evidence: Evidence) -> Measured:
    """max(0, J) of the asked expression, for prompts that ask one."""
    if ATTRIBUTE not in evidence.free:
        raise Unavailable("the character does not leave the expression free")
    values, control = (
        np.maximum(informedness(evidence, letter, ATTRIBUTE), 0) for letter in ("L", "D")
    )
    if np.isnan(values).all():
        raise Unavailable("no asked expression can be judged by this tagger")
    if np.nanmean(control) < BASE_SHOWS:
        raise Unavailable(
            f"the base itself shows no difference of expressions (mean J {np.nanmean(control):.2f})"
        )
    return Measured(values, control)


def default(evidence: Evidence) -> Measured:
    """Rise, where no expression is asked, of the one that the LoRA adds most in the other half of
    these prompts.

    Details: the rise of each expression over all of them.
    """
    if ATTRIBUTE not in evidence.free:
        raise Unavailable("the character does not leave the expression free")
    on, off = evidence.seen("L", ATTRIBUTE), evidence.seen("D", ATTRIBUTE)
    unasked = np.array([ATTRIBUTE not in prompt.asked for prompt in evidence.prompts])
    if not on or unasked.sum() < 2:
        raise Unavailable("needs two prompts that ask no expression and a tagger that knows some")
    rise_vp = np.array([(on[value] - off[value]).mean(1)[unasked] for value in on])
    values = np.full(len(unasked), np.nan)
    values[unasked] = rise_vp[chosen(rise_vp), np.arange(rise_vp.shape[1])]
    return Measured(
        values, details={"rise": dict(zip(on, map(float, rise_vp.mean(1)), strict=True))}
    )
