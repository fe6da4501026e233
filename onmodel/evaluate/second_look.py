"""Which prompts a second look adds: those of the suite's further half that tell an open question.

A value of an axis follows from the prompts that tell it alone, so what is added for one question
changes no other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from onmodel.evaluate.axes.body import FRAMING, FULL_BODY
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.evaluate.first_look import FirstLook
from onmodel.sample.suites import Prompt, SuiteName

# The suite that has a further half, and both halves.
SUITE: SuiteName = "confirm"
WHOLE: SuiteName = "thorough"

Asked = Mapping[str, str]
T = TypeVar("T")


def _asks(attribute: str) -> Callable[[Asked], bool]:
    return lambda asked: attribute in asked


def _leaves_open(attribute: str) -> Callable[[Asked], bool]:
    return lambda asked: attribute not in asked


def _may_show_a_body(asked: Asked) -> bool:
    return asked.get(FRAMING, FULL_BODY) == FULL_BODY


# Axis → whether a prompt that asks this may tell it; every prompt tells the others.
TELLS: dict[str, Callable[[Asked], bool]] = {
    "reproduction": _leaves_open("outfit"),
    "expression": _asks("expression"),
    "default_expression": _leaves_open("expression"),
    "default_framing": _leaves_open("framing"),
    "outfit_keep": _leaves_open("outfit"),
    "outfit_change": _asks("outfit"),
    "outfit_leak": _asks("outfit"),
    "body": _may_show_a_body,
    "head_size": _may_show_a_body,
}


def tells(axis: str, prompt: Prompt) -> bool:
    """Whether the pictures of a prompt may say something on an axis."""
    return axis not in TELLS or TELLS[axis](prompt.asked)


def further_prompts(whole: Sequence[Prompt], first: FirstLook) -> list[Prompt]:
    """The prompts of the whole suite behind the first look's that tell an open question."""

    def wanted(prompt: Prompt) -> bool:
        return any(tells(axis, prompt) for axis in first.open)

    return list(filter(wanted, whole[first.prompts :]))


def of_open_questions(evaluation: Evaluation, first: FirstLook) -> Evaluation:
    """The evaluation of all prompts as the second look: nothing but the open questions."""

    def kept(table: Mapping[str, T]) -> dict[str, T]:
        return {axis: table[axis] for axis in first.open if axis in table}

    def only(row: EvaluatedModel) -> EvaluatedModel:
        return replace(
            row,
            axes=kept(row.axes),
            per_prompt=kept(row.per_prompt),
            rows=kept(row.rows),
            details=kept(row.details),
        )

    return replace(
        evaluation,
        axes=kept(evaluation.axes),
        models=[only(row) for row in evaluation.models],
        controls={arm: only(row) for arm, row in evaluation.controls.items()},
        shared=kept(evaluation.shared),
        questions=tuple(first.open),
        first=first,
    )
