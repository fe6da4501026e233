"""select: choose models of an evaluation and say why, of winners and losers. The rule is
evaluate/selection.py's."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Literal

from pydantic import Field, field_validator

from onmodel.errors import InputError
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.selection import RULE, Selection, Wishes, select
from onmodel.hashing import read_json, write_json
from onmodel.ledger.lineage import add
from onmodel.records import Artifact
from onmodel.stages.base import (
    Context,
    Inputs,
    Plan,
    Reads,
    StageSettings,
    keep_file,
    write_models,
)

READS = Reads("select", head=("seed",), base=False)


class Bounded(StageSettings):
    """Bounds by axis, which hold for 95 % intervals."""

    at_least: Mapping[str, float] = Field(default_factory=dict)
    at_most: Mapping[str, float] = Field(default_factory=dict)

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
    """`candidates`: an evaluate stage; `among`: name patterns such as `release_2@*`; bounds by
    axis, on intervals."""

    do: Literal["select"]
    candidates: str
    count: int = Field(default=1, ge=1)
    among: list[str] | None = None
    per_stage_max: int | None = Field(default=None, ge=1)

    def needs(self) -> list[str]:
        return [self.candidates]


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Makes no picture; keeps `count` models."""
    return Plan(models=settings.count)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Choose and keep. Raises InputError when nothing matches `among` or a constrained axis was not
    measured."""
    evaluation = read_json(inputs.artifact(settings.candidates).path / "evaluation.json")
    rows = evaluation["models"]
    if settings.among is not None:
        patterns = settings.among
        rows = [
            row for row in rows if any(fnmatchcase(row["name"], pattern) for pattern in patterns)
        ]
        if not rows:
            names = ", ".join(row["name"] for row in evaluation["models"])
            raise InputError(
                "among", ", ".join(patterns), f"matches no candidate; there are {names}"
            )
    wishes = Wishes(settings.count, settings.at_least, settings.at_most, settings.per_stage_max)
    found = select(rows, wishes, context.seed)
    say(found, context)
    write_json(context.out / "selection.json", report(found, evaluation["signature"], wishes))
    by_name = {model.name: model for model in inputs.models([f"{settings.candidates}@*"])}
    kept = []
    for name in found.chosen:
        model = by_name[name]
        file = f"{model.sha256}.safetensors"
        keep_file(model.path, context.out / file)
        kept.append((name, model.epoch, file))
    write_models(context.out, kept)
    facts = {
        "chosen": [by_name[name].sha256 for name in found.chosen],
        "models": found.chosen,
        "signature": evaluation["signature"],
        "settings": settings.told(),
    }
    parents = [context.recipe(READS), inputs.lineage(settings.candidates)]
    return context.commit("selection", add(parents, "selection", name=context.name, **facts))


def report(found: Selection, signature: str, wishes: Wishes) -> dict[str, object]:
    """selection.json: the rule, the choice, and a row with its reason for every candidate."""
    return {
        "signature": signature,
        "rule": RULE,
        "count": wishes.count,
        "at_least": dict(wishes.at_least),
        "at_most": dict(wishes.at_most),
        "chosen": found.chosen,
        "alike": found.alike,
        "too_close_to_call": found.too_close_to_call,
        "constraints_met": found.constraints_met,
        "axes": found.axes,
        "candidates": [asdict(verdict) for verdict in found.verdicts],
    }


def say(found: Selection, context: Context) -> None:
    """The choice on the console; loudly when the constraints could not be met."""
    show = context.progress.console.print
    for verdict in found.verdicts:
        if verdict.chosen:
            numbers = f"bias {verdict.bias:.3f} ({verdict.low:.3f} to {verdict.high:.3f})"
            show(f"  {verdict.name}: {numbers}, {verdict.reason}", highlight=False, markup=False)
    if not found.constraints_met:
        show(
            "  NOT EVERY CONSTRAINT IS MET: what was kept is the least bad, see selection.json",
            style="bold red",
        )
    if found.too_close_to_call:
        show(
            "  too close to call: others are as good as far as these prompts can tell",
            highlight=False,
        )
