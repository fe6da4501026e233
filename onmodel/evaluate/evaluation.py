"""What evaluation.json holds, as types, with its one reader and its one writer.

The file says the number of its form in `schema`. Files without a number are from before there was
one; older_files.py adds what they lack.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, TypeVar, cast

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    TypeAdapter,
    ValidationError,
)

from onmodel.errors import InputError, StateError
from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.details import (
    AGREEMENT,
    ENTANGLED,
    HUE_GAIN,
    LEFT_OUT,
    NEAR_COPIES,
    STYLE_PULL,
    TRAITS,
    Agreement,
    Count,
    Entangled,
    HueGain,
    NearCopies,
    Number,
    StylePull,
    Traits,
    checked_details,
)
from onmodel.evaluate.first_look import FirstLook
from onmodel.evaluate.observer_check import ObserverCheck
from onmodel.evaluate.older_files import as_schema_1, with_margins
from onmodel.families.settings import SamplerName, Schedule
from onmodel.hashing import read_json, write_json
from onmodel.sample.sampling import VERSION_PATTERN, Sampling
from onmodel.sample.suites import Prompt

FILE = "evaluation.json"
T = TypeVar("T")
# 2: rows and shared numbers of joint axes; 3: levels of two looks, `first`; 4: margins of trainings
SCHEMA = 4

# What a maker asks first of a character LoRA; every other axis explores.
QUESTIONS = (
    "reproduction",
    "design",
    "style",
    "colour_cast",
    "default_framing",
    "expression",
)

Answers = Mapping[str, Mapping[str, Mapping[str, Sequence[Number]]]]
"""Prompt id → asked attribute → value → probability at each seed."""
Table = Sequence[Sequence[Number]]
SharedTables = Mapping[str, Mapping[str, Sequence[Number] | Table]]
"""Joint axis → what its rows are read with (`axes.base.Shared`)."""


@dataclass(frozen=True, slots=True)
class PlannedPrompt(Prompt):
    """A prompt with the noise seed of each of its pictures."""

    seeds: tuple[int, ...] = ()

    @classmethod
    def of(cls, prompt: Prompt, seeds: tuple[int, ...]) -> "PlannedPrompt":
        given = {one.name: getattr(prompt, one.name) for one in fields(Prompt)}
        return cls(**given, seeds=seeds)


SamplerVersion = Annotated[str, Field(pattern=VERSION_PATTERN)]


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """Everything that is fixed before looking: prompts, noise, sampling, observers.

    `seeds` are the indices of a prompt's pictures; `observers`: name → SHA-256; `references` and
    `training`: SHA-256 of the list of reference and training pictures, "" for none; `size` is
    (width, height) in pixels. The fields stand in the order of the file.
    """

    base_sha256: str
    suite: str
    prompts: tuple[PlannedPrompt, ...]
    seeds: tuple[int, ...]
    observers: Mapping[str, str]
    references: str
    training: str
    suite_sha256: str
    steps: Count
    guidance: Number
    shift: Number
    weight: Number
    width: Count
    height: Count
    sampler: SamplerVersion
    size: tuple[Count, Count]

    @property
    def sampling(self) -> Sampling:
        """How its pictures are generated."""
        found = re.match(VERSION_PATTERN, self.sampler)
        assert found is not None, "checked when it was read"
        return Sampling(
            self.steps,
            self.guidance,
            self.shift,
            self.weight,
            self.width,
            self.height,
            sampler=cast(SamplerName, found["sampler"]),
            schedule=cast(Schedule, found["schedule"]),
            empty_text="comfyui" if found["empty"] else "diffusers",
            guidance_rescale=float(found["rescale"] or 0),
        )


@dataclass(frozen=True, slots=True)
class Score:
    """One axis of one model: value with its 95 % interval over `n` prompts, the arm and the
    signature of the plan that it was measured under."""

    axis: str
    value: Number
    low: Number
    high: Number
    n: Count
    arm: str
    signature: str


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """An axis that has no value for a model, and why."""

    axis: str
    value: None
    why: str
    signature: str


def _kind(score: object) -> str:
    """Which of the two a score is: JSON values or an object."""
    value = score.get("value") if isinstance(score, dict) else getattr(score, "value", None)
    return NONE if value is None else SCORE


SCORE, NONE = "score", "none"  # tags, which pydantic puts into the place of an error
AnyScore = Annotated[
    Annotated[Score, Tag(SCORE)] | Annotated[NotMeasured, Tag(NONE)], Discriminator(_kind)
]


@dataclass(frozen=True, slots=True)
class NegativeEffect:
    """What the negative prompt does to one axis, in whole faults.

    `gain` with its interval over `n` prompts: positive is nearer to the ideal. `left` is the
    deviation from the ideal with the negative prompt; `remains` says whether the axis' interval
    excludes the ideal. `p` is adjusted over the axes.
    """

    gain: Number
    low: Number
    high: Number
    n: Count
    left: Number
    remains: bool
    p: Number


@dataclass(frozen=True, slots=True)
class NegativePrompt:
    """A model's negative prompt: its effect by axis, and the scores without it."""

    effect: Mapping[str, NegativeEffect]
    without: Mapping[str, AnyScore]


