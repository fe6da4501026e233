"""Pictures of another character: outliers of the identity agreement, and violations of the model
sheet.

Agreement is measured leave-one-out against the set's own pictures in the same style and framing
where there are enough: line art agrees less with colour than with line art. No reference pictures
are needed.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from onmodel.character import Character
from onmodel.curate.findings import AuditFinding, Fix
from onmodel.curate.quality import alike
from onmodel.evaluate.observers.identity import unit

OUTLIER, LEAST = (
    4.0,
    0.12,
)  # scaled median absolute deviations below the median, and agreement below it
SEEN, UNSEEN = 0.8, 0.1  # probabilities at which a trait is seen, and not
# traits of the sheet that somebody else breaks besides, one of them by what is forbidden, or one
# more
BROKEN = 4


def agreements(features: np.ndarray) -> np.ndarray:
    """Mean agreement (1 − CCIP difference) [N] of each picture with the median of the others' [N,
    F]."""
    rows = unit(features)
    centre = unit(np.median(rows, axis=0)[None])[0]
    return np.asarray(1 - np.clip((1 - rows @ centre) / 2, 0, 1))


def audit_identity(
    names: Sequence[str],
    features: np.ndarray,
    tags: Sequence[str],
    probabilities: np.ndarray,
    kinds: Mapping[str, str],
    character: Character,
    excused: Collection[str] = (),
) -> list[AuditFinding]:
    """Outliers and broken traits. `kinds`: picture → what it is compared within, e.g. its style.

    `excused` pictures are not judged: a cut-out may lack a head, a cast changes the colour of hair.
    """
    column = {tag: i for i, tag in enumerate(tags)}
    required = [tag for tag in character.required if tag in column]
    forbidden = [tag for tag in character.forbidden if tag in column]
    low = np.zeros(len(names), dtype=bool)
    agreement = np.ones(len(names))
    if features.shape[1]:
        groups = alike([kinds.get(name, "") for name in names])
        for group in dict.fromkeys(groups.tolist()):
            own = np.flatnonzero(groups == group)
            agreement[own] = agreements(features[own])
            middle = np.median(agreement[own])
            spread = 1.4826 * float(np.median(np.abs(agreement[own] - middle)))
            low[own] = agreement[own] < middle - max(OUTLIER * spread, LEAST)
    found = []
    for i, name in enumerate(names):
        broken = [f"no {tag}" for tag in required if probabilities[i, column[tag]] <= UNSEEN]
        alien = [tag for tag in forbidden if probabilities[i, column[tag]] >= SEEN]
        traits = ", ".join([*alien, *broken])
        if name in excused:
            continue
        if low[i] and len(alien) + len(broken) >= BROKEN + (not alien):
            evidence = f"agreement {agreement[i]:.2f}; {traits}"
            found.append(
                AuditFinding(
                    "wrong character", "error", name, character.name, evidence, Fix(aside=True)
                )
            )
        elif low[i]:
            evidence = f"agrees little with the others ({agreement[i]:.2f})" + f"; {traits}" * bool(
                traits
            )
            found.append(AuditFinding("off model", "warning", name, character.name, evidence))
        elif alien:
            found.append(
                AuditFinding(
                    "off model", "warning", name, character.name, f"seen: {', '.join(alien)}"
                )
            )
    return found
