"""select: choose models of an evaluation and say why, of winners and losers. The rule is
evaluate/selection.py's."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, field_validator

from onmodel.errors import InputError
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.choice import CHOICE, Choice
from onmodel.evaluate.evaluation import FILE, read_evaluation
from onmodel.evaluate.selection import Constraints, Selection, select
from onmodel.hashing import write_json
from onmodel.ledger.lineage import add
from onmodel.policy import check_text
from onmodel.records import Artifact
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    StageSettings,
    keep_models,
)
from onmodel.text import is_printable

LONGEST_REASON = 500  # characters
MAKES: Kind = "selection"
READS = Reads("select", head=("seed",), base=False)


class Bounded(StageSettings):
    """Bounds by axis, applied to 95 % intervals."""

    at_least: Mapping[str, float] = Field(
        default_factory=dict, description="Axis to smallest value, applied to its 95 % interval."
    )
    at_most: Mapping[str, float] = Field(
        default_factory=dict, description="Axis to largest value, applied to its 95 % interval."
    )

    @field_validator("at_least", "at_most")
    @classmethod
    def _known(cls, bounds: Mapping[str, float]) -> Mapping[str, float]:
        for axis in bounds:
            if axis not in AXES:
                near = difflib.get_close_matches(axis, AXES, n=1)
                raise ValueError(
                    f"{axis} is no axis; "
                    + (f"did you mean {near[0]}?" if near else ", ".join(AXES))
                )
        return bounds


class Settings(Bounded):
    """The settings of a select stage."""

    do: Literal["select"]
    candidates: str = Field(description="Evaluate stage to choose from.")
    count: int = Field(default=1, ge=1, description="Number of models to choose.")
    among: list[str] | None = Field(
        default=None, description='Name patterns such as "release_2@*". Unset: all models.'
    )
    per_stage_max: int | None = Field(
        default=None, ge=1, description="Largest number of models of one stage. Unset: no limit."
    )
    reason: str = Field(
        default="",
        max_length=LONGEST_REASON,
        description="Why a person chose `among`. Recorded in the history and on the card.",
    )

    @field_validator("reason")
    @classmethod
    def _fair(cls, reason: str) -> str:
        if not is_printable(reason):
            raise ValueError("holds control characters or characters that are not shown")
        check_text(reason, "reason")
        return reason

    def keyed(self) -> dict[str, object]:
        return _without_empty_reason(super().keyed())

    def told(self) -> dict[str, object]:
        return _without_empty_reason(super().told())

    def named_stages(self) -> list[NamedStage]:
        return [NamedStage("candidates", self.candidates, "evaluation")]

    def matches(self, name: str) -> bool:
        """Is a model of this name among the candidates?"""
        return self.among is None or any(fnmatchcase(name, pattern) for pattern in self.among)


def _without_empty_reason(settings: dict[str, object]) -> dict[str, object]:
    """So a selection that was made before there were reasons is found."""
    return {name: value for name, value in settings.items() if name != "reason" or value}


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Makes no picture; keeps `count` models. Raises InputError when there are not so many."""
    plan = before[settings.candidates]
    if plan.names is None:
        if settings.count > plan.models:
            raise InputError("count", settings.count, f"there are {plan.models} candidates at most")
        return Plan(models=settings.count)
    names = [name for name in plan.names if settings.matches(name)]
    if not names:
        raise _nothing_matches(settings, plan.names)
    if settings.count > len(names):
        remedy = f"there are {len(names)} candidates: {', '.join(names)}"
        raise InputError("count", settings.count, remedy)
    return Plan(models=settings.count)


def _nothing_matches(settings: Settings, names: Sequence[str]) -> InputError:
    patterns = ", ".join(settings.among or ())
    return InputError("among", patterns, f"matches no candidate; there are {', '.join(names)}")


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Choose and keep. Raises InputError when nothing matches `among` or a constrained axis was not
    measured."""
    evaluation = read_evaluation(inputs.artifact(settings.candidates).path / FILE)
    rows = [row for row in evaluation.models if settings.matches(row.name)]
    if not rows:
        raise _nothing_matches(settings, evaluation.names)
    constraints = Constraints(
        settings.count, settings.at_least, settings.at_most, settings.per_stage_max
    )
    found = select(rows, constraints, context.seed, evaluation.shared)
    say(found, context)
    choice = Choice.of(found, evaluation.signature, constraints)
    write_json(context.out / CHOICE, choice.as_json())
    by_name = {model.name: model for model in inputs.models([f"{settings.candidates}@*"])}
    keep_models(context.out, [by_name[name] for name in found.chosen])
    facts = {
        "chosen": [by_name[name].sha256 for name in found.chosen],
        "models": found.chosen,
        "signature": evaluation.signature,
        "settings": settings.told(),
    }
    parents = [context.recipe(READS), inputs.lineage(settings.candidates)]
    return context.commit("selection", add(parents, "selection", name=context.name, **facts))


def say(found: Selection, context: Context) -> None:
    """Report the choice, and as an error when the constraints could not be met."""
    events = context.events
    for verdict in found.verdicts:
        if verdict.chosen:
            numbers = f"bias {verdict.bias:.3f} ({verdict.low:.3f} to {verdict.high:.3f})"
            events.row(
                "chosen",
                f"{verdict.name}: {numbers}, {verdict.reason}",
                model=verdict.name,
                bias=verdict.bias,
                low=verdict.low,
                high=verdict.high,
                reason=verdict.reason,
            )
    if not found.constraints_met:
        events.note(
            "NOT EVERY CONSTRAINT IS MET: what was kept is the least bad, see selection.json",
            "error",
        )
    if found.too_close_to_call:
        events.note("open: others are as good as far as these prompts can tell")
