"""evaluate: generate the same prompts with every model and its controls, measure every axis, write
evaluation.json.

Made under one frozen plan, so its numbers may be compared with each other. The evaluated LoRA files
and the pictures lie in the artifact too (as links), so that a select stage needs nothing else.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from onmodel.character import Character
from onmodel.errors import InputError
from onmodel.evaluate.assess import (
    Assessed,
    Assessor,
    Design,
    load_training,
    shared_tables,
)
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.compare import first_look
from onmodel.evaluate.early_stop import EarlyStop
from onmodel.evaluate.evaluation import (
    FILE,
    QUESTIONS,
    EvaluatedModel,
    Evaluation,
    NegativePrompt,
    ObserverRecord,
    read_evaluation,
    write_evaluation,
)
from onmodel.evaluate.first_look import FirstLook
from onmodel.evaluate.negative import negative_effect
from onmodel.evaluate.second_look import SUITE, WHOLE, further_prompts, of_open_questions
from onmodel.hashing import hash_json, sha256_file, write_json
from onmodel.ledger.lineage import add, root
from onmodel.lora import header
from onmodel.policy import check_text
from onmodel.records import Artifact, Model
from onmodel.sample.pictures import PictureOrder, cached
from onmodel.sample.suites import SUITES, Prompt, SuiteName, suite, vocabulary_of
from onmodel.stages.assessing import floors, make_assessor
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    keep_file,
    write_models,
)
from onmodel.stages.generating import MOST_SEEDS, PROMPTED, Generating
from onmodel.weights import WeightsFile

JUDGED = (*PROMPTED, "palette", "required", "forbidden", "severity")  # what axes look at
MAKES: Kind = "evaluation"
READS = Reads("evaluate", sheet=JUDGED, head=("seed", "threads"), axes=True)


class Settings(Generating):
    """The settings of an evaluate stage."""

    do: Literal["evaluate"]
    more_of: str | None = Field(
        default=None,
        description=(
            "Evaluate stage whose open questions get more prompts; every other setting is that"
            " stage's. Unset: a first look."
        ),
    )
    models: list[str] = Field(
        min_length=1, description='Models, e.g. "release_2@*" for all checkpoints of a stage.'
    )
    suite: SuiteName = Field(default="choose", description="Set of prompts.")
    prompts: int | None = Field(
        default=None,
        ge=2,
        description="Only so many prompts of the suite, its first ones. Unset: all.",
    )
    stop_early: EarlyStop | None = Field(
        default=None,
        description="Set by an experiment: which models a first look leaves. Unset: all.",
    )
    seeds: int = Field(default=2, ge=1, le=MOST_SEEDS, description="Pictures per prompt and arm.")
    triggers: dict[str, str] = Field(
        default_factory=dict,
        description=("Model to the trigger word it was trained with. Unset: the sheet's trigger."),
    )
    training: tuple[str, ...] = Field(
        default=(),
        description=(
            "Curate stages that the models were trained on; memorisation is measured against them."
        ),
    )
    floors: bool = Field(
        default=False,
        description=(
            "Also measure the base under other noise and a random LoRA of the first model's "
            "strength."
        ),
    )
    questions: tuple[str, ...] = Field(
        default=QUESTIONS,
        min_length=1,
        description=(
            "Axes that are tested as one family over all compared pairs. The others are marked"
            " exploratory."
        ),
    )
    against: tuple[str, ...] = Field(
        default=(),
        description=(
            "Models, or stages for all of their models, to compare the shown one with, e.g. the"
            " last release and each parent. The questions are one family over these pairs."
            " Empty: all models."
        ),
    )
    negatives: bool = Field(
        default=False, description="Also measure every model without the negative prompt."
    )

    @field_validator("questions")
    @classmethod
    def _axes(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in AXES:
                near = "".join(f"; did you mean {one}?" for one in get_close_matches(name, AXES, 1))
                raise ValueError(f"{name} is no axis{near}")
        return names

    @property
    def asked(self) -> int:
        """How many prompts are asked."""
        return len(SUITES[self.suite]) if self.prompts is None else self.prompts

    def chosen_prompts(self, character: Character, base_name: str) -> list[Prompt]:
        """The prompts that are asked."""
        return suite(self.suite, character, vocabulary_of(base_name))[: self.asked]

    def named_stages(self) -> list[NamedStage]:
        models = [NamedStage("models", name, "models") for name in self.models]
        training = [NamedStage("training", name, "dataset") for name in self.training]
        looks = {
            "more_of": self.more_of,
            "stop_early.stage": self.stop_early and self.stop_early.stage,
        }
        first = [NamedStage(field, name, "evaluation") for field, name in looks.items() if name]
        return [*first, *models, *super().named_stages(), *training]

    def check(self, base_name: str, character: Character) -> None:
        if self.asked > len(SUITES[self.suite]):
            remedy = f'suite "{self.suite}" has {len(SUITES[self.suite])}'
            raise InputError("prompts", self.asked, remedy)
        if self.more_of is None:
            return
        if self.suite != SUITE:
            remedy = f'uses suite "{self.suite}"; only suite "{SUITE}" has further prompts'
            raise InputError("more_of", self.more_of, remedy)
        suite(WHOLE, character, vocabulary_of(base_name))


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Pictures: prompts × seeds × (three arms of the base + two of every model), and those of
    floors and negatives."""
    names = names_of(settings.models, before)
    count = sum(named(reference, before) for reference in settings.models)
    models = count if names is None else len(names)
    measured = 0  # prompts that a first look has drawn already
    if settings.stop_early is not None:
        names, measured = None, settings.stop_early.prompts
        models -= settings.stop_early.stopped
    for name in settings.triggers:
        if names is not None and name not in names:
            raise InputError("triggers", name, f"no such model; there are {', '.join(names)}")
    if names is not None:
        declared(settings.against, names, "against")
    if settings.more_of is not None:  # at most; floors and negatives are not measured again
        prompts, arms = len(SUITES[WHOLE]) - len(SUITES[SUITE]), 3 + 2 * models
    else:
        prompts = settings.asked - measured
        arms = (3 + 2 * models) * (1 + settings.negatives) + 3 * settings.floors
    pictures = prompts * settings.seeds * arms
    drawn = settings.sampling.drawn(pictures)
    missing = settings.missing
    return Plan(pictures=pictures, models=models, names=names, drawn=drawn, missing=missing)


