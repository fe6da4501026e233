"""The axes, one explicit table: record and function of each. One file answers one complaint of a
maker."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onmodel.evaluate import statistics
from onmodel.evaluate.axes import (
    body,
    colour,
    composition,
    design,
    drift,
    entanglement,
    expression,
    memorisation,
    outfit,
    quality,
    reproduction,
    responsiveness,
    style,
)
from onmodel.evaluate.axes.base import Axis, Evidence, Measured, References, Training, Unavailable

__all__ = [
    "AXES",
    "Axis",
    "AxisResult",
    "Evidence",
    "Measured",
    "References",
    "Training",
    "Unavailable",
    "bounds",
    "evaluate_axis",
]

AXES: dict[str, tuple[Axis, Callable[[Evidence], Measured]]] = {
    axis.id: (axis, function)
    for axis, function in (
        (reproduction.RECORD, reproduction.measure),
        (responsiveness.RECORD, responsiveness.measure),
        (expression.RECORD, expression.measure),
        (expression.DEFAULT, expression.default),
        (composition.RECORD, composition.measure),
        (composition.DEFAULT, composition.default),
        (style.RECORD, style.measure),
        (colour.CAST, colour.cast),
        (colour.AREA, colour.area),
        (design.RECORD, design.measure),
        (body.RECORD, body.measure),
        (body.HEAD, body.head),
        (outfit.KEEP, outfit.keep),
        (outfit.CHANGE, outfit.change),
        (outfit.LEAK, outfit.leak),
        (memorisation.RECORD, memorisation.measure),
        (drift.RECORD, drift.measure),
        (entanglement.ENTANGLEMENT, entanglement.entanglement),
        (entanglement.OVERRIDE, entanglement.override),
        (quality.RECORD, quality.measure),
        (quality.CORRUPTION, quality.corruption),
        (quality.AESTHETIC, quality.aesthetic),
    )
}


@dataclass(frozen=True)
class AxisResult:
    """An axis of one model. `per_prompt`: prompt id → value on the axis' scale; `Axis.across` joins
    them to the value.

    For ratios a prompt's value is divided by the control's mean over all prompts.
    """

    interval: statistics.Interval
    per_prompt: dict[str, float]
    details: dict[str, Any]


def evaluate_axis(id: str, evidence: Evidence) -> AxisResult:
    """Measure one axis and its interval. Raises Unavailable saying why it cannot be measured."""
    axis, function = AXES[id]
    if evidence.arm(axis.arm[0]).tags.shape[1] < axis.seeds:
        raise Unavailable(f"needs at least {axis.seeds} pictures of a prompt (seeds)")
    measured = function(evidence)
    control = measured.control
    known = ~np.isnan(measured.values) & (True if control is None else ~np.isnan(control))
    if known.sum() < 2:
        raise Unavailable(f"needs at least two prompts that tell something, got {int(known.sum())}")
    values = measured.values[known].astype(float)
    if control is not None:
        interval = statistics.ratio_interval(values, control[known].astype(float))
        values = values / float(control[known].mean())
    elif axis.across == "geometric":
        interval = statistics.geometric_interval(values)
    else:
        interval = statistics.mean_interval(values, bounds(axis))
    low, high = bounds(axis)
    interval = replace(interval, low=max(low, interval.low), high=min(high, interval.high))
    ids = [prompt.id for prompt, said in zip(evidence.prompts, known, strict=True) if said]
    return AxisResult(interval, dict(zip(ids, map(float, values), strict=True)), measured.details)


def bounds(axis: Axis) -> tuple[float, float]:
    """The axis' range with open ends as infinities."""
    low, high = axis.range
    return (-np.inf if low is None else low, np.inf if high is None else high)