@dataclass(frozen=True)
class EvaluatedModel:
    """A model, or a control under the name of its arm, and what was measured of it.

    `per_prompt`: axis → prompt id → value, for the prompts that tell something; `rows`: joint axis
    → one row of numbers for each prompt of the plan, from which the axis is computed; `pictures`:
    arm → prompt id → one file for each seed, relative to the evaluation. A control has no `epoch`,
    `sha256` or `trigger`.
    """

    name: str
    axes: Mapping[str, AnyScore]
    per_prompt: Mapping[str, Mapping[str, Number]]
    epoch: int | None = None
    sha256: str = ""
    trigger: str = ""
    details: Annotated[dict[str, JsonValue], AfterValidator(checked_details)] = field(
        default_factory=dict
    )
    answers: Answers = field(default_factory=dict)
    pictures: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    negative: NegativePrompt | None = None
    rows: Mapping[str, Table] = field(default_factory=dict)

    def score(self, axis: str) -> Score | None:
        """The score on an axis; None where there is none."""
        found = self.axes.get(axis)
        return found if isinstance(found, Score) else None

    @property
    def scores(self) -> dict[str, Score]:
        """Axis → score, of the axes that have one."""
        return {axis: one for axis, one in self.axes.items() if isinstance(one, Score)}

    def why_not(self, axis: str) -> str:
        """Why there is no score on an axis; "" where there is one."""
        found = self.axes.get(axis)
        if found is None:
            return "not measured for this model"
        return found.why if isinstance(found, NotMeasured) else ""

    def values(self, axis: str) -> Mapping[str, float]:
        """Prompt id → value on an axis."""
        return self.per_prompt.get(axis, {})

    @cached_property
    def agreement(self) -> Agreement | None:
        return self._told("reproduction", AGREEMENT)

    @cached_property
    def traits(self) -> Traits | None:
        return self._told("design", TRAITS)

    def remark(self, axis: str) -> str:
        """What a person reads beside the number of an axis; "" where there is nothing to add."""
        if axis == "reproduction" and self.agreement and self.agreement.hits:
            share = self.agreement.hits[0]
            return f"{share:.0%} of the pictures agree as well as nine in ten references"
        if axis == "design" and self.traits and self.traits.worst:
            worst, trait = self.traits.worst, self.traits.traits[self.traits.worst]
            what = "missing" if worst in self.traits.required else "seen"
            what = "not true of" if worst == "one head" else f"{what} in"
            return (
                f"{worst} is {what} {trait.violated or 0:.0%} of the pictures; {what}"
                f" {trait.references:.0%} of the references"
            )
        if axis in ("responsiveness", "entanglement", "override"):
            found = self._told(axis, LEFT_OUT)
            left = found.left_out if found else {}
            return "; ".join(f"{name} is left out: {why}" for name, why in left.items())
        return ""

    @cached_property
    def style_pull(self) -> StylePull | None:
        return self._told("style", STYLE_PULL)

    @cached_property
    def hue_gain(self) -> HueGain | None:
        return self._told("colour_area", HUE_GAIN)

    @cached_property
    def entangled(self) -> Entangled | None:
        return self._told("entanglement", ENTANGLED)

    @cached_property
    def near_copies(self) -> NearCopies | None:
        return self._told("memorisation", NEAR_COPIES)

    def _told(self, axis: str, adapter: TypeAdapter[T]) -> T | None:
        return adapter.validate_python(self.details[axis]) if axis in self.details else None


