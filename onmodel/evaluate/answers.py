"""What each picture answered: how sure the tagger is of every value of what its prompt asked
for."""

import numpy as np

from onmodel.evaluate.axes.base import Evidence, Unavailable
from onmodel.evaluate.evaluation import Answers

PLACES = 3  # of a stored probability


def answers(evidence: Evidence) -> Answers:
    """Answers of arm L; an attribute that the tagger has no column for or cannot read is left out,
    everything without a tagger."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {
        prompt.id: {} for prompt in evidence.prompts
    }
    for attribute in dict.fromkeys(name for prompt in evidence.prompts for name in prompt.asked):
        try:
            seen = evidence.seen("L", attribute)
        except Unavailable:
            continue
        for p, prompt in enumerate(evidence.prompts):
            if prompt.asked.get(attribute) in seen:
                found[prompt.id][attribute] = {
                    value: _rounded(rows[p]) for value, rows in seen.items()
                }
    return found if any(found.values()) else {}


def _rounded(numbers_s: np.ndarray) -> list[float]:
    return [round(float(one), PLACES) for one in numbers_s]
