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
from onmodel.evaluate.axes.base import (
    BASE,
    PLACES,
    Axis,
    Evidence,
    Joining,
    Joint,
    Measured,
    References,
    Training,
    Unavailable,
)

__all__ = [
    "AXES",
    "JOININGS",
    "Axis",
    "AxisResult",
    "Evidence",
    "Joint",
    "Measured",
    "References",
    "Training",
    "Unavailable",
    "bounds",
    "evaluate_axis",
]

RESAMPLED = 400  # draws of prompts for the interval of a joint axis

AXES: dict[str, tuple[Axis, Callable[[Evidence], Measured | Joint]]] = {
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


# The axes whose prompts share an estimate over other prompts, and how they join them.
JOININGS: dict[str, Joining] = {
    "responsiveness": responsiveness.JOINING,
    "expression": expression.JOINING,
    "default_expression": expression.DEFAULT_JOINING,
    "default_framing": composition.DEFAULT_JOINING,
    "style": style.JOINING,
    "design": design.JOINING,
    "outfit_change": outfit.CHANGE_JOINING,
    "entanglement": entanglement.JOINING,
    "override": entanglement.OVERRIDE_JOINING,
}


@dataclass(frozen=True)
class AxisResult:
    """An axis of one model. `per_prompt`: prompt id → value on the axis' scale; `Axis.across` joins
    them to the value.

    For ratios a prompt's value is divided by the control's mean over all prompts. `joint` is what a
    joint axis found, None for the others: their prompts' values are independent.
    """

    interval: statistics.Interval
    per_prompt: dict[str, float]
    details: dict[str, Any]
    joint: Joint | None = None


def evaluate_axis(id: str, evidence: Evidence) -> AxisResult:
    """Measure one axis and its interval. Raises Unavailable saying why it cannot be measured."""
    axis, function = AXES[id]
    if evidence.arm(axis.arm[0]).tags.shape[1] < axis.seeds:
        raise Unavailable(f"needs at least {axis.seeds} pictures of a prompt (seeds)")
    measured = function(evidence)
    if isinstance(measured, Joint):
        return _joint_result(axis, replace(measured, rows=measured.rows.round(PLACES)), evidence)
    values, control = _known(measured.values, measured.control)
    scale = _scale(control)
    if control is not None:
        interval = statistics.ratio_interval(values, control)
    elif axis.across == "geometric":
        interval = statistics.geometric_interval(values)
    else:
        interval = statistics.mean_interval(values, bounds(axis))
    values = measured.values / scale
    return AxisResult(_within(axis, interval), _by_prompt(evidence, values), measured.details)


def _joint_result(axis: Axis, found: Joint, evidence: Evidence) -> AxisResult:
    """Value and interval of a joint axis; the interval by resampling prompts and computing the
    axis anew."""
    joining = JOININGS[axis.id]
    found = replace(
        found,
        shared={
            name: array.round(PLACES) if name == BASE else array
            for name, array in found.shared.items()
        },
    )
    once = np.ones((1, len(found.rows)))
    every, every_control = joining.parts(found.rows[None], once, found.shared)
    control = None if every_control is None else every_control[0]
    values, control = _known(every[0], control)
    scale = _scale(control)
    value = float(joining.value(found.rows[None], once, found.shared)[0])
    weights = statistics.resampled_prompts(len(found.rows), 0, RESAMPLED)
    drawn = joining.value(found.rows[None], weights, found.shared)
    half = float(statistics.bootstrap_half_width(drawn[np.isfinite(drawn)], len(values)))
    interval = statistics.interval_of(value, half, len(values), bounds(axis))
    per_prompt = _by_prompt(evidence, every[0] / scale)
    return AxisResult(_within(axis, interval), per_prompt, found.details, found)


def _scale(control_p: np.ndarray | None) -> float:
    """What values are divided by: the control's mean, 1 without one. Raises Unavailable for a mean
    of 0: nothing has a ratio to it."""
    scale = 1.0 if control_p is None else float(control_p.mean())
    if scale == 0:
        raise Unavailable("the base is 0 on this axis in every prompt, so there is no ratio to it")
    return scale


def _known(
    values_p: np.ndarray, control_p: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The values, and the control's, of the prompts that say something. Raises Unavailable for
    fewer than two."""
    known = ~np.isnan(values_p) & (True if control_p is None else ~np.isnan(control_p))
    if known.sum() < 2:
        raise Unavailable(f"needs at least two prompts that tell something, got {int(known.sum())}")
    values = values_p[known].astype(float)
    return values, None if control_p is None else control_p[known].astype(float)


def _by_prompt(evidence: Evidence, values_p: np.ndarray) -> dict[str, float]:
    """Prompt id → value, of the prompts that say something."""
    return {
        prompt.id: float(value)
        for prompt, value in zip(evidence.prompts, values_p, strict=True)
        if not np.isnan(value)
    }


def _within(axis: Axis, interval: statistics.Interval) -> statistics.Interval:
    """The interval cut to the axis' range."""
    low, high = bounds(axis)
    return replace(interval, low=max(low, interval.low), high=min(high, interval.high))


def bounds(axis: Axis) -> tuple[float, float]:
    """The axis' range with open ends as infinities."""
    low, high = axis.range
    return (-np.inf if low is None else low, np.inf if high is None else high)
