"""The negative prompt as a factor: does it help an axis, and what is left of the bias with it?"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onmodel.evaluate.axes import AXES, AxisResult, Unavailable
from onmodel.evaluate.axes.base import cost, prompt_costs
from onmodel.evaluate.evaluation import NegativeEffect
from onmodel.evaluate.statistics import max_t, mean_interval

Axes = Mapping[str, AxisResult | Unavailable]


def negative_effect(on: Axes, off: Axes) -> dict[str, NegativeEffect]:
    """Axis → what the negative prompt gains (in whole faults, positive is nearer to the ideal) and
    what is left.

    `on` and `off` are measured with and without it on the same prompts and noise. `p` is adjusted
    over the axes (max-T); `left` is the deviation from the ideal with it, `remains` whether the
    axis' interval excludes the ideal. Axes that either lacks are left out.
    """
    rows, gains = {}, []
    for id, (axis, _) in AXES.items():
        ours, theirs = on.get(id), off.get(id)
        if not (isinstance(ours, AxisResult) and isinstance(theirs, AxisResult)):
            continue
        prompts = dict.fromkeys([*ours.per_prompt, *theirs.per_prompt])
        values = [
            np.array([one.per_prompt.get(prompt, np.nan) for prompt in prompts])
            for one in (ours, theirs)
        ]
        gain = prompt_costs(axis, values[1]) - prompt_costs(axis, values[0])
        if np.isfinite(gain).sum() < 2:
            continue
        found = mean_interval(gain[np.isfinite(gain)])
        ends = cost(axis, np.array([ours.interval.low, ours.interval.high]))
        signed = axis.direction in ("zero", "one")
        ideal = float(axis.direction in ("one", "up"))
        inside = (
            ours.interval.low <= ideal <= ours.interval.high if signed else float(ends.min()) <= 0
        )
        rows[id] = NegativeEffect(
            gain=found.value,
            low=found.low,
            high=found.high,
            n=found.n,
            left=axis.cost(ours.interval.value),
            remains=not inside,
            p=1.0,
        )
        gains.append(dict(zip(prompts, gain, strict=True)))
    every = list(dict.fromkeys(prompt for row in gains for prompt in row))
    adjusted = (
        max_t(np.array([[row.get(prompt, np.nan) for prompt in every] for row in gains]))
        if gains
        else []
    )
    return {id: replace(row, p=p) for (id, row), p in zip(rows.items(), adjusted, strict=True)}
