"""Body proportion: is she drawn smaller or taller than she is?"""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable

RECORD = Axis(
    id="body",
    title="body proportion",
    unit="steps of size",
    range=(-2.0, 2.0),
    direction="zero",
    across="mean",
    arm="L-H",
    observers=("tagger",),
    version=1,
    fault=1.0,
    origin="expected step on the ordinal scale chibi −1, normal 0, tall +1 in full-body pictures, minus the same of "
    "the full-body references",
    limits="Steps are the tagger's, no measured ratio of head to height. The interval leaves out that the references "
    "are few.",
)
STEPS = {"chibi": -1.0, "tall": 1.0}
FEWEST = 3
FULL_BODY = "full body"


def measure(evidence: Evidence) -> Measured:
    """Mean step of a full-body prompt's pictures minus that of the references; details: minus that of the base, too."""
    asked = np.array([prompt.asked.get("framing") == FULL_BODY for prompt in evidence.prompts])
    if not asked.any():
        raise Unavailable("no prompt asks for a full body")
    steps = {letter: _steps(evidence, evidence.arm(letter).tags) for letter in ("L", "D")}
    own = _references(evidence)
    values = np.where(asked, steps["L"].mean(1) - own, np.nan)
    return Measured(values, details={"against_base": float((steps["L"] - steps["D"])[asked].mean()), "references": own})


def _steps(evidence: Evidence, tags: np.ndarray) -> np.ndarray:
    """Expected step of each picture. Raises Unavailable when the tagger does not tell sizes."""
    if tags.shape[-1] == 0:
        raise Unavailable("no tagger was given")
    words = evidence.vocabulary.get("body", {})
    columns = {value: evidence.columns[words[value]] for value in STEPS if words.get(value) in evidence.columns}
    if len(columns) < len(STEPS):
        raise Unavailable("the tagger has no tags for small and tall bodies")
    return np.asarray(sum(STEPS[value] * tags[..., column] for value, column in columns.items()))


def _references(evidence: Evidence) -> float:
    """Mean step of the full-body references."""
    if evidence.references is None:
        raise Unavailable("no held-out references were given")
    tags, column = evidence.references.features.tags, evidence.columns.get(FULL_BODY)
    whole = tags[:, column] >= 0.5 if column is not None else np.zeros(len(tags), dtype=bool)
    if whole.sum() < FEWEST:
        raise Unavailable(f"needs {FEWEST} full-body references, got {int(whole.sum())}")
    return float(_steps(evidence, tags[whole]).mean())
