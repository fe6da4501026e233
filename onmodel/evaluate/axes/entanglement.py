"""Entanglement: what changes although nobody asked, and what stays although something else was
asked."""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable, mean_of_rows
from onmodel.ledger import versions

ENTANGLEMENT = Axis(
    id="entanglement",
    title="entanglement",
    unit="squared shift of probability",
    range=(-1.0, 1.0),
    direction="zero",
    across="mean",
    arm="L-D",
    observers=("tagger",),
    version=versions.AXES["entanglement"],
    fault=0.25,
    origin=(
        "how far an attribute that a prompt leaves open lies from the other prompts that leave it"
        " open, LoRA minus base; products of different seeds, so that noise adds nothing on average"
    ),
    limits="Which word pulls which attribute is in the details, one cell from few prompts.",
    seeds=2,
)
OVERRIDE = Axis(
    id="override",
    title="defaults that cannot be overridden",
    unit="probability",
    range=(-1.0, 1.0),
    direction="zero",
    across="mean",
    arm="L-D",
    observers=("tagger",),
    version=versions.AXES["override"],
    fault=1.0,
    origin=(
        "P(default seen | another value asked), LoRA minus base; the default of an attribute is the"
        " value that the LoRA adds most where none is asked"
    ),
    limits=(
        "The default is chosen from few prompts; where there is none the number is 0 on average."
    ),
)


def entanglement(evidence: Evidence) -> Measured:
    """Mean over the attributes that a prompt leaves open of their squared shift; details: asked →
    open → shift."""
    shifts = {}
    for open_ in _free(evidence):
        rows = [_shift(evidence, letter, open_) for letter in ("L", "D")]
        shifts[open_] = rows[0] - rows[1]
    known = [row for row in shifts.values() if not np.isnan(row).all()]
    if not known:
        raise Unavailable("needs three prompts that leave one attribute open")
    table: dict[str, dict[str, float]] = {}
    for asked in shifts:
        asking = np.array([asked in prompt.asked for prompt in evidence.prompts])
        cells = {open_: row[asking] for open_, row in shifts.items() if open_ != asked}
        table[asked] = {
            open_: float(np.nanmean(cell))
            for open_, cell in cells.items()
            if not np.isnan(cell).all()
        }
    return Measured(mean_of_rows(known), details={"matrix": table})


def override(evidence: Evidence) -> Measured:
    """Mean over a prompt's asked attributes of the rise of the default; details: each attribute's
    default."""
    rows, defaults = [], {}
    for attribute in _free(evidence):
        on, off = evidence.seen("L", attribute), evidence.seen("D", attribute)
        asked = [prompt.asked.get(attribute) for prompt in evidence.prompts]
        unasked = np.array([value is None for value in asked])
        if not on or not unasked.any():
            continue
        rise = {value: float((on[value] - off[value])[unasked].mean()) for value in on}
        default = max(rise, key=lambda value: rise[value])
        defaults[attribute] = {"default": default, "rise": rise[default]}
        other = np.array([value not in (None, default) for value in asked])
        rows.append(np.where(other, (on[default] - off[default]).mean(1), np.nan))
    if not rows or all(np.isnan(row).all() for row in rows):
        raise Unavailable("needs prompts with and without each attribute")
    return Measured(mean_of_rows(rows), details={"defaults": defaults})


def _free(evidence: Evidence) -> list[str]:
    return sorted(
        name for name in evidence.free & set(evidence.vocabulary) if evidence.seen("L", name)
    )


def _shift(evidence: Evidence, letter: str, open_: str) -> np.ndarray:
    """Half the squared distance of each prompt's expected values from those of the others [P]; NaN
    where it is asked.

    ⟨xᵢ − mᵢ, xⱼ − mⱼ⟩ over pairs of seeds i ≠ j, with m the mean of the other prompts' pictures
    under the same index: the two factors share no picture, so its mean is the squared distance of
    means (as in an unbiased MMD).
    """
    seen = np.stack(list(evidence.seen(letter, open_).values()), axis=-1)
    left = np.array([open_ not in prompt.asked for prompt in evidence.prompts])
    result = np.full(len(left), np.nan)
    count = int(left.sum())
    if count < 3:
        return result
    others = (seen[left].sum(0) - seen[left]) / (count - 1)
    away = seen[left] - others
    first, second = np.triu_indices(seen.shape[1], 1)
    result[left] = (away[:, first] * away[:, second]).sum(-1).mean(1) / 2
    return result
