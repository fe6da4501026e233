"""Composition diversity, two numbers: do seeds place and frame the figure as differently as on the
base, and does one framing come wherever none is asked?"""

import numpy as np

from onmodel.evaluate.axes.base import (
    Axis,
    Evidence,
    Joining,
    Joint,
    Measured,
    Shared,
    Unavailable,
    seen_rows,
)
from onmodel.evaluate.features import Features
from onmodel.evaluate.observers.detector import PARTS
from onmodel.ledger import versions

RECORD = Axis(
    id="composition",
    title="composition diversity",
    unit="ratio to the base",
    range=(0.0, None),
    direction="one",
    across="geometric",
    arm="L/D",
    observers=("tagger",),
    version=versions.AXES["composition"],
    fault=1.0,
    origin=(
        "Vendi score (Friedman & Dieng 2023) over seeds of figure box, framing and view, L over D"
    ),
    limits=(
        "With S seeds the ratio cannot leave 1/S … S; two tell little. Where no person is detected,"
        " the box is read from pixels."
    ),
    seeds=2,
)
DEFAULT = Axis(
    id="default_framing",
    title="one framing unasked",
    unit="probability",
    range=(-1.0, 1.0),
    direction="down",
    across="mean",
    arm="L, D",
    observers=("tagger",),
    version=versions.AXES["default_framing"],
    fault=1.0,
    origin=(
        "probability that pictures of two prompts that ask no framing are framed alike (Simpson"
        " 1949, unbiased: no prompt is paired with itself), minus the same of the base"
    ),
    limits=(
        "The framing is open in half of the prompts. Below 0 the character is framed more variously"
        " than by the base."
    ),
)
FRAMING = "framing"
ATTRIBUTES = (FRAMING, "view")


def measure(evidence: Evidence) -> Measured:
    """Vendi score of L's layouts over the seeds of a prompt, divided by that of D's."""
    layouts = {letter: layout(evidence, letter) for letter in ("L", "D")}
    spread = layouts["D"].reshape(-1, layouts["D"].shape[-1]).std(0)
    used = spread > 1e-3
    if not used.any():
        raise Unavailable("the base draws every picture with one layout")
    scaled = {letter: array[..., used] / spread[used] for letter, array in layouts.items()}
    bandwidth = float(np.median(np.concatenate([_pairs(rows) for rows in scaled["D"]])))
    if bandwidth <= 0:
        raise Unavailable("the base draws every seed with one layout")
    scores = {
        letter: np.array([vendi(rows, bandwidth) for rows in array])
        for letter, array in scaled.items()
    }
    details = {"vendi": float(scores["L"].mean()), "vendi_control": float(scores["D"].mean())}
    return Measured(scores["L"] / scores["D"], details=details)


def default(evidence: Evidence) -> Joint:
    """Probability that a prompt's pictures are framed as those of another one, where none is asked,
    minus the same of the base.

    Details: the probability of each framing there, of L and of D.
    """
    unasked = np.array([FRAMING not in prompt.asked for prompt in evidence.prompts])
    (rows, columns), (base, _) = (seen_rows(evidence, letter, [FRAMING]) for letter in ("L", "D"))
    if not columns[FRAMING] or unasked.sum() < 2:
        raise Unavailable("needs two prompts that ask no framing and a tagger that knows some")
    details = {
        letter: dict(zip(columns[FRAMING], map(float, table[unasked].mean(0)), strict=True))
        for letter, table in (("L", rows), ("D", base))
    }
    own = _told(base[None], np.ones((1, len(base))), unasked)[0]
    return Joint(rows, {"unasked": unasked, "base_own": np.nan_to_num(own)}, details)


def _default_spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    found = _told(rows_rpk, weights_rp, shared["unasked"].astype(bool))
    return np.asarray(found - shared["base_own"])


def _told(rows_rpk: np.ndarray, weights_rp: np.ndarray, unasked_p: np.ndarray) -> np.ndarray:
    """Probability [R, P] of being framed as another prompt where none is asked; NaN elsewhere."""
    seen, weights = rows_rpk[:, unasked_p], weights_rp[:, unasked_p, None]
    count = weights.sum(1, keepdims=True) - weights
    others = (seen * weights).sum(1, keepdims=True) - seen * weights
    alike = (seen * others / np.where(count > 0, count, np.nan)).sum(2)
    values = np.full((len(alike), len(unasked_p)), np.nan)
    values[:, unasked_p] = alike
    return values


DEFAULT_JOINING = Joining(_default_spread)


def layout(evidence: Evidence, letter: str) -> np.ndarray:
    """Figure box and the probabilities of each framing and view, [P, S, …]."""
    seen = [
        found for attribute in ATTRIBUTES for found in evidence.seen(letter, attribute).values()
    ]
    return np.concatenate(
        [_box(evidence.arm(letter)), *(found[..., None] for found in seen)], axis=-1
    )


def _box(features: Features) -> np.ndarray:
    """Centre x and y, size and log of height over width […, 4], of the person that is detected, or
    by layout.py."""
    x, y, width, height, score = np.moveaxis(features.parts[..., PARTS.index("person"), :], -1, 0)
    seen = score > 0
    wide, tall = np.where(seen, width, 1), np.where(seen, height, 1)
    detected = np.stack([x, y, np.sqrt(wide * tall), np.log(tall / wide)], axis=-1)
    return np.where(seen[..., None], detected, features.box)


def vendi(rows_sd: np.ndarray, bandwidth: float) -> float:
    """exp of the entropy of the eigenvalues of a Gaussian kernel over rows: 1 (all alike) … S (all
    different)."""
    squared = ((rows_sd[:, None] - rows_sd[None]) ** 2).sum(-1)
    values = np.linalg.eigvalsh(np.exp(-squared / (2 * bandwidth**2)) / len(rows_sd))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def _pairs(rows_sd: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(len(rows_sd), 1)
    return np.asarray(np.linalg.norm(rows_sd[first] - rows_sd[second], axis=-1))
