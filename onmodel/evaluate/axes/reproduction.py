"""Reproduction stability: how well pictures agree with the character's own drawings."""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, References, Unavailable
from onmodel.evaluate.statistics import mean_interval
from onmodel.ledger import versions

RECORD = Axis(
    id="reproduction",
    title="reproduction stability",
    unit="way from others to the references",
    range=(None, None),
    direction="up",
    across="mean",
    arm="L",
    observers=("identity",),
    version=versions.AXES["reproduction"],
    fault=1.0,
    retraining=0.15,
    origin=(
        "mean identity agreement with the held-out references: 0 is that of the base's pictures of"
        " others (arm BN), 1 the references' own leave-one-out agreement; CCIP-style differences"
    ),
    limits=(
        "What the identity model cannot see does not count; styles unlike the references lower it"
        " for every model. The share of pictures that agree as well as nine in ten references"
        " (`hits`) is in the details."
    ),
)
PERCENTILE = 10
LEAST = 4
APART = 0.05  # agreement by which the references must exceed pictures of others


def measure(evidence: Evidence) -> Measured:
    """A prompt's mean agreement with the references, on the way from that of others to their own.

    Prompts that ask for another outfit are left out: an identity model that knows the outfit would
    punish obedience.
    """
    agreement = evidence.agreement("L")
    assert evidence.references is not None  # agreement() raised otherwise
    needed = threshold(evidence.references)
    designed = np.array(["outfit" not in prompt.asked for prompt in evidence.prompts])
    if not designed.any():
        raise Unavailable("every prompt asks for another outfit")
    own = float(own_agreement(evidence.references).mean())
    others = float(evidence.agreement("BN").mean())
    if own - others < APART:
        raise Unavailable(
            f"pictures of others agree with the references by {others:.2f}, they by {own:.2f} with"
            " each other: the identity model does not tell them apart"
        )
    hits = (agreement >= needed).mean(1)
    share = mean_interval(hits[designed], (0.0, 1.0)) if designed.sum() > 1 else None
    details = {
        "threshold": needed,
        "mean_agreement": float(agreement[designed].mean()),
        "references": own,
        "others": others,
        "hits": [share.value, share.low, share.high] if share else None,
        "worst_tenth": float(np.percentile(hits[designed], 10)),
        "agreement": {
            prompt.id: [round(float(one), 3) for one in row]
            for prompt, row, kept in zip(evidence.prompts, agreement, designed, strict=True)
            if kept
        },
        "seed_spread": (
            float(agreement[designed].std(1, ddof=1).mean()) if agreement.shape[1] > 1 else None
        ),
    }
    values = (agreement.mean(1) - others) / (own - others)
    return Measured(np.where(designed, values, np.nan), details=details)


def threshold(references: References) -> float:
    """The 10th percentile of the references' own agreement. Raises Unavailable with fewer than four
    different references."""
    return float(np.percentile(own_agreement(references), PERCENTILE))


def own_agreement(references: References) -> np.ndarray:
    """How well each reference agrees with the others [N], its near duplicates left out.

    Raises Unavailable with fewer than four different references.
    """
    groups = references.groups
    if len(set(groups.tolist())) < LEAST:
        raise Unavailable(
            f"needs at least {LEAST} different held-out references, got {len(set(groups.tolist()))}"
        )
    agreement = 1 - references.differences(references.features.identity)
    others = groups[:, None] != groups[None]
    return np.asarray((agreement * others).sum(1) / others.sum(1))
