"""Expressive range, two numbers: are the base's expressions left where they are asked, and does one
come unasked?"""

import numpy as np

from onmodel.evaluate.axes.base import (
    BASE,
    Axis,
    Evidence,
    Joining,
    Joint,
    Shared,
    Unavailable,
    asked_columns,
    chosen,
    informedness,
    seen_rows,
)
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
    retraining=0.15,
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


def measure(evidence: Evidence) -> Joint:
    """max(0, J) of the asked expression, for prompts that ask one."""
    if ATTRIBUTE not in evidence.free:
        raise Unavailable("the character does not leave the expression free")
    (rows, columns), (base, _) = (seen_rows(evidence, letter, [ATTRIBUTE]) for letter in ("L", "D"))
    shared = {BASE: base, "asked": asked_columns(evidence, columns)}
    values, control = JOINING.parts(rows[None], np.ones((1, len(rows))), shared)
    if np.isnan(values).all():
        raise Unavailable("no asked expression can be judged by this tagger")
    if control is not None and np.nanmean(control) < BASE_SHOWS:
        raise Unavailable(
            f"the base itself shows no difference of expressions (mean J {np.nanmean(control):.2f})"
        )
    return Joint(rows, shared)


def _spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    return np.maximum(informedness(rows_rpk, weights_rp, shared["asked"][0].astype(int)), 0)


JOINING = Joining(_spread, ratio=True)


def default(evidence: Evidence) -> Joint:
    """Rise, where no expression is asked, of the one that the LoRA adds most in the other half of
    these prompts.

    Details: the rise of each expression over all of them.
    """
    if ATTRIBUTE not in evidence.free:
        raise Unavailable("the character does not leave the expression free")
    (on, columns), (off, _) = (seen_rows(evidence, letter, [ATTRIBUTE]) for letter in ("L", "D"))
    unasked = np.array([ATTRIBUTE not in prompt.asked for prompt in evidence.prompts])
    if not columns[ATTRIBUTE] or unasked.sum() < 2:
        raise Unavailable("needs two prompts that ask no expression and a tagger that knows some")
    rise = on - off
    mean = map(float, rise[unasked].mean(0))
    details = {"rise": dict(zip(columns[ATTRIBUTE], mean, strict=True))}
    return Joint(rise, {"unasked": unasked}, details)


def _default_spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    unasked = shared["unasked"].astype(bool)
    told = chosen(rows_rpk[:, unasked], weights_rp[:, unasked])
    values = np.full((len(told), len(unasked)), np.nan)
    values[:, unasked] = told
    return values


DEFAULT_JOINING = Joining(_default_spread)