@dataclass(frozen=True, slots=True)
class ObserverRecord:
    """A model that looked at the pictures: where it is from, and its licence as declared."""

    named: Annotated[str, Field(alias="from")]
    licence: str | None


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: every number was measured under its one plan.

    `controls`: arm → the base; `schema`: the form of the file it was read from, 0 without a number;
    `shared` is what the rows of a joint axis are read with; `checks`: what the observers showed on
    pictures with known content, before they judged; `questions` are the axes, and `against`
    the models to compare with (none: all), that were declared before looking. A second look has
    the `first` one, whose open questions are its axes.
    """

    signature: str
    plan: EvaluationPlan
    axes: Mapping[str, Axis]
    observers: Mapping[str, Sequence[ObserverRecord]]
    models: Sequence[EvaluatedModel]
    controls: Mapping[str, EvaluatedModel]
    schema: int = SCHEMA
    shared: SharedTables = field(default_factory=dict)
    checks: Mapping[str, ObserverCheck] = field(default_factory=dict)
    questions: Sequence[str] = QUESTIONS
    against: Sequence[str] = ()
    first: FirstLook | None = None

    @property
    def look(self) -> int:
        """1, or 2 for a second look at the same models."""
        return 1 if self.first is None else 2

    @property
    def names(self) -> list[str]:
        """The names of its models, in order."""
        return [model.name for model in self.models]

    def model(self, name: str) -> EvaluatedModel:
        """A model by its name. Raises InputError when it was not measured."""
        for model in self.models:
            if model.name == name:
                return model
        raise InputError(
            "model", name, f"was not measured; the evaluation has {', '.join(self.names)}"
        )


@cache
def _adapter() -> TypeAdapter[Evaluation]:
    """Built when an evaluation is read: it takes a tenth of a second."""
    return TypeAdapter(Evaluation)


def read_evaluation(path: Path) -> Evaluation:
    """An evaluation of this project. Raises StateError naming the file and the damaged field."""
    try:
        return evaluation_of(read_json(path))
    except InputError as error:
        raise StateError(path, f"is damaged: {error}") from error


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write evaluation.json."""
    write_json(path, as_json(evaluation))


def evaluation_of(table: object) -> Evaluation:
    """An evaluation from JSON values that anyone may have written. Raises InputError naming the
    field."""
    if not isinstance(table, dict):
        raise InputError("evaluation", type(table).__name__, "is no table; restore the file")
    number = table.get("schema", 0)
    if type(number) is not int or not 0 <= number <= SCHEMA:
        raise InputError("evaluation.schema", number, f"this onmodel reads forms up to {SCHEMA}")
    try:
        table = table if number else as_schema_1(table)
        table = table if number >= 4 else with_margins(table)
        controls = {arm: {"name": arm, **row} for arm, row in table["controls"].items()}
        found = _adapter().validate_python({**table, "controls": controls, "schema": number})
    except ValidationError as error:
        raise _without_tags(InputError.of(error, "evaluation")) from error
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise InputError("evaluation", str(error), "is missing or of another kind") from error
    for field_name, value, fault in _faults(found):
        raise InputError(f"evaluation.{field_name}", value, fault)
    return found


def _without_tags(error: InputError) -> InputError:
    parts = [part for part in error.field.split(".") if part not in (SCORE, NONE)]
    return InputError(".".join(parts), error.value, error.remedy)