def declared(against: Sequence[str], names: Sequence[str], field: str) -> list[str]:
    """The models that `against` names, themselves or by their stage, each once. Raises InputError
    for one that is not measured."""
    found: dict[str, None] = {}
    for wanted in against:
        own = [name for name in names if wanted in (name, name.partition("@")[0])]
        if not own:
            raise InputError(field, wanted, f"no such model; there are {', '.join(names)}")
        found.update(dict.fromkeys(own))
    return list(found)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Measure the models. Raises InputError for references that hold nothing out, observers that do
    not load, or a trigger for a model that is not there."""
    with settings.computing(context) as context:
        return _run(inputs, settings, context)


def _run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    models = _models(inputs, settings)
    names = [model.name for model in models]
    for name, word in settings.triggers.items():
        if name not in names:
            raise InputError(
                f"stages.{context.name}.triggers",
                name,
                f"no such model; there are {', '.join(names)}",
            )
        if not word.strip():
            raise InputError(
                f"stages.{context.name}.triggers.{name}",
                "empty",
                "write the word it was trained with",
            )
    against = declared(settings.against, names, f"stages.{context.name}.against")
    first = None
    if settings.more_of is not None:
        before = read_evaluation(inputs.artifact(settings.more_of).path / FILE)
        first = first_look(settings.more_of, before)
        if not first.open:
            return _nothing_open(first, inputs, settings, context)
    assessor = make_assessor(
        inputs, settings, settings.suite, settings.seeds, context, settings.prompts
    )
    assessor = replace(assessor, triggers=settings.triggers)
    if settings.training:
        datasets = {root(inputs.lineage(name)): inputs.artifact(name) for name in settings.training}
        learnt = {model.name: own for model in models if (own := _learnt(model, datasets))}
        training = load_training(
            datasets,
            assessor.observers,
            context.character.palette,
            assessor.cache,
            context.events,
        )
        assessor = replace(assessor, training=training, learnt=learnt)
    if first is not None:
        assessor = _with_more(assessor, first, models, context)
    found, controls = assessor.assess(models)
    if settings.floors and first is None:
        controls |= floors(assessor, models[0], context)
    rows = []
    for model, assessed in zip(models, found, strict=True):
        row = _row(assessed, model.name, assessor, context.out)
        trigger = settings.triggers.get(model.name, context.character.trigger)
        rows.append(replace(row, epoch=model.epoch, sha256=model.sha256, trigger=trigger))
    if settings.negatives and first is None:
        rows = _with_negatives(rows, models, found, assessor)
    evaluation = Evaluation(
        signature=assessor.signature,
        plan=assessor.plan,
        axes={id: axis for id, (axis, _) in AXES.items()},
        observers={
            name: [ObserverRecord(source.named, source.licence) for source in sources]
            for name, sources in assessor.observers.sources.items()
        },
        models=rows,
        checks=controls["D"].checks,
        controls={
            arm: _row(control, arm, assessor, context.out) for arm, control in controls.items()
        },
        shared=shared_tables([*found, *controls.values()]),
        questions=settings.questions,
        against=against,
    )
    if first is not None:
        evaluation = of_open_questions(evaluation, first)
    write_evaluation(context.out / FILE, evaluation)
    for model in models:
        keep_file(model.path, context.out / _file(model))
    write_models(context.out, [(model.name, model.epoch, _file(model)) for model in models])
    parents = [
        context.recipe(READS),
        *(inputs.lineage(reference) for reference in settings.needs()),
    ]
    facts = {
        "signature": assessor.signature,
        "plan_sha256": hash_json(asdict(assessor.plan)),
        "models": [model.sha256 for model in models],
        "settings": settings.told(),
        "evaluation_sha256": sha256_file(context.out / FILE),
    }
    return context.commit("evaluation", add(parents, "evaluation", name=context.name, **facts))


def drawings(inputs: Inputs, settings: Settings, context: Context) -> list[PictureOrder]:
    """The pictures that the stage will request, without those of `floors`: for the base and for
    each model those of every prompt."""
    models, character = _models(inputs, settings), context.character
    prompts = settings.chosen_prompts(character, context.base_name)
    first = Design(
        character=character,
        suite=settings.suite,
        prompts=prompts,
        seeds=settings.seeds,
        triggers=settings.triggers,
    )
    designs = [first]
    if settings.more_of is not None:
        before = read_evaluation(inputs.artifact(settings.more_of).path / FILE)
        look = first_look(settings.more_of, before)
        if not look.open:
            return []
        whole = suite(WHOLE, character, vocabulary_of(context.base_name))
        designs.append(replace(first, prompts=further_prompts(whole, look)))
    elif settings.negatives:
        designs.append(replace(first, prompts=without_negatives(prompts)))
    return [
        PictureOrder(design.requests(model), settings.sampling, settings.modes)
        for design in designs
        for model in (None, *models)
    ]


def _models(inputs: Inputs, settings: Settings) -> list[Model]:
    """The models that are measured: all, or those that a first look leaves."""
    models = inputs.models(settings.models)
    if settings.stop_early is None:
        return models
    first = read_evaluation(inputs.artifact(settings.stop_early.stage).path / FILE)
    stay = settings.stop_early.going_on(first)
    return [model for model in models if model.name.partition("@")[0] in stay]


def without_negatives(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts with an empty negative prompt."""
    return [replace(prompt, negative="") for prompt in prompts]


