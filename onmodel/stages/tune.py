"""tune: which checkpoint at which LoRA weight, by successive halving (evaluate/halving.py) instead
of the full grid.

Rounds of 24 × 1, 24 × 2 and 48 × 2 pictures an arm on suite "choose" and its further prompts; the
rule is that of a select stage, and "open" an outcome. Set a bound on reproduction:
without one the least biased LoRA is often the weakest, which changes little because it does little
(docs/explanation/selection.md).

What is kept is the checkpoint times the chosen weight, as a merge stage makes it: at weight 1 it
draws what was chosen, whoever evaluates, merges, trains on or releases it. Chosen at 1 it is the
checkpoint itself. So is a DoRA, which cannot be scaled: the terminal and `selection.json` say at
which weight to use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, field_validator

from onmodel.evaluate.assess import Assessor
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.choice import CHOICE, Choice, TuningRound, WeightedScores
from onmodel.evaluate.evaluation import EvaluatedModel, Score
from onmodel.evaluate.halving import RUNGS, Rung, WeightedModel, candidates, halve, most_looks
from onmodel.evaluate.selection import Constraints
from onmodel.hashing import write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora.file import LoraFile
from onmodel.records import Artifact, Model
from onmodel.sample.suites import vocabulary_of, wide_suite
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
from onmodel.stages.generating import MOST_LORA_WEIGHT, Generating
from onmodel.stages.select import Bounded, say

MAKES: Kind = "selection"
READS = Reads("tune", sheet=JUDGED, head=("seed", "threads"), axes=True)


class Settings(Generating, Bounded):
    """The settings of a tune stage. `weight` is not used."""

    do: Literal["tune"]
    models: list[str] = Field(min_length=1, description="Checkpoints, earliest first.")
    weights: list[Annotated[float, Field(gt=0, le=MOST_LORA_WEIGHT)]] = Field(
        default=[0.4, 0.6, 0.8, 1.0, 1.2],
        min_length=1,
        max_length=100,
        description="LoRA weights to try.",
    )

    @field_validator("weights")
    @classmethod
    def _once(cls, weights: list[float]) -> list[float]:
        if len(set(weights)) < len(weights):
            raise ValueError("names a weight twice; name every weight once")
        return weights

    def named_stages(self) -> list[NamedStage]:
        models = [NamedStage("models", name, "models") for name in self.models]
        return [*models, *super().named_stages()]


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Pictures of the rounds, at most: two arms of every candidate, three of the base."""
    models = sum(named(reference, before) for reference in settings.models)
    looks = 2 * most_looks(models, len(settings.weights)) + 3 * RUNGS[-1].prompts * RUNGS[-1].seeds
    drawn = settings.sampling.drawn(looks)
    return Plan(pictures=looks, models=1, drawn=drawn, missing=settings.missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Narrow, choose, keep. Raises InputError for an axis that is bounded and not measured."""
    with settings.computing(context) as context:
        return _run(inputs, settings, context)


def _run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    models = inputs.models(settings.models)
    prompts = wide_suite(context.character, vocabulary_of(context.base_name))
    assessor = replace(
        make_assessor(inputs, settings, "choose", RUNGS[0].seeds, context), prompts=prompts
    )

    looks: list[list[WeightedScores]] = []

    def measure(chosen: Sequence[WeightedModel], rung: Rung) -> list[EvaluatedModel]:
        rows = evaluation_rows(
            replace(assessor, prompts=prompts[: rung.prompts], seeds=rung.seeds), chosen
        )
        looks.append(
            [
                WeightedScores(one.name, one.model.name, one.weight, row.axes)
                for one, row in zip(chosen, rows, strict=True)
            ]
        )
        return rows

    constraints = Constraints(1, settings.at_least, settings.at_most)
    found, rounds = halve(models, settings.weights, measure, constraints, context.seed)
    say(found, context)
    if "reproduction" not in settings.at_least:
        chosen = next(row for row in looks[-1] if row.name == found.chosen[0])
        _say_reproduction(chosen.score("reproduction"), context)
    (winner,) = [one for one in candidates(models, settings.weights) if one.name == found.chosen[0]]
    signature = replace(assessor, seeds=RUNGS[-1].seeds).signature
    choice = replace(
        Choice.of(found, signature, constraints),
        weight=winner.weight,
        rounds=[
            TuningRound(one.rung, one.looked, one.kept, one.dropped, look)
            for one, look in zip(rounds, looks, strict=True)
        ],
        records={id: axis for id, (axis, _) in AXES.items()},
    )
    write_json(context.out / CHOICE, choice.as_json())
    facts = {
        "chosen": [winner.model.sha256],
        "models": found.chosen,
        "weight": winner.weight,
        "signature": signature,
        "settings": settings.told(),
    }
    parents = [
        context.recipe(READS),
        *(inputs.lineage(reference) for reference in settings.needs()),
    ]
    return keep(winner, add(parents, "selection", name=context.name, **facts), context)


def _say_reproduction(score: Score | None, context: Context) -> None:
    """That reproduction has no bound, and the score of what was chosen."""
    if score:
        told = f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"
        note = (
            f"reproduction has no bound and is {told}; at_least = {{ reproduction = 0.5 }} asks"
            " for the character"
        )
        context.events.note(note, "warning")


def keep(winner: WeightedModel, history: Lineage, context: Context) -> Artifact:
    """The checkpoint times its weight, as a merge; at weight 1, and a DoRA, as it is."""
    model, weight = winner.model, winner.weight
    if weight != 1 and not _is_dora(model, context):
        table = {"do": "merge", "models": context.name, "weights": [weight]}
        return merge.make([model], merge.Settings.model_validate(table), [history], context)
    if weight != 1:
        context.events.note(f"a DoRA cannot be scaled: use it at weight {weight:g}")
    keep_models(context.out, [model])
    return context.commit("selection", history)


def _is_dora(model: Model, context: Context) -> bool:
    with LoraFile(model.path, context.family().spec, dora=True) as file:
        return file.is_dora


def evaluation_rows(assessor: Assessor, chosen: Sequence[WeightedModel]) -> list[EvaluatedModel]:
    """Evaluation rows of candidates, in their order; each weight has a signature of its own."""
    rows = {}
    for weight in dict.fromkeys(one.weight for one in chosen):
        same = [one for one in chosen if one.weight == weight]
        weighted = replace(assessor, sampling=replace(assessor.sampling, weight=weight))
        found, _ = weighted.assess([one.model for one in same])
        for one, assessed in zip(same, found, strict=True):
            rows[one.name] = assessed.row(one.name, one.model.epoch, weighted.signature)
    return [rows[one.name] for one in chosen]
