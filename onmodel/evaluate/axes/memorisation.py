"""Memorisation: are training pictures drawn again?"""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable
from onmodel.ledger import versions

RECORD = Axis(
    id="memorisation",
    title="memorisation",
    unit="share of pictures",
    range=(-0.01, 0.99),
    direction="down",
    across="mean",
    arm="L",
    observers=(),
    version=versions.AXES["memorisation"],
    fault=0.5,
    origin=(
        "P(max κ-similarity to the training pictures > 99th percentile over held-out and base"
        " pictures) − 0.01"
    ),
    limits=(
        "κ is the copy embedding. Without one it is a coarse layout of colours: a mirrored, cropped"
        " or recoloured copy is missed, and a training set with one layout makes a picture of that"
        " layout look copied. The percentile is that of few pictures."
    ),
)
PERCENTILE = 99
TOLD = 5  # pictures whose nearest training picture the details name


def measure(evidence: Evidence) -> Measured:
    """Share of a prompt's pictures that are nearer to a training picture than unrelated ones ever
    are, minus 0.01.

    Details: the threshold; by how much the nearest training picture stands out among all
    (own-source contrast); how many training pictures attract, as exp of the entropy of who is
    nearest, over their number; the nearest pairs.
    """
    if evidence.training is None:
        raise Unavailable("no training pictures were given")
    if evidence.references is None:
        raise Unavailable("no held-out references were given")
    trained = evidence.training.features.copy
    shape = evidence.arm("L").copy.shape[:2]
    similar = evidence.arm("L").flat().copy @ trained.T
    unrelated = (
        np.concatenate([evidence.references.features.copy, evidence.arm("D").flat().copy])
        @ trained.T
    )
    needed = float(np.percentile(unrelated.max(1), PERCENTILE))
    nearest, most = similar.argmax(1), similar.max(1)
    share = np.bincount(nearest, minlength=len(trained)) / len(nearest)
    entropy = -(share[share > 0] * np.log(share[share > 0])).sum()
    told = [
        {
            "prompt": evidence.prompts[i // shape[1]].id,
            "seed": int(i % shape[1]),
            "similarity": float(most[i]),
            "training": evidence.training.names[nearest[i]],
        }
        for i in np.argsort(-most, kind="stable")[:TOLD]
    ]
    details = {
        "threshold": needed,
        "contrast": float((most - similar.mean(1)).mean()),
        "attractors": float(np.exp(entropy) / len(trained)),
        "nearest": told,
    }
    return Measured(
        (most > needed).reshape(shape).mean(1) - (100 - PERCENTILE) / 100, details=details
    )
