"""Reproduction stability: how often a picture shows this character as surely as her own drawings
show her."""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, References, Unavailable
from onmodel.ledger import versions

RECORD = Axis(
    id="reproduction",
    title="reproduction stability",
    unit="share of pictures",
    range=(0.0, 1.0),
    direction="up",
    across="mean",
    arm="L",
    observers=("identity",),
    version=versions.AXES["reproduction"],
    fault=1.0,
    origin=(
        "hit rate against the references' own leave-one-out agreement (10th percentile); CCIP-style"
        " differences"
    ),
    limits=(
        "What the identity model cannot see does not count; styles unlike the references lower it"
        " for every model."
    ),
)
PERCENTILE = 10
LEAST = 4


def measure(evidence: Evidence) -> Measured:
    """Share of a prompt's pictures whose mean agreement with the references reaches their own 10th
    percentile.

    Prompts that ask for another outfit are left out: an identity model that knows the outfit would
    punish obedience.
    """
    agreement = evidence.agreement("L")
    assert evidence.references is not None  # agreement() raised otherwise
    needed = threshold(evidence.references)
    designed = np.array(["outfit" not in prompt.asked for prompt in evidence.prompts])
    if not designed.any():
        raise Unavailable("every prompt asks for another outfit")
    hits = (agreement >= needed).mean(1)
    details = {
        "threshold": needed,
        "mean_agreement": float(agreement[designed].mean()),
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
    return Measured(np.where(designed, hits, np.nan), details=details)


def threshold(references: References) -> float:
    """The 10th percentile of how well each reference agrees with the others, its near duplicates
    left out.

    Raises Unavailable with fewer than four different references.
    """
    groups = references.groups
    if len(set(groups.tolist())) < LEAST:
        raise Unavailable(
            f"needs at least {LEAST} different held-out references, got {len(set(groups.tolist()))}"
        )
    agreement = 1 - references.differences(references.features.identity)
    others = groups[:, None] != groups[None]
    return float(np.percentile((agreement * others).sum(1) / others.sum(1), PERCENTILE))
