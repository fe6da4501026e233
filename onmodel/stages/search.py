"""search: a merge whose weights are found by measuring, and which is made only if fresh prompts say
that it is better.

Every merge is measured on the prompts of suite "choose", under the same noise: first each model
alone, their mean and the mean of late checkpoints, then what a Gaussian process over the weights
proposes (evaluate/weight_search.py); a third of the measurements repeat a merge under other noise.
What is lowered is the bias of the select stage's rule plus the faults by which bounds are missed.
Merges are measured as exact sums; the best one and the uniform mean are then brought to `rank` and
compared with the best model alone on the fresh prompts of suite "check". Of these three the
earliest is taken that cannot be told from the best: a merge that is not clearly better is not made,
and the model is kept as it is.

Makes what a merge stage makes, or keeps one file as a select stage does; and with it `search.json`
(all measurements) and `selection.json` (the decision).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from onmodel.dataset.rules import MOST_WEIGHT
from onmodel.errors import InputError
from onmodel.evaluate.assess import Assessor
from onmodel.evaluate.choice import (
    CHOICE,
    SEARCH,
    Choice,
    SearchedModel,
    SearchRecord,
    SearchTrial,
)
from onmodel.evaluate.evaluation import EvaluatedModel
from onmodel.evaluate.selection import RULE, Constraints, objective, select
from onmodel.evaluate.weight_search import (
    BLOCKS,
    Posterior,
    SearchStep,
    Trial,
    Weights,
    is_single,
    next_step,
    starts,
)
from onmodel.families.protocol import FamilySpec
from onmodel.hashing import write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora.factors import cosines
from onmodel.lora.merge_files import merge_draft
from onmodel.lora.merge_job import (
    MergeJob,
    MergeSize,
    inner_products,
    open_sources,
    rounded,
    rounded_rows,
)
from onmodel.lora.methods import choose
from onmodel.records import Artifact, Model
from onmodel.sample.suites import SUITES, SuiteName
from onmodel.stages import merge
from onmodel.stages.assessing import make_assessor
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    keep_models,
)
from onmodel.stages.evaluate import JUDGED, named
from onmodel.stages.generating import MOST_SEEDS, Generating
from onmodel.stages.select import Bounded, say
from onmodel.train.options import LARGEST_RANK

MAKES: Kind = "selection"
READS = Reads("search", sheet=JUDGED, head=("seed", "threads"), axes=True)
SEARCHED: SuiteName = "choose"
FRESH: SuiteName = "check"
UNIFORM = "uniform_mean"
OBJECTIVE = f"{RULE.partition(';')[0]}; plus the faults by which bounds are missed; lower is better"


class Settings(Generating, Bounded):
    """The settings of a search stage. Weights found are 0 or more and sum to 1."""

    do: Literal["search"]
    models: str | list[str] = Field(description="Models to merge, or a select stage.")
    evaluations: int = Field(
        default=32,
        ge=1,
        le=10_000,
        description="Number of measurements, each of all prompts × seeds.",
    )
    seeds: int = Field(default=2, ge=1, le=MOST_SEEDS, description="Pictures per prompt.")
    rank: Annotated[int, Field(ge=1, le=LARGEST_RANK)] | None = Field(
        default=None, description="Rank of the result. Unset: the exact sum."
    )
    alpha: Literal["from-parent"] | Annotated[float, Field(gt=0, le=MOST_WEIGHT)] = Field(
        default="from-parent", description="Alpha in the header, as in a merge stage."
    )

    @property
    def candidates(self) -> list[str]:
        """The references of the models."""
        return [self.models] if isinstance(self.models, str) else self.models

    @property
    def constraints(self) -> Constraints:
        return Constraints(1, self.at_least, self.at_most)

    def named_stages(self) -> list[NamedStage]:
        models = [NamedStage("models", name, "models") for name in self.candidates]
        return [*models, *super().named_stages()]


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Pictures of all measurements and of the check. Raises InputError when there are too few of
    the first."""
    models = sum(named(reference, before) for reference in settings.candidates)
    _check_enough(settings, models + 2)
    searched = len(SUITES[SEARCHED]) * (2 * settings.evaluations + 3 * BLOCKS)
    checked = len(SUITES[FRESH]) * (2 * 3 + 3)
    pictures = settings.seeds * (searched + checked)
    drawn = settings.sampling.drawn(pictures)
    return Plan(pictures=pictures, models=1, drawn=drawn, missing=settings.missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Search, check, and make or keep. Killed and started again it goes the same way over the
    pictures that are there.

    Raises InputError when there are fewer than two models or a bounded axis is not measured.
    """
    with settings.computing(context) as context:
        return _run(inputs, settings, context)


def _run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    models = inputs.models(settings.candidates)
    if len(models) < 2:
        raise InputError(
            f"stages.{context.name}.models",
            ", ".join(m.name for m in models),
            "name at least two models",
        )
    past = [inputs.lineage(reference) for reference in settings.needs()]
    merger = Merger(models, settings, context)
    assessor = make_assessor(inputs, settings, SEARCHED, settings.seeds, context)
    steps, rows = _measure_merges(merger, assessor)
    trials = _trials(steps, rows, settings)
    fitted = Posterior(merger.gram, trials)
    found = fitted.best([step.weights for step in steps if not is_single(step.weights)])
    alone = fitted.best([step.weights for step in steps if is_single(step.weights)])

    finalists = {merger.words(alone): alone, UNIFORM: merger.uniform, context.name: found}
    if found == merger.uniform:
        del finalists[context.name]
    fresh = make_assessor(inputs, settings, FRESH, settings.seeds, context)
    checked = [
        _row(name, merger.model(weights, settings.rank), fresh)
        for name, weights in finalists.items()
    ]
    decision = select(checked, settings.constraints, context.seed)
    say(decision, context)
    taken = finalists[decision.chosen[0]]

    expected = fitted.mean([step.weights for step in steps])
    record = SearchRecord(
        models=[SearchedModel(model.name, model.sha256) for model in models],
        trials=[
            SearchTrial(list(step.weights), step.block, step.why, round(trial.value, 6))
            for step, trial in zip(steps, trials, strict=True)
        ],
        noise=round(fitted.noise, 6),
        found=list(found),
        taken=list(taken),
        signature=assessor.signature,
        check=fresh.signature,
        objective=OBJECTIVE,
        expected=[round(float(value), 6) for value in expected],
        axes=[_values(row) for row in rows],
    )
    write_json(context.out / SEARCH, asdict(record))
    choice = Choice.of(decision, fresh.signature, settings.constraints)
    write_json(context.out / CHOICE, choice.as_json())
    lineage = add(past, "search", name=context.name, settings=settings.told(), **record.facts())
    return (
        merger.keep(taken, lineage)
        if is_single(taken)
        else merger.merge(taken, settings.rank, lineage)
    )


@dataclass(frozen=True)
class Merger:
    """Makes merges of the models: drafts to measure, and the result."""

    models: Sequence[Model]
    settings: Settings
    context: Context

    @property
    def uniform(self) -> Weights:
        return (1 / len(self.models),) * len(self.models)

    @cached_property
    def gram(self) -> np.ndarray:
        """The inner products [K, K] of the models' ΔW, from numbers of 6 decimals: their last bits
        differ between machines and must not decide what is measured next."""
        with open_sources(self._files(self.uniform), self._spec) as sources:
            blend = choose([model.name for model in self.models], self._spec)
            inner = inner_products(MergeJob(sources, blend, self._spec))
        lengths = np.array([rounded(length) for length in np.sqrt(np.diag(inner).clip(0))])
        return np.outer(lengths, lengths) * np.array(rounded_rows(cosines(inner)))

    def model(self, weights: Weights, rank: int | None) -> Model:
        """The file of a merge, until the next one is asked for; a model alone is its own file."""
        if is_single(weights):
            return self.models[weights.index(1)]
        path = self.context.scratch / "draft.safetensors"
        files = self._files(weights)
        with open_sources(files, self._spec) as sources:
            blend = choose(
                [name for name, _ in files], self._spec, weights=[w for w in weights if w]
            )
            job = MergeJob(sources, blend, self._spec, MergeSize(rank), self.settings.alpha)
            merge_draft(path, job, self.context.events)
        return Model.of(self.context.name, path)

    def merge(self, weights: Weights, rank: int | None, history: Lineage) -> Artifact:
        """The artifact of a merge stage for the models whose weight is not 0."""
        table = {
            "do": "merge",
            "models": self.context.name,
            "weights": [weight for weight in weights if weight],
            "rank": rank,
            "alpha": self.settings.alpha,
        }
        models = [model for model, weight in zip(self.models, weights, strict=True) if weight]
        return merge.make(models, merge.Settings.model_validate(table), [history], self.context)

    def keep(self, weights: Weights, history: Lineage) -> Artifact:
        """The artifact of a select stage that chose one of the models."""
        keep_models(self.context.out, [self.models[weights.index(1)]])
        return self.context.commit("selection", history)

    def words(self, weights: Weights) -> str:
        """ "0.3 release_2@10 + 0.7 release_2@20", or a model's name alone."""
        if is_single(weights):
            return self.models[weights.index(1)].name
        parts = zip(self.models, weights, strict=True)
        return " + ".join(f"{weight:.2g} {model.name}" for model, weight in parts if weight)

    @property
    def _spec(self) -> FamilySpec:
        return self.context.family().spec

    def _files(self, weights: Weights) -> list[tuple[str, Path]]:
        """Name and path of the models whose weight is not 0."""
        parts = zip(self.models, weights, strict=True)
        return [(model.name, model.path) for model, weight in parts if weight]


def _measure_merges(
    merger: Merger, assessor: Assessor
) -> tuple[list[SearchStep], list[EvaluatedModel]]:
    """What was measured, step by step, and what was found."""
    settings, context = merger.settings, merger.context
    first = starts([(model.name.partition("@")[0], model.epoch) for model in merger.models])
    _check_enough(settings, len(first))
    steps: list[SearchStep] = []
    rows: list[EvaluatedModel] = []
    for number in range(1, settings.evaluations + 1):
        step = next_step(merger.gram, _trials(steps, rows, settings), first, context.seed)
        block = replace(assessor, first_seed=step.block * settings.seeds)
        rows.append(_row(f"{context.name}#{number}", merger.model(step.weights, None), block))
        steps.append(step)
        value = objective(rows, settings.constraints)[-1]
        words = merger.words(step.weights)
        context.events.row(
            "trials",
            f"{number} of {settings.evaluations}, {step.why}: {value:.3f} for {words}",
            trial=number,
            why=step.why,
            objective=float(value),
            merge=words,
        )
    return steps, rows


def _row(name: str, model: Model, assessor: Assessor) -> EvaluatedModel:
    """What an evaluation says of a model, without its pictures."""
    (found,), _ = assessor.assess([model])
    return found.row(name, model.epoch, assessor.signature)


def _values(row: EvaluatedModel) -> dict[str, float | None]:
    """Axis → value, None where there is none."""
    return {id: score.value if (score := row.score(id)) else None for id in row.axes}


def _trials(
    steps: Sequence[SearchStep], rows: Sequence[EvaluatedModel], settings: Settings
) -> list[Trial]:
    """All rows on one scale: that of the axes which every row has."""
    values = objective(rows, settings.constraints) if rows else np.empty(0)
    return [
        Trial(step.weights, step.block, float(value))
        for step, value in zip(steps, values, strict=True)
    ]


def _check_enough(settings: Settings, first: int) -> None:
    if settings.evaluations <= first:
        raise InputError(
            "evaluations", settings.evaluations, f"the search begins with {first}; give it 24 to 48"
        )
