"""Body proportion, two numbers: is she drawn smaller or taller than she is, and is her head too
large for her body?"""

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, Unavailable, mean_of_rows
from onmodel.evaluate.observer_check import HEADS
from onmodel.evaluate.observers.detector import PARTS
from onmodel.ledger import versions

RECORD = Axis(
    id="body",
    title="body proportion",
    unit="steps of size",
    range=(-2.0, 2.0),
    direction="zero",
    across="mean",
    arm="L-H",
    observers=("tagger",),
    version=versions.AXES["body"],
    fault=1.0,
    origin=(
        "expected step on the ordinal scale chibi −1, normal 0, tall +1 in full-body pictures,"
        " minus the same of the full-body references"
    ),
    limits=(
        "Steps are the tagger's, no measured ratio of head to height. The interval leaves out that"
        " the references are few."
    ),
)
HEAD = Axis(
    id="head_size",
    title="head to body",
    unit="spreads of the references",
    range=(None, None),
    direction="zero",
    across="mean",
    arm="L-H",
    observers=("tagger", "detectors"),
    version=versions.AXES["head_size"],
    fault=5.0,
    retraining=2.0,
    origin=(
        "z of the head's height over the person's in full-body pictures, by mean and standard"
        " deviation of the full-body references"
    ),
    limits=(
        "Pictures where no head or no person is seen say nothing; the details tell their share."
        " What a detector counts as head, hat or hair included or not, it counts so in the"
        " references too."
    ),
)
STEPS = {"chibi": -1.0, "tall": 1.0}
FEWEST = 3
FRAMING, FULL_BODY = "framing", "full body"
SEEN = 0.5  # probability from which a picture counts as a full body
LEAST_SPREAD = 0.05  # of the mean: three references drawn alike would make a giant of every pixel


def measure(evidence: Evidence) -> Measured:
    """Mean step of a prompt's full-body pictures minus that of the references; details: minus that
    of the base, too, where full bodies are asked."""
    shown, asked = _shown(evidence), _asked(evidence)
    steps = {letter: _steps(evidence, evidence.arm(letter).tags) for letter in ("L", "D")}
    own = _references(evidence)
    values = mean_of_rows([*np.where(shown, steps["L"], np.nan).T]) - own
    base = float((steps["L"] - steps["D"])[asked].mean()) if asked.any() else None
    return Measured(values, details={"against_base": base, "references": own})


def head(evidence: Evidence) -> Measured:
    """Mean z of a prompt's full-body pictures; details: the references' mean and spread, the mean z
    of the base where full bodies are asked, and the share of the pictures that could be judged."""
    if evidence.references is None:
        raise Unavailable("no held-out references were given")
    shown, asked = _shown(evidence), _asked(evidence)
    evidence.require(HEADS)
    ratios = {
        "L": np.where(shown, _ratios(evidence.arm("L").parts), np.nan),
        "D": _ratios(evidence.arm("D").parts)[asked],
    }
    own = _ratios(evidence.references.features.parts)[_whole(evidence)]
    own = own[~np.isnan(own)]
    if len(own) < FEWEST:
        raise Unavailable(
            f"needs {FEWEST} full-body references with head and person detected, got {len(own)}"
        )
    mean, spread = float(own.mean()), max(float(own.std(ddof=1)), LEAST_SPREAD * float(own.mean()))
    z = {letter: (found - mean) / spread for letter, found in ratios.items()}
    known = ~np.isnan(z["D"])
    base = float(z["D"][known].mean()) if known.any() else None
    judged = float((~np.isnan(z["L"][shown])).mean())
    return Measured(
        mean_of_rows(z["L"].T),
        details={"references": mean, "spread": spread, "base": base, "judged": judged},
    )


def _asked(evidence: Evidence) -> np.ndarray:
    """Which prompts [P] ask for a full body."""
    return np.array([prompt.asked.get(FRAMING) == FULL_BODY for prompt in evidence.prompts])


def _shown(evidence: Evidence) -> np.ndarray:
    """Which of L's pictures [P, S] count as full bodies: those of prompts that ask for one, and
    where the framing is open those that the tagger sees as one."""
    asked = _asked(evidence)[:, None] & np.ones(evidence.arm("L").tags.shape[:2], dtype=bool)
    open_ = np.array([FRAMING not in prompt.asked for prompt in evidence.prompts])[:, None]
    check, column = evidence.checks.get(FRAMING), evidence.columns.get(FULL_BODY)
    if column is None or (check is not None and not check.passed):
        shown = asked
    else:
        shown = asked | (open_ & (evidence.arm("L").tags[..., column] >= SEEN))
    if not shown.any():
        raise Unavailable("no picture shows a full body, and no prompt asks for one")
    return shown


def _ratios(parts: np.ndarray) -> np.ndarray:
    """Height of the head over that of the person […] of detected parts […, 2, 5]; NaN where one is
    not seen."""
    person, head = (parts[..., PARTS.index(part), :] for part in ("person", "head"))
    seen = (person[..., 4] > 0) & (head[..., 4] > 0)
    return np.where(seen, head[..., 3] / np.where(seen, person[..., 3], 1), np.nan)


def _steps(evidence: Evidence, tags: np.ndarray) -> np.ndarray:
    """Expected step of each picture. Raises Unavailable when the tagger does not tell sizes."""
    if tags.shape[-1] == 0:
        raise Unavailable("no tagger was given")
    evidence.require("body")
    words = evidence.vocabulary.get("body", {})
    columns = {
        value: evidence.columns[words[value]]
        for value in STEPS
        if words.get(value) in evidence.columns
    }
    if len(columns) < len(STEPS):
        raise Unavailable("the tagger has no tags for small and tall bodies")
    return np.asarray(sum(STEPS[value] * tags[..., column] for value, column in columns.items()))


def _references(evidence: Evidence) -> float:
    """Mean step of the full-body references."""
    if evidence.references is None:
        raise Unavailable("no held-out references were given")
    tags, whole = evidence.references.features.tags, _whole(evidence)
    if whole.sum() < FEWEST:
        raise Unavailable(f"needs {FEWEST} full-body references, got {int(whole.sum())}")
    return float(_steps(evidence, tags[whole]).mean())


def _whole(evidence: Evidence) -> np.ndarray:
    """Which references [N] show a full body."""
    assert evidence.references is not None
    tags, column = evidence.references.features.tags, evidence.columns.get(FULL_BODY)
    return tags[:, column] >= SEEN if column is not None else np.zeros(len(tags), dtype=bool)