def as_json(evaluation: Evaluation) -> dict[str, object]:
    """The values of the file, in its order."""
    return {
        "schema": SCHEMA,
        "signature": evaluation.signature,
        "plan": asdict(evaluation.plan),
        "axes": {id: axis.as_dict() for id, axis in evaluation.axes.items()},
        "observers": {name: _records(found) for name, found in evaluation.observers.items()},
        "checks": {name: asdict(check) for name, check in evaluation.checks.items()},
        "questions": list(evaluation.questions),
        "against": list(evaluation.against),
        "first": None if evaluation.first is None else asdict(evaluation.first),
        "shared": evaluation.shared,
        "models": [_model_json(model) for model in evaluation.models],
        "controls": {arm: _measured_json(row) for arm, row in evaluation.controls.items()},
    }


def _records(observers: Sequence[ObserverRecord]) -> list[dict[str, str | None]]:
    return [{"from": one.named, "licence": one.licence} for one in observers]


def scores_json(scores: Mapping[str, AnyScore]) -> dict[str, dict[str, object]]:
    """Axis → score as JSON values."""
    return {axis: asdict(score) for axis, score in scores.items()}


def _model_json(model: EvaluatedModel) -> dict[str, object]:
    keys = ("name", "epoch", "sha256", "trigger")
    row = {key: getattr(model, key) for key in keys} | _measured_json(model)
    if model.negative:
        effect = {axis: asdict(one) for axis, one in model.negative.effect.items()}
        row["negative"] = {"effect": effect, "without": scores_json(model.negative.without)}
    return row


def _measured_json(model: EvaluatedModel) -> dict[str, object]:
    return {
        "axes": scores_json(model.axes),
        "per_prompt": model.per_prompt,
        "rows": model.rows,
        "details": model.details,
        "answers": model.answers,
        "pictures": model.pictures,
    }


def _faults(evaluation: Evaluation) -> Iterator[tuple[str, object, str]]:
    """Field, value and fault of everything that contradicts the plan or the list of axes."""
    prompts = {prompt.id: prompt for prompt in evaluation.plan.prompts}
    seeds = len(evaluation.plan.seeds)
    if len(set(evaluation.names)) < len(evaluation.models):
        yield "models", ", ".join(evaluation.names), "two models have one name"
    for id, axis in evaluation.axes.items():
        if axis.id != id:
            yield f"axes.{id}.id", axis.id, "is the record of another axis"
        if not 0 < axis.fault < math.inf:
            yield f"axes.{id}.fault", axis.fault, "must be above 0"
    for model in (*evaluation.models, *evaluation.controls.values()):
        where = f"models.{model.name}"
        for axis_id in (*model.axes, *model.per_prompt):
            if axis_id not in evaluation.axes:
                yield f"{where}.axes", axis_id, "is no axis of this evaluation"
        for id, values in model.per_prompt.items():
            if unknown := sorted(set(values) - set(prompts)):
                yield f"{where}.per_prompt.{id}", unknown[0], "is no prompt of the plan"
        for id, rows in model.rows.items():
            if id not in evaluation.axes or id not in evaluation.shared:
                yield f"{where}.rows", id, "is no joint axis of this evaluation"
            elif len(rows) != len(prompts) or len({len(row) for row in rows}) != 1:
                yield f"{where}.rows.{id}", len(rows), "needs one row of equal length per prompt"
        for id, answer in model.answers.items():
            if id not in prompts or not set(answer) <= set(prompts[id].asked):
                yield f"{where}.answers", id, "answers what the plan does not ask"
        for arm, files in model.pictures.items():
            for id, names in files.items():
                if id not in prompts or len(names) != seeds:
                    yield f"{where}.pictures.{arm}", id, f"needs {seeds} pictures of a prompt"
        if model.negative and not set(model.negative.effect) <= set(model.negative.without):
            yield f"{where}.negative.without", "", "lacks an axis that has an effect"
