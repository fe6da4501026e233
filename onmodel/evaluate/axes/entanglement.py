"""Entanglement: what changes although nobody asked, and what stays although something else was
asked."""

from collections.abc import Sequence

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
    mean_of_rows,
    seen_rows,
)
from onmodel.evaluate.axes.responsiveness import told
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
    limits=(
        "Which word pulls which attribute is in the details, one cell from few prompts. Attributes"
        " that the tagger cannot read are left out, as in prompt responsiveness."
    ),
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
        " Attributes that the tagger cannot read are left out, as in prompt responsiveness."
    ),
)


NOT_ASKED, UNKNOWN = -1, -2  # in place of the column of an asked value


def entanglement(evidence: Evidence) -> Joint:
    """Mean over the attributes that a prompt leaves open of their squared shift; details: asked →
    open → shift."""
    free, left_out = _free(evidence)
    tables = {letter: _pictures(evidence, letter, free) for letter in ("L", "D")}
    sizes = [len(evidence.seen("L", name)) for name in free]
    left = np.array(
        [[name not in prompt.asked for prompt in evidence.prompts] for name in free]
    ).reshape(len(free), len(evidence.prompts))
    seeds = evidence.arm("L").tags.shape[1]
    shared = {BASE: tables["D"], "sizes": np.array(sizes), "left": left, "seeds": np.array([seeds])}
    rows = _shifts(tables["L"][None], np.ones((1, len(evidence.prompts))), shared)
    shifts = {name: row[0] for name, row in zip(free, rows, strict=True)}
    if all(np.isnan(row).all() for row in shifts.values()):
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
    return Joint(tables["L"], shared, {"matrix": table, **told(left_out)})


def _spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    return mean_of_rows(_shifts(rows_rpk, weights_rp, shared))


JOINING = Joining(_spread)


def override(evidence: Evidence) -> Joint:
    """Mean over a prompt's asked attributes of the rise of the default; details: each attribute's
    default."""
    free, left_out = _free(evidence)
    (on, columns), (off, _) = (seen_rows(evidence, letter, free) for letter in ("L", "D"))
    asked = asked_columns(evidence, columns, other=UNKNOWN)
    sizes = np.array([len(values) for values in columns.values()])
    rise, shared = on - off, {"sizes": sizes, "asked": asked}
    values = _override_spread(rise[None], np.ones((1, len(rise))), shared)
    if not free or np.isnan(values).all():
        raise Unavailable("needs prompts with and without each attribute")
    defaults = {}
    for row, (attribute, known) in zip(asked, columns.items(), strict=True):
        if (row == NOT_ASKED).any():
            mean = rise[row == NOT_ASKED].mean(0)
            default = max(known, key=lambda value: mean[known[value]])
            defaults[attribute] = {"default": default, "rise": float(mean[known[default]])}
    return Joint(rise, shared, {"defaults": defaults, **told(left_out)})


def _override_spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    rows = np.broadcast_arrays(rows_rpk, weights_rp[..., None])[0]
    found, start = [np.full(rows.shape[:2], np.nan)], 0
    for asked, size in zip(shared["asked"].astype(int), shared["sizes"].astype(int), strict=True):
        unasked = asked == NOT_ASKED
        block = slice(start, start + size)
        start += size
        if not unasked.any() or not size:
            continue
        total = (rows[:, unasked, block] * weights_rp[:, unasked, None]).sum(1)
        default = total.argmax(1) + block.start  # [R]
        value = np.take_along_axis(rows, default[:, None, None], axis=2)[..., 0]
        found.append(np.where(unasked | (asked == default[:, None]), np.nan, value))
    return mean_of_rows(found)


OVERRIDE_JOINING = Joining(_override_spread)


def _free(evidence: Evidence) -> tuple[list[str], dict[str, str]]:
    """The free attributes that the tagger has words for and can read, and why others are left
    out."""
    readable, left_out = evidence.readable_attributes()
    return [name for name in readable if evidence.seen("L", name)], left_out


def _pictures(evidence: Evidence, letter: str, attributes: Sequence[str]) -> np.ndarray:
    """Probability of every value of the attributes in every picture of a prompt [P, S · K]."""
    seen = [found for name in attributes for found in evidence.seen(letter, name).values()]
    if not seen:
        raise Unavailable("needs three prompts that leave one attribute open")
    return np.stack(seen, axis=-1).reshape(len(evidence.prompts), -1)


def _shifts(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> list[np.ndarray]:
    """The shift of each attribute [R, P], less that of the base."""
    seeds, left = int(shared["seeds"][0]), shared["left"].astype(bool)
    found = []
    for rows, sign in ((rows_rpk, 1), (shared[BASE][None], -1)):
        pictures = rows.reshape(*rows.shape[:2], seeds, -1)
        ends = np.cumsum(shared["sizes"].astype(int))
        blocks = np.split(pictures, ends[:-1], axis=-1)
        found.append(
            [
                sign * _shift(block, weights_rp, open_)
                for block, open_ in zip(blocks, left, strict=True)
            ]
        )
    return [ours + bases for ours, bases in zip(*found, strict=True)]


def _shift(seen_rpsv: np.ndarray, weights_rp: np.ndarray, left_p: np.ndarray) -> np.ndarray:
    """Half the squared distance of each prompt's expected values from those of the others [R, P];
    NaN where the attribute is asked.

    ⟨xᵢ − mᵢ, xⱼ − mⱼ⟩ over pairs of seeds i ≠ j, with m the mean of the other prompts' pictures
    under the same index: the two factors share no picture, so its mean is the squared distance of
    means (as in an unbiased MMD). A prompt that counts twice is not among its own others.
    """
    seen, weights = seen_rpsv[:, left_p], weights_rp[:, left_p, None, None]
    result = np.full((max(len(seen), len(weights)), len(left_p)), np.nan)
    if left_p.sum() < 3:
        return result
    others = weights.sum(1, keepdims=True) - weights
    mean = ((seen * weights).sum(1, keepdims=True) - seen * weights) / np.where(
        others > 0, others, np.nan
    )
    away = seen - mean
    seeds = away.shape[2]
    products = (away.sum(2) ** 2 - (away**2).sum(2)).sum(-1)  # of ordered pairs of seeds
    result[:, left_p] = products / (seeds * (seeds - 1)) / 2
    return result
