"""Prompt responsiveness: does what is asked for appear, and not what was asked elsewhere, as it
does on the base?"""

from collections.abc import Mapping
from typing import Any

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
    informedness,
    mean_of_rows,
    seen_rows,
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
    retraining=0.15,
    origin=(
        "Youden's J = P(a seen | a asked) − P(a seen | a sibling asked), over the attributes left"
        " free"
    ),
    limits=(
        "Every asked attribute of a prompt counts alike. The tagger's errors lower L and D"
        " together. Attributes that the tagger cannot read are left out; with fewer than half of"
        " them readable the axis is not judged."
    ),
)
BASE_OBEYS = 0.1  # below this mean J of the base there is nothing to retain


def measure(evidence: Evidence) -> Joint:
    """Mean J over a prompt's asked free attributes; the control is the same on the base with the
    description."""
    free, left_out = evidence.readable_attributes()
    if not free:
        raise Unavailable("no asked attribute can be judged by this tagger")
    (rows, columns), (base, _) = (seen_rows(evidence, letter, free) for letter in ("L", "D"))
    asked = asked_columns(evidence, columns)
    found = {
        letter: dict(zip(free, _by_attribute(table[None], asked), strict=True))
        for letter, table in (("L", rows), ("D", base))
    }
    if all(np.isnan(row).all() for row in found["L"].values()):
        raise Unavailable("no asked attribute can be judged by this tagger")
    control = np.nanmean(mean_of_rows(list(found["D"].values())))
    if control < BASE_OBEYS:
        raise Unavailable(f"the base itself does not follow these prompts (mean J {control:.2f})")
    details = {"J": _table(found["L"]), "J_control": _table(found["D"]), **told(left_out)}
    return Joint(rows, {BASE: base, "asked": asked}, details)


def told(left_out: Mapping[str, str]) -> dict[str, Any]:
    """The attributes that were left out, as details; nothing where there are none."""
    return {"left_out": dict(left_out)} if left_out else {}


def _spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    return mean_of_rows(
        [informedness(rows_rpk, weights_rp, asked) for asked in shared["asked"].astype(int)]
    )


JOINING = Joining(_spread, ratio=True)


def _by_attribute(rows_rpk: np.ndarray, asked_ap: np.ndarray) -> list[np.ndarray]:
    """J of each attribute [P]."""
    once = np.ones((1, rows_rpk.shape[1]))
    return [informedness(rows_rpk, once, asked)[0] for asked in asked_ap]


def _table(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Attribute → mean J, for what was asked."""
    return {name: float(np.nanmean(row)) for name, row in rows.items() if not np.isnan(row).all()}
