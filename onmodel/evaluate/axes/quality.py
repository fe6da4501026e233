"""Image quality, as far as pixels tell it: grain on surfaces that the base draws smooth."""

from onmodel.evaluate.axes.base import Axis, Evidence, Measured

RECORD = Axis(
    id="grain",
    title="image quality, grain",
    unit="grey levels",
    range=(None, None),
    direction="zero",
    across="mean",
    arm="L-D",
    observers=(),
    version=2,
    fault=10.0,
    origin="noise deviation by the answer of the smoothest tiles to Immerkær's mask (1996), LoRA minus base",
    limits="One kind of corruption only: no anatomy, no beauty. A style drawn with texture on every surface reads as "
    "grain.",
)


def measure(evidence: Evidence) -> Measured:
    """Mean rise of the grain over a prompt's seeds; details: its level on the base."""
    on, off = evidence.arm("L").grain, evidence.arm("D").grain
    return Measured((on - off).mean(1), details={"base": float(off.mean())})
