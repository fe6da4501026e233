"""Unintended colour, in two numbers that are always given together: a cast over the picture, and
areas of yellow."""

import re
from typing import Any

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable
from onmodel.evaluate.observers.colour import REGIONS, SECTORS
from onmodel.ledger import versions

CAST = Axis(
    id="colour_cast",
    title="colour cast, yellow to blue",
    unit="Δb* (CIELAB)",
    range=(None, None),
    direction="zero",
    across="mean",
    arm="L-D",
    observers=(),
    version=versions.AXES["colour_cast"],
    fault=10.0,
    retraining=3.5,
    origin="mean b* of the picture, LoRA minus base with the description",
    limits="A larger or smaller figure of another colour than the background also moves the mean.",
)
AREA = Axis(
    id="colour_area",
    title="yellow outside the palette",
    unit="percentage points of the picture",
    range=(-100.0, 100.0),
    direction="zero",
    across="mean",
    arm="L-D",
    observers=(),
    version=versions.AXES["colour_area"],
    fault=10.0,
    retraining=4.0,
    origin=(
        "area of the 30° sector at b*+ with C* ≥ 18 and CIEDE2000 > 10 from the palette, LoRA minus"
        " base"
    ),
    limits="Scenery that was not asked for counts. Prompts that ask for the hue are left out.",
)
YELLOW = SECTORS.index("yellow")
# Words that ask for yellow or for what is yellow.
ASKS_YELLOW = re.compile(
    r"\b(yellow|gold|golden|blonde?|orange|amber|sunset|sunrise|beach|desert|sunflower|autumn)\b"
)


def cast(evidence: Evidence) -> Measured:
    """Mean Δb* over a prompt's seeds; details: ΔL*, Δa*, Δb* of the whole picture and of the
    background.

    `trigger_bound` is the part of them that comes with the trigger alone: L − N, less the base's
    own difference D − BN between the character and somebody else; None without these arms.
    """
    delta = (evidence.arm("L").lab - evidence.arm("D").lab).mean(1)
    kept = _free_of_yellow(evidence)
    bound = None
    if {"N", "BN"} <= evidence.arms.keys():
        bound = _by_region(
            (delta - (evidence.arm("N").lab - evidence.arm("BN").lab).mean(1))[kept].mean(0)
        )
    details = _by_region(delta[kept].mean(0)) | {"trigger_bound": bound}
    return Measured(np.where(kept, delta[:, 0, 2], np.nan), details=details)


def area(evidence: Evidence) -> Measured:
    """Percentage points of yellow gained; details: every sector by region, of all prompts and
    (`prompts`) of each."""
    delta = 100 * (evidence.arm("L").sectors - evidence.arm("D").sectors).mean(1)
    kept = _free_of_yellow(evidence)
    table = {
        region: dict(zip(SECTORS, map(float, row), strict=True))
        for region, row in zip(REGIONS, delta[kept].mean(0), strict=True)
    }
    by_prompt = {
        prompt.id: {
            region: [round(float(one), 3) for one in row]
            for region, row in zip(REGIONS, rows, strict=True)
        }
        for prompt, rows, judged in zip(evidence.prompts, delta, kept, strict=True)
        if judged
    }
    return Measured(
        np.where(kept, delta[:, 0, YELLOW], np.nan), details=table | {"prompts": by_prompt}
    )


def _by_region(lab_rc: np.ndarray) -> dict[str, Any]:
    """Region → L, a, b."""
    return {
        region: dict(zip("Lab", map(float, row), strict=True))
        for region, row in zip(REGIONS, lab_rc, strict=True)
    }


def _free_of_yellow(evidence: Evidence) -> np.ndarray:
    kept = np.array(
        [not ASKS_YELLOW.search(" ".join(prompt.asked.values())) for prompt in evidence.prompts]
    )
    if not kept.any():
        raise Unavailable("every prompt asks for yellow")
    return kept