def _nothing_open(
    first: FirstLook, inputs: Inputs, settings: Settings, context: Context
) -> Artifact:
    """The artifact of a second look that has nothing to look at: no picture, no evaluation."""
    context.events.note(f"no question of {first.stage} is open: nothing more is measured")
    write_json(context.out / "open.json", [])
    parents = [context.recipe(READS), inputs.lineage(first.stage)]
    facts = {"signature": first.signature, "settings": settings.told(), "models": []}
    return context.commit("evaluation", add(parents, "evaluation", name=context.name, **facts))


def _with_more(
    assessor: Assessor, first: FirstLook, models: Sequence[Model], context: Context
) -> Assessor:
    """The plan with the prompts that are added, after generating their pictures and saying what
    that cost. The suite keeps its name, so the first prompts keep their noise and pictures."""
    further = further_prompts(suite(WHOLE, context.character, assessor.vocabulary), first)
    for prompt in further:
        for arm, text in prompt.text.items():
            check_text(text, f"prompt {prompt.id}, arm {arm}")
    assessor.draw(models)
    known, started = len(cached(context.pictures)), time.monotonic()
    replace(assessor, prompts=further).draw(models)
    made = len(cached(context.pictures)) - known
    context.events.note(
        f"open in {first.stage}: {', '.join(first.open)}; {len(further)} more prompts, {made} new"
        f" pictures in {time.monotonic() - started:.0f} s"
    )
    return replace(assessor, prompts=[*assessor.prompts, *further])


