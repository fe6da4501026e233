"""Image quality, three numbers: grain on surfaces that the base draws smooth, pictures that are
broken, and beauty as a classifier has learnt it."""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable
from onmodel.evaluate.observer_check import CORRUPTION as CORRUPTION_CHECK
from onmodel.ledger import versions

RECORD = Axis(
    id="grain",
    title="grain",
    unit="grey levels",
    range=(None, None),
    direction="zero",
    across="mean",
    arm="L-D",
    observers=(),
    version=versions.AXES["grain"],
    fault=10.0,
    origin=(
        "noise deviation by the answer of the smoothest tiles to Immerkær's mask (1996), LoRA minus"
        " base"
    ),
    limits=(
        "One kind of corruption only: no anatomy, no beauty. A style drawn with texture on every"
        " surface reads as grain."
    ),
)
CORRUPTION = Axis(
    id="corruption",
    title="broken pictures",
    unit="probability",
    range=(-1.0, 1.0),
    direction="down",
    across="mean",
    arm="L-D",
    observers=("corruption",),
    version=versions.AXES["corruption"],
    fault=0.5,
    retraining=0.075,
    origin="probability that a picture is corrupted, by a classifier, LoRA minus base",
    limits=(
        "What the classifier was taught counts as broken. A style that it never saw can read so"
        " too."
    ),
)
AESTHETIC = Axis(
    id="aesthetic",
    title="beauty lost",
    unit="share of the way from masterpiece to worst",
    range=(-1.0, 1.0),
    direction="down",
    across="mean",
    arm="D-L",
    observers=("aesthetic",),
    version=versions.AXES["aesthetic"],
    fault=0.5,
    origin="expected label of an aesthetic classifier (worst 0 … masterpiece 1), base minus LoRA",
    limits=(
        "The taste of those who labelled its training pictures. It rewards detail and punishes"
        " plain styles."
    ),
)


def measure(evidence: Evidence) -> Measured:
    """Mean rise of the grain over a prompt's seeds; details: its level on the base."""
    on, off = evidence.arm("L").grain, evidence.arm("D").grain
    return Measured((on - off).mean(1), details={"base": float(off.mean())})


def corruption(evidence: Evidence) -> Measured:
    """Mean rise of the probability over a prompt's seeds; details: its level on the base."""
    evidence.require(CORRUPTION_CHECK)
    return _rise(
        evidence.arm("L").corruption, evidence.arm("D").corruption, 1, "classifier of corruption"
    )


def aesthetic(evidence: Evidence) -> Measured:
    """Mean fall of the score over a prompt's seeds; details: its level on the base."""
    return _rise(
        evidence.arm("L").aesthetic, evidence.arm("D").aesthetic, -1, "aesthetic classifier"
    )


def _rise(on: np.ndarray, off: np.ndarray, sign: int, observer: str) -> Measured:
    if np.isnan(on).any():
        raise Unavailable(f"no {observer} was given")
    return Measured(sign * (on - off).mean(1), details={"base": float(off.mean())})
