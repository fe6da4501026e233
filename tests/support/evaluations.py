"""The one factory of made-up evaluations: whole, valid and as small as a test needs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onmodel.evaluate.axes import AXES, bounds
from onmodel.evaluate.evaluation import (
    AnyScore,
    EvaluatedModel,
    Evaluation,
    EvaluationPlan,
    NotMeasured,
    PlannedPrompt,
    Score,
)
from onmodel.evaluate.first_look import FirstLook
from onmodel.evaluate.plan import make_plan
from onmodel.evaluate.statistics import geometric_interval, mean_interval
from onmodel.sample.sampling import Sampling

SIGNATURE = "onm|made-up|P:12|S:2"
Values = Mapping[str, Mapping[str, float]]
"""Axis → prompt id → value."""


def prompt(id: str, kind: str = "plain", **asked: str) -> PlannedPrompt:
    """A prompt of its own text; the seeds are those of two pictures."""
    text = dict.fromkeys(("L", "B", "D", "N"), f"1girl, prompt {id}")
    return PlannedPrompt(id, kind, asked, tuple(asked.values()), text, seeds=(1, 2))


def plan(
    prompts: Sequence[PlannedPrompt], seeds: int = 2, size: int = 96, suite: str = "confirm"
) -> EvaluationPlan:
    """A plan of these prompts without observers."""
    sampling = Sampling(steps=2, guidance=3.0, shift=3.0, width=size, height=size)
    return make_plan("b" * 64, suite, prompts, seeds, sampling, {}, "")


def model(
    name: str,
    values: Values,
    missing: Mapping[str, str] | None = None,
    epoch: int | None = None,
    signature: str = SIGNATURE,
) -> EvaluatedModel:
    """A model with the scores that follow from its values; `missing`: axis → why it has none."""
    axes: dict[str, AnyScore] = {}
    for id, found in values.items():
        axes[id] = score(id, list(found.values()), signature)
    for id, why in (missing or {}).items():
        axes[id] = NotMeasured(id, None, why, signature)
    return EvaluatedModel(name, axes, values, epoch=epoch)


def score(axis: str, values: Sequence[float], signature: str = SIGNATURE) -> Score:
    """The score of these prompts' values."""
    record, array = AXES[axis][0], np.array(values)
    if record.across == "geometric":
        found = geometric_interval(array)
    else:
        found = mean_interval(array, bounds(record))
    return Score(axis, found.value, found.low, found.high, found.n, record.arm, signature)


def evaluation(
    models: Sequence[EvaluatedModel],
    plan_: EvaluationPlan | None = None,
    axes: Sequence[str] | None = None,
    controls: Mapping[str, EvaluatedModel] | None = None,
    signature: str = SIGNATURE,
) -> Evaluation:
    """An evaluation of these models; without a plan, of the prompts that their values name."""
    tables = [values for row in models for values in row.per_prompt.values()]
    named = dict.fromkeys(id for values in tables for id in values)
    known = dict.fromkeys(id for row in models for id in row.axes)
    return Evaluation(
        signature=signature,
        plan=plan_ or plan([prompt(id) for id in named]),
        axes={id: AXES[id][0] for id in axes or known},
        observers={},
        models=models,
        controls=controls or {},
    )


def declared(evaluation: Evaluation, questions: Sequence[str]) -> Evaluation:
    """The evaluation with these questions."""
    return replace(evaluation, questions=tuple(questions))


def second(evaluation: Evaluation, first: FirstLook) -> Evaluation:
    """The evaluation as a second look."""
    return replace(evaluation, first=first)
