"""Base drift: what the LoRA changes in pictures that do not ask for the character."""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable
from onmodel.evaluate.axes.reproduction import threshold
from onmodel.evaluate.observers.identity import unit
from onmodel.ledger import versions

RECORD = Axis(
    id="drift",
    title="base drift",
    unit="re-seeds",
    range=(0.0, None),
    direction="zero",
    across="mean",
    arm="N-BN",
    observers=("tagger", "identity"),
    version=versions.AXES["drift"],
    fault=1.0,
    origin=(
        "mean 1 − cos ψ(N, BN) at equal noise, over that between two seeds of the base; 1 = as"
        " large as a re-seed"
    ),
    limits=(
        "ψ is the content embedding. Without one it is the tagger's probabilities and the identity"
        " feature, each of unit length, side by side: changes that neither observer sees are"
        " missed."
    ),
    seeds=2,
)


def measure(evidence: Evidence) -> Measured:
    """Distance that the LoRA adds without its trigger; the control is the base's distance between
    two seeds."""
    on, off = content(evidence, "N"), content(evidence, "BN")
    moved = (1 - (on * off).sum(-1)).mean(1)
    first, second = np.triu_indices(off.shape[1], 1)
    reseed = (1 - (off[:, first] * off[:, second]).sum(-1)).mean(1)
    if reseed.mean() <= 1e-6:
        raise Unavailable("the base draws every seed alike")
    return Measured(np.maximum(moved, 0), reseed, identity_leak(evidence))


def content(evidence: Evidence, letter: str) -> np.ndarray:
    """ψ [P, S, E] of unit length."""
    features = evidence.arm(letter)
    if features.content.shape[-1]:
        return features.content
    for name, array in (("tagger", features.tags), ("identity model", features.identity)):
        if array.shape[-1] == 0:
            raise Unavailable(f"no {name} was given")
    return np.concatenate([unit(features.tags), unit(features.identity)], axis=-1) / 2**0.5


def identity_leak(evidence: Evidence) -> dict[str, float | None]:
    """Share of pictures that show the character without being asked: N minus BN; None without
    references."""
    try:
        on, off = evidence.agreement("N"), evidence.agreement("BN")
        assert evidence.references is not None
        needed = threshold(evidence.references)
    except Unavailable:
        return {"identity_leak": None}
    return {"identity_leak": float((on >= needed).mean() - (off >= needed).mean())}