def _learnt(model: Model, datasets: Collection[str]) -> list[str]:
    """Which of the data sets (roots of their histories) the model's weights, or those they come
    from, were trained on.

    A data set of pictures that an older model made is no way back to what that one was trained on.
    """
    with WeightsFile(model.path, model.name) as file:
        lineage = header.lineage_of(file.metadata, model.sha256)
    seen, todo = set(), [root(lineage)]
    while todo:
        id = todo.pop()
        if id not in seen:
            seen.add(id)
            todo += lineage[id]["used"] if lineage[id]["type"] != "dataset" else []
    return [id for id in datasets if id in seen]


def _row(found: Assessed, name: str, assessor: Assessor, out: Path) -> EvaluatedModel:
    """What the evaluation says of a model or control; its pictures are put beside it."""
    pictures: dict[str, dict[str, list[str]]] = {}
    for letter, rows in found.pictures.items():
        pictures[letter] = {}
        for prompt, paths in zip(assessor.prompts, rows, strict=True):
            pictures[letter][prompt.id] = [f"pictures/{path.name}" for path in paths]
            for path in paths:
                keep_file(path, out / "pictures" / path.name)
    return replace(found.row(name, None, assessor.signature), pictures=pictures)


def _with_negatives(
    rows: Sequence[EvaluatedModel],
    models: Sequence[Model],
    found: Sequence[Assessed],
    assessor: Assessor,
) -> list[EvaluatedModel]:
    """The rows with what their negative prompt does, after measuring without it."""
    bare = replace(assessor, prompts=without_negatives(assessor.prompts))
    return [
        replace(
            row,
            negative=NegativePrompt(negative_effect(on.axes, off.axes), off.scores(bare.signature)),
        )
        for row, on, off in zip(rows, found, bare.assess(models)[0], strict=True)
    ]


def named(reference: str, before: Mapping[str, Plan]) -> int:
    """How many models a reference will name: of what trained, one checkpoint unless all are asked
    for."""
    stage, _, which = reference.partition("@")
    trained = before[stage].steps > 0
    return 1 if which != "*" and (which or trained) else before[stage].models


def names_of(references: Sequence[str], before: Mapping[str, Plan]) -> list[str] | None:
    """The names of the models that references will name, each once; None where they are known only
    when they are made."""
    found: dict[str, None] = {}
    for reference in references:
        stage, _, which = reference.partition("@")
        names = before[stage].names
        if names is None:
            return None
        if which == "*":
            found.update(dict.fromkeys(names))
        else:
            found[f"{stage}@{which}" if which else names[-1]] = None
    return list(found)


def _file(model: Model) -> str:
    return f"models/{model.sha256}.safetensors"
