"""Prompt responsiveness: does what is asked for appear, and not what was asked elsewhere, as it
does on the base?"""

import numpy as np

from onmodel.evaluate.axes.base import (
    Axis,
    Evidence,
    Measured,
    Unavailable,
    informedness,
    mean_of_rows,
)
from onmodel.ledger import versions

RECORD = Axis(
    id="responsiveness",
    title="prompt responsiveness",
    unit="ratio to the base",
    range=(None, None),
    direction="up",
    across="mean",
    arm="L/D",
    observers=("tagger",),
    version=versions.AXES["responsiveness"],
    fault=1.0,
    origin=(
        "Youden's J = P(a seen | a asked) − P(a seen | a sibling asked), over the attributes left"
        " free"
    ),
    limits=(
        "Every asked attribute of a prompt counts alike. The tagger's errors lower L and D"
        " together."
    ),
)
BASE_OBEYS = 0.1  # below this mean J of the base there is nothing to retain


def measure(evidence: Evidence) -> Measured:
    """Mean J over a prompt's asked free attributes; the control is the same on the base with the
    description."""
    free = sorted(evidence.free & set(evidence.vocabulary))
    rows = {
        letter: {name: informedness(evidence, letter, name) for name in free}
        for letter in ("L", "D")
    }
    if not rows["L"] or all(np.isnan(row).all() for row in rows["L"].values()):
        raise Unavailable("no asked attribute can be judged by this tagger")
    values, control = mean_of_rows(list(rows["L"].values())), mean_of_rows(list(rows["D"].values()))
    if np.nanmean(control) < BASE_OBEYS:
        raise Unavailable(
            f"the base itself does not follow these prompts (mean J {np.nanmean(control):.2f})"
        )
    return Measured(values, control, {"J": _table(rows["L"]), "J_control": _table(rows["D"])})


def _table(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Attribute → mean J, for what was asked."""
    return {name: float(np.nanmean(row)) for name, row in rows.items() if not np.isnan(row).all()}
