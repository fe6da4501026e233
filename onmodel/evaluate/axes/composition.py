"""Composition diversity: do seeds still place and frame the figure differently, as they do on the base?"""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable

RECORD = Axis(
    id="composition",
    title="composition diversity",
    unit="ratio to the base",
    range=(0.0, None),
    direction="one",
    across="geometric",
    arm="L/D",
    observers=("tagger",),
    version=1,
    fault=1.0,
    origin="Vendi score (Friedman & Dieng 2023) over seeds of figure box, framing and view, L over D",
    limits="With S seeds the ratio cannot leave 1/S … S; two tell little. The box is read from pixels, not detected.",
)
ATTRIBUTES = ("framing", "view")


def measure(evidence: Evidence) -> Measured:
    """Vendi score of L's layouts over the seeds of a prompt, divided by that of D's."""
    layouts = {letter: layout(evidence, letter) for letter in ("L", "D")}
    if layouts["D"].shape[1] < 2:
        raise Unavailable("needs at least two seeds")
    spread = layouts["D"].reshape(-1, layouts["D"].shape[-1]).std(0)
    used = spread > 1e-3
    if not used.any():
        raise Unavailable("the base draws every picture with one layout")
    scaled = {letter: array[..., used] / spread[used] for letter, array in layouts.items()}
    bandwidth = float(np.median(np.concatenate([_pairs(rows) for rows in scaled["D"]])))
    if bandwidth <= 0:
        raise Unavailable("the base draws every seed with one layout")
    scores = {letter: np.array([vendi(rows, bandwidth) for rows in array]) for letter, array in scaled.items()}
    details = {"vendi": float(scores["L"].mean()), "vendi_control": float(scores["D"].mean())}
    return Measured(scores["L"] / scores["D"], details=details)


def layout(evidence: Evidence, letter: str) -> np.ndarray:
    """Figure box and the probabilities of each framing and view, [P, S, …]."""
    seen = [found for attribute in ATTRIBUTES for found in evidence.seen(letter, attribute).values()]
    return np.concatenate([evidence.arm(letter).box, *(found[..., None] for found in seen)], axis=-1)


def vendi(rows_sd: np.ndarray, bandwidth: float) -> float:
    """exp of the entropy of the eigenvalues of a Gaussian kernel over rows: 1 (all alike) … S (all different)."""
    squared = ((rows_sd[:, None] - rows_sd[None]) ** 2).sum(-1)
    values = np.linalg.eigvalsh(np.exp(-squared / (2 * bandwidth**2)) / len(rows_sd))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def _pairs(rows_sd: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(len(rows_sd), 1)
    return np.asarray(np.linalg.norm(rows_sd[first] - rows_sd[second], axis=-1))
