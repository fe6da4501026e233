"""tune: which checkpoint at which LoRA weight, by successive halving (evaluate/halving.py) instead
of the full grid.

Rounds of 24 × 1, 24 × 2 and 48 × 2 pictures an arm on suite "choose" and its further prompts; the
rule is that of a select stage, and "too close to call" an outcome. Set a bound on reproduction:
without one the least biased LoRA is often the weakest, which changes little because it does little
(docs/selection.md).

What is kept is the checkpoint times the chosen weight, as a merge stage makes it: at weight 1 it
draws what was chosen, whoever evaluates, merges, trains on or releases it. Chosen at 1 it is the
checkpoint itself. So is a DoRA, which cannot be scaled: the console and `selection.json` say at
which weight to use it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from onmodel.evaluate.assess import Assessor
from onmodel.evaluate.axes import AXES, Result
from onmodel.evaluate.halving import RUNGS, Candidate, Rung, candidates, halve, most_looks
from onmodel.evaluate.selection import Wishes
from onmodel.hashing import write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.records import Artifact, Model
from onmodel.sample.suites import vocabulary_of, wide_suite
from onmodel.stages import merge
from onmodel.stages.base import Context, Inputs, Plan, Reads, keep_file, write_models
from onmodel.stages.evaluate import JUDGED, make_assessor, named
from onmodel.stages.sample import MOST_LORA_WEIGHT, Generating
from onmodel.stages.select import Bounded, report, say

READS = Reads("tune", sheet=JUDGED, head=("seed", "threads"), axes=True)


class Settings(Generating, Bounded):
    """`models` are the checkpoints, earliest first; `weights` the LoRA weights. `weight` itself is
    not read."""

    do: Literal["tune"]
    models: list[str] = Field(min_length=1)
    weights: list[Annotated[float, Field(gt=0, le=MOST_LORA_WEIGHT)]] = Field(
        default=[0.4, 0.6, 0.8, 1.0, 1.2], min_length=1, max_length=100
    )

    @field_validator("weights")
    @classmethod
    def _once(cls, weights: list[float]) -> list[float]:
        if len(set(weights)) < len(weights):
            raise ValueError("names a weight twice; name every weight once")
        return weights

    def needs(self) -> list[str]:
        return [*self.models, *super().needs()]


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Pictures of the rounds, at most: two arms of every candidate, three of the base."""
    models = sum(named(reference, before) for reference in settings.models)
    looks = 2 * most_looks(models, len(settings.weights)) + 3 * RUNGS[-1].prompts * RUNGS[-1].seeds
    return Plan(pictures=looks, models=1, missing=settings.missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Narrow, choose, keep. Raises InputError for an axis that is bounded and not measured."""
    models = inputs.models(settings.models)
    prompts = wide_suite(context.character, vocabulary_of(context.base_name))
    assessor = replace(
        make_assessor(inputs, settings, "choose", RUNGS[0].seeds, context), prompts=prompts
    )

    looks: list[list[dict[str, Any]]] = []

    def measure(chosen: Sequence[Candidate], rung: Rung) -> list[dict[str, Any]]:
        rows = evaluation_rows(
            replace(assessor, prompts=prompts[: rung.prompts], seeds=rung.seeds), chosen
        )
        looks.append(
            [
                {
                    "name": one.name,
                    "model": one.model.name,
                    "weight": one.weight,
                    "axes": row["axes"],
                }
                for one, row in zip(chosen, rows, strict=True)
            ]
        )
        return rows

    wishes = Wishes(1, settings.at_least, settings.at_most)
    found, rounds = halve(models, settings.weights, measure, wishes, context.seed)
    say(found, context)
    if "reproduction" not in settings.at_least:
        _say_reproduction(next(row for row in looks[-1] if row["name"] == found.chosen[0]), context)
    (winner,) = [one for one in candidates(models, settings.weights) if one.name == found.chosen[0]]
    plan = replace(assessor, seeds=RUNGS[-1].seeds).plan
    told = {
        "weight": winner.weight,
        "rounds": [
            asdict(one) | {"measured": look} for one, look in zip(rounds, looks, strict=True)
        ],
        "records": {id: axis.as_dict() for id, (axis, _) in AXES.items()},
    }
    write_json(context.out / "selection.json", {**report(found, plan.signature(), wishes), **told})
    facts = {
        "chosen": [winner.model.sha256],
        "models": found.chosen,
        "weight": winner.weight,
        "signature": plan.signature(),
        "settings": settings.told(),
    }
    parents = [
        context.recipe(READS),
        *(inputs.lineage(reference) for reference in settings.needs()),
    ]
    return keep(winner, add(parents, "selection", name=context.name, **facts), context)


def _say_reproduction(row: Mapping[str, Any], context: Context) -> None:
    """That nobody asked for the character to be there, and how surely she is."""
    score = row["axes"]["reproduction"]
    if score["value"] is not None:
        told = f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"
        note = (
            f"  reproduction has no bound and is {told}; at_least = {{ reproduction = 0.05 }} asks"
            " for the character"
        )
        context.progress.console.print(note, style="yellow", highlight=False)


def keep(winner: Candidate, history: Lineage, context: Context) -> Artifact:
    """The checkpoint times its weight, as a merge; at weight 1, and a DoRA, as it is."""
    model, weight = winner.model, winner.weight
    if weight != 1 and not _is_dora(model, context):
        return merge.run_chosen([(model, weight)], history, context)
    if weight != 1:
        context.progress.console.print(
            f"  a DoRA cannot be scaled: use it at weight {weight:g}", highlight=False
        )
    file = f"{model.sha256}.safetensors"
    keep_file(model.path, context.out / file)
    write_models(context.out, [(model.name, model.epoch, file)])
    return context.commit("selection", history)


def _is_dora(model: Model, context: Context) -> bool:
    from onmodel.lora.tensors import read_lora

    lora = read_lora(model.path, context.family().spec, dora=True)
    return any(factors.magnitude is not None for factors in lora.modules.values())


def evaluation_rows(assessor: Assessor, chosen: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Evaluation rows of candidates, in their order; each weight has a signature of its own."""
    rows: dict[str, dict[str, Any]] = {}
    for weight in dict.fromkeys(one.weight for one in chosen):
        same = [one for one in chosen if one.weight == weight]
        weighted = replace(assessor, sampling=replace(assessor.sampling, weight=weight))
        for one, assessed in zip(
            same, weighted.assess([one.model for one in same])[0], strict=True
        ):
            results = {
                id: result for id, result in assessed.axes.items() if isinstance(result, Result)
            }
            rows[one.name] = {
                "name": one.name,
                "epoch": one.model.epoch,
                "axes": assessed.scores(weighted.plan.signature()),
                "per_prompt": {id: result.per_prompt for id, result in results.items()},
            }
    return [rows[one.name] for one in chosen]
