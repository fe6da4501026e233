"""search: a merge whose weights are found by measuring, and which is made only if fresh prompts say
that it is better.

Every merge is measured on the prompts of suite "choose", under the same noise: first each model
alone, their mean and the mean of late checkpoints, then what a Gaussian process over the weights
proposes (lora/search.py); a third of the measurements repeat a merge under other noise. What is
lowered is the bias of the select stage's rule plus the faults by which bounds are missed. Merges
are measured as exact sums; the best one and the uniform mean are then brought to `rank` and
compared with the best model alone on the fresh prompts of suite "check". Of these three the
earliest is taken that cannot be told from the best: a merge that is not clearly better is not made,
and the model is kept as it is.

Makes what a merge stage makes, or keeps one file as a select stage does; and with it `search.json`
(all measurements) and `selection.json` (the decision).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from onmodel.dataset.rules import MOST_WEIGHT
from onmodel.errors import InputError
from onmodel.evaluate.assess import Assessor
from onmodel.evaluate.axes import Result
from onmodel.evaluate.selection import RULE, Wishes, objective, select
from onmodel.hashing import read_json, write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora.search import (
    BLOCKS,
    Posterior,
    Step,
    Trial,
    Weights,
    is_single,
    next_step,
    starts,
)
from onmodel.records import Artifact, Model
from onmodel.sample.suites import SUITES, SuiteName
from onmodel.stages import merge
from onmodel.stages.base import Context, Inputs, Plan, Reads, keep_file, write_models
from onmodel.stages.evaluate import JUDGED, make_assessor, named
from onmodel.stages.sample import MOST_SEEDS, Generating
from onmodel.stages.select import Bounded, report, say
from onmodel.train.options import LARGEST_RANK

READS = Reads("search", sheet=JUDGED, head=("seed", "threads"), axes=True)
SEARCHED: SuiteName = "choose"
FRESH: SuiteName = "check"
UNIFORM = "uniform_mean"
OBJECTIVE = f"{RULE.partition(';')[0]}; plus the faults by which bounds are missed; lower is better"


class Settings(Generating, Bounded):
    """`models` are the candidates; `rank` and `alpha` are those of the result, as in a merge stage.

    `evaluations` are measurements, each of all prompts × `seeds`. Bounds by axis, on intervals.
    Weights are 0 or more and sum to 1.
    """

    do: Literal["search"]
    models: str | list[str]
    evaluations: int = Field(32, ge=1, le=10_000)
    seeds: int = Field(2, ge=1, le=MOST_SEEDS)
    rank: Annotated[int, Field(ge=1, le=LARGEST_RANK)] | None = None
    alpha: Literal["from-parent"] | Annotated[float, Field(gt=0, le=MOST_WEIGHT)] = "from-parent"

    @property
    def candidates(self) -> list[str]:
        """The references of the models."""
        return [self.models] if isinstance(self.models, str) else self.models

    @property
    def wishes(self) -> Wishes:
        return Wishes(1, self.at_least, self.at_most)

    def needs(self) -> list[str]:
        return [*self.candidates, *super().needs()]


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Pictures of all measurements and of the check. Raises InputError when there are too few of
    the first."""
    models = sum(named(reference, before) for reference in settings.candidates)
    _check_enough(settings, models + 2)
    searched = len(SUITES[SEARCHED]) * (2 * settings.evaluations + 3 * BLOCKS)
    checked = len(SUITES[FRESH]) * (2 * 3 + 3)
    return Plan(pictures=settings.seeds * (searched + checked), models=1, missing=settings.missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Search, check, and make or keep. Killed and started again it goes the same way over the
    pictures that are there.

    Raises InputError when there are fewer than two models or a bounded axis is not measured.
    """
    models = inputs.models(settings.candidates)
    if len(models) < 2:
        raise InputError(
            f"stages.{context.name}.models",
            ", ".join(m.name for m in models),
            "name at least two models",
        )
    past = [inputs.lineage(reference) for reference in settings.needs()]
    merger = Merger(models, settings, context, add(past, "candidates", name=context.name))
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
    decision = select(checked, settings.wishes, context.seed)
    say(decision, context)
    taken = finalists[decision.chosen[0]]

    told: dict[str, Any] = {
        "models": [{"name": model.name, "sha256": model.sha256} for model in models],
        "trials": [
            {
                "weights": list(step.weights),
                "block": step.block,
                "why": step.why,
                "value": round(trial.value, 6),
            }
            for step, trial in zip(steps, trials, strict=True)
        ],
        "noise": round(fitted.noise, 6),
        "found": list(found),
        "taken": list(taken),
        "signature": assessor.plan.signature(),
        "check": fresh.plan.signature(),
    }
    expected = [round(float(value), 6) for value in fitted.mean([step.weights for step in steps])]
    axes = [{id: score["value"] for id, score in row["axes"].items()} for row in rows]
    write_json(
        context.out / "search.json",
        {**told, "objective": OBJECTIVE, "expected": expected, "axes": axes},
    )
    write_json(context.out / "selection.json", report(decision, told["check"], settings.wishes))
    lineage = add(past, "search", name=context.name, settings=settings.told(), **told)
    return (
        merger.keep(taken, lineage)
        if is_single(taken)
        else merger.merge(taken, settings.rank, lineage, context)
    )


@dataclass
class Merger:
    """Makes merges of the models by the merge stage. `history` is what drafts are told to come
    from."""

    models: Sequence[Model]
    settings: Settings
    context: Context
    history: Lineage

    def __post_init__(self) -> None:
        self.uniform: Weights = (1 / len(self.models),) * len(self.models)
        found = read_json(self._draft(self.uniform, None).path / "merge.json")
        lengths = np.array([row["strength"] for row in found["models"]])
        self.gram = np.outer(lengths, lengths) * np.array(found["cosines"])

    def model(self, weights: Weights, rank: int | None) -> Model:
        """The file of a merge, until the next one is asked for; a model alone is its own file."""
        if is_single(weights):
            return self.models[weights.index(1)]
        return Inputs({"draft": self._draft(weights, rank)}).model("draft")

    def merge(
        self, weights: Weights, rank: int | None, history: Lineage, context: Context
    ) -> Artifact:
        """Run a merge stage on the models whose weight is not 0, as if a select stage had chosen
        them."""
        parts = [
            (model, weight) for model, weight in zip(self.models, weights, strict=True) if weight
        ]
        return merge.run_chosen(parts, history, context, rank=rank, alpha=self.settings.alpha)

    def keep(self, weights: Weights, history: Lineage) -> Artifact:
        """The artifact of a select stage that chose one of the models."""
        model = self.models[weights.index(1)]
        file = f"{model.sha256}.safetensors"
        keep_file(model.path, self.context.out / file)
        write_models(self.context.out, [(model.name, model.epoch, file)])
        return self.context.commit("selection", history)

    def words(self, weights: Weights) -> str:
        """ "0.3 release_2@10 + 0.7 release_2@20", or a model's name alone."""
        if is_single(weights):
            return self.models[weights.index(1)].name
        parts = zip(self.models, weights, strict=True)
        return " + ".join(f"{weight:.2g} {model.name}" for model, weight in parts if weight)

    def _draft(self, weights: Weights, rank: int | None) -> Artifact:
        """A merge that is no artifact: only one lies on the disk at a time."""
        scratch = self.context.scratch / "draft"
        shutil.rmtree(scratch, ignore_errors=True)
        context = replace(
            self.context,
            scratch=scratch,
            commit=lambda kind, lineage: Artifact(kind, "", scratch / "out"),
        )
        return self.merge(weights, rank, self.history, context)


def _measure_merges(merger: Merger, assessor: Assessor) -> tuple[list[Step], list[dict[str, Any]]]:
    """What was measured, step by step, and what was found."""
    settings, context = merger.settings, merger.context
    first = starts([(model.name.partition("@")[0], model.epoch) for model in merger.models])
    _check_enough(settings, len(first))
    steps: list[Step] = []
    rows: list[dict[str, Any]] = []
    for number in range(1, settings.evaluations + 1):
        step = next_step(merger.gram, _trials(steps, rows, settings), first, context.seed)
        block = replace(assessor, first_seed=step.block * settings.seeds)
        rows.append(_row(f"{context.name}#{number}", merger.model(step.weights, None), block))
        steps.append(step)
        value = objective(rows, settings.wishes)[-1]
        line = (
            f"  {number} of {settings.evaluations}, {step.why}: {value:.3f} for"
            f" {merger.words(step.weights)}"
        )
        context.progress.console.print(line, highlight=False, markup=False)
    return steps, rows


def _row(name: str, model: Model, assessor: Assessor) -> dict[str, Any]:
    """What evaluation.json would say of a model, but for its pictures."""
    (found,), _ = assessor.assess([model])
    results = {id: result for id, result in found.axes.items() if isinstance(result, Result)}
    return {
        "name": name,
        "epoch": model.epoch,
        "axes": found.scores(assessor.plan.signature()),
        "per_prompt": {id: result.per_prompt for id, result in results.items()},
    }


def _trials(
    steps: Sequence[Step], rows: Sequence[Mapping[str, Any]], settings: Settings
) -> list[Trial]:
    """All rows on one scale: that of the axes which every row has."""
    values = objective(rows, settings.wishes) if rows else np.empty(0)
    return [
        Trial(step.weights, step.block, float(value))
        for step, value in zip(steps, values, strict=True)
    ]


def _check_enough(settings: Settings, first: int) -> None:
    if settings.evaluations <= first:
        raise InputError(
            "evaluations", settings.evaluations, f"the search begins with {first}; give it 24 to 48"
        )
