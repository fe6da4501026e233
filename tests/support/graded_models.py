"""Evaluated models whose faults are known."""

from dataclasses import replace

import numpy as np

from onmodel.evaluate.axes import AXES, bounds
from onmodel.evaluate.evaluation import EvaluatedModel, Score
from onmodel.evaluate.statistics import mean_interval
from onmodel.randomness import generator
from tests.support import evaluations as made_up

PROMPTS = 12


def model(
    name: str, noise: float = 0.02, missing: tuple[str, ...] = (), **away: float
) -> EvaluatedModel:
    """Every axis at its ideal, but for `away` faults in the axis' bad direction."""
    values = {}
    for id, (axis, _) in AXES.items():
        if id in missing:
            continue
        worse = -1 if axis.direction in ("up", "one") else 1
        rng = generator(0, "prompts of all models", id)
        found = (
            axis.ideal
            + worse * (away.get(id, 0.0) + 0.05) * axis.fault
            + rng.normal(0, 0.05 * axis.fault, PROMPTS)
        )
        found += generator(1, name, id).normal(0, noise * axis.fault, PROMPTS)
        values[id] = {f"prompt-{p}": float(v) for p, v in enumerate(found)}
    lacking = dict.fromkeys(missing, "no tagger was given")
    row = made_up.model(name, values, lacking, int(name.partition("@")[2] or 0) or None)
    arithmetic = {id: _arithmetic(id, list(found.values())) for id, found in values.items()}
    return replace(row, axes={**row.axes, **arithmetic})


def _arithmetic(axis: str, values: list[float]) -> Score:
    """The arithmetic mean, also of the axis whose values are made up around 1 and not as ratios."""
    found = mean_interval(np.array(values), bounds(AXES[axis][0]))
    return Score(axis, found.value, found.low, found.high, found.n, "L", "")
