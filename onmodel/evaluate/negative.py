"""The negative prompt as a factor: does it help an axis, and what is left of the bias with it?"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from onmodel.evaluate.axes import AXES, AxisResult, Unavailable
from onmodel.evaluate.axes.base import cost
from onmodel.evaluate.compare import UNAVAILABLE, compare_results
from onmodel.evaluate.evaluation import NegativeEffect
from onmodel.evaluate.statistics import holm

Axes = Mapping[str, AxisResult | Unavailable]


def negative_effect(on: Axes, off: Axes) -> dict[str, NegativeEffect]:
    """Axis → what the negative prompt gains (in whole faults, positive is nearer to the ideal) and
    what is left.

    `on` and `off` are measured with and without it on the same prompts and noise. `p` is adjusted
    over the axes (Holm); `left` is the deviation from the ideal with it, `remains` whether the
    axis' interval excludes the ideal. Axes that either lacks are left out.
    """
    rows: dict[str, NegativeEffect] = {}
    found = []
    for id, (axis, _) in AXES.items():
        ours, theirs = on.get(id), off.get(id)
        if not (isinstance(ours, AxisResult) and isinstance(theirs, AxisResult)):
            continue
        one = compare_results(axis, ours, theirs)
        if one.outcome == UNAVAILABLE:
            continue
        found.append(one)
        ends = cost(axis, np.array([ours.interval.low, ours.interval.high]))
        signed = axis.direction in ("zero", "one")
        ideal = float(axis.direction in ("one", "up"))
        inside = (
            ours.interval.low <= ideal <= ours.interval.high if signed else float(ends.min()) <= 0
        )
        rows[id] = NegativeEffect(
            gain=one.gain / axis.fault,
            low=one.low / axis.fault,
            high=one.high / axis.fault,
            n=one.n,
            left=axis.cost(ours.interval.value),
            remains=not inside,
            p=1.0,
        )
    adjusted = holm([one.p for one in found], [one.least for one in found])
    return {id: replace(row, p=p) for (id, row), p in zip(rows.items(), adjusted, strict=True)}
