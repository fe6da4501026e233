"""merge: several LoRAs into one, ΔW = Σ wᵢ·ΔWᵢ, exactly or as the best sum of a smaller rank.

Makes `merged.safetensors`, `models.json` and `merge.json` (weights, strengths, cosines, energy kept). The history of
every input, and of the selection that chose it, is inlined in the result's own: no parent file is needed to read it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from onmodel.errors import InputError
from onmodel.hashing import write_json
from onmodel.ledger.lineage import add, root
from onmodel.merge.factors import Merged, cosines, merge_module
from onmodel.merge.methods import METHODS
from onmodel.models import header
from onmodel.models.family import FamilySpec
from onmodel.models.lora import BLOCKS_KEY, Lora, read_lora, write_lora
from onmodel.records import Artifact
from onmodel.stages.base import Context, Inputs, Plan, StageSettings, write_models

FILE = "merged.safetensors"


class Settings(StageSettings):
    """`rank` left out keeps the exact sum (rank Σ rᵢ).

    `alpha` is that of the result's header, and by it of its factors: "from-parent" keeps the inputs' alpha / rank, so
    that training it on moves ΔW by steps of the size the inputs were trained with. It never changes ΔW.
    """

    do: Literal["merge"]
    models: str | list[str]
    weights: Literal["uniform"] | list[float] | dict[str, float] = "uniform"
    rank: Annotated[int, Field(ge=1)] | None = None
    alpha: Literal["from-parent"] | Annotated[float, Field(gt=0)] = "from-parent"

    def needs(self) -> list[str]:
        return [self.models] if isinstance(self.models, str) else self.models


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """One model; seconds of work."""
    return Plan(models=1)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Read, sum, write. Raises InputError for weights that do not fit the models or a file of another base."""
    models = inputs.models(settings.needs())
    if len(models) < 2:
        raise InputError(f"stages.{context.name}.models", ", ".join(m.name for m in models), "name at least two models")
    method = "uniform" if settings.weights == "uniform" else "weighted"
    weights = METHODS[method].weights([model.name for model in models], settings.weights)
    spec = context.family().spec
    loras = [read_lora(model.path, spec) for model in models]
    gauge = gauge_of(loras, weights, settings)
    merged = merge_loras(loras, weights, settings.rank, gauge, spec)

    lora = Lora({name: module.factors for name, module in merged.items()})
    inner = np.sum([module.inner for module in merged.values()], axis=0)
    kept = sum(module.kept for module in merged.values()) / max(sum(module.total for module in merged.values()), 1e-300)
    rank = max(factors.rank for factors in lora.modules.values())
    histories = [header.lineage_of(one, model.sha256) for one, model in zip(loras, models, strict=True)]
    rows = zip(histories, models, weights, strict=True)
    parts = [{"model": root(history), "name": model.name, "weight": weight} for history, model, weight in rows]
    result = {"method": method, "rank": rank, "alpha": gauge * rank, "energy_kept": round(kept, 6)}
    told = {"name": context.name, "parts": parts, "exact": settings.rank is None, "base": context.base_sha256, **result}
    chosen = [inputs.lineage(name) for name in settings.needs() if inputs.artifact(name).kind == "selection"]
    lineage = add([*histories, *chosen], "merge", **told)
    facts = header.Facts(
        title=f"{context.character.name} {context.name}", author=context.character.author.name,
        license=context.character.license, trigger=context.character.trigger, architecture=spec.architecture,
        resolution=_resolution(loras), date=context.date, merged_from=", ".join(model.name for model in models),
    )  # fmt: skip
    unsaid = {BLOCKS_KEY: str(spec.blocks)}
    unsaid |= {} if facts.resolution else {"modelspec.resolution": "", "ss_resolution": ""}
    words = header.build(facts, lineage, ss_network_alpha=f"{gauge * rank:g}", **unsaid)
    write_lora(context.out / FILE, lora, words)
    strengths = [_rounded(np.sqrt(max(energy, 0))) for energy in np.diag(inner)]
    report = {
        **result,
        "paper": METHODS[method].paper,
        "strength": _rounded(np.sqrt(sum(module.kept for module in merged.values()))),
        "models": [
            {**part, "sha256": model.sha256, "strength": strength}
            for part, model, strength in zip(parts, models, strengths, strict=True)
        ],
        "cosines": [[_rounded(value) for value in row] for row in cosines(inner)],
    }
    write_json(context.out / "merge.json", report)
    write_models(context.out, [(context.name, None, FILE)])
    return context.commit("merge", lineage)


def merge_loras(
    loras: Sequence[Lora], weights: Sequence[float], rank: int | None, gauge: float, spec: FamilySpec
) -> dict[str, Merged]:
    """Every layer that any input changes, in the model's order; a layer that an input lacks is a zero ΔW there."""
    merged = {}
    for linear in spec.linears:
        having = [i for i, lora in enumerate(loras) if linear.name in lora.modules]
        if having:
            module = merge_module([(loras[i].modules[linear.name], weights[i]) for i in having], rank, gauge)
            inner = np.zeros((len(loras), len(loras)))
            inner[np.ix_(having, having)] = module.inner
            merged[linear.name] = Merged(module.factors, module.kept, module.total, inner)
    return merged


def gauge_of(loras: Sequence[Lora], weights: Sequence[float], settings: Settings) -> float:
    """alpha / rank of the result: the recipe's, or the mean of the inputs' by the size of their weights."""
    ranks = [max(factors.rank for factors in lora.modules.values()) for lora in loras]
    if settings.alpha != "from-parent":
        return settings.alpha / (settings.rank or sum(ranks))
    shares = np.abs(weights) if np.any(weights) else np.ones(len(loras))
    gauges = [(lora.trained_alpha or rank) / rank for lora, rank in zip(loras, ranks, strict=True)]
    return float(np.average(gauges, weights=shares))


def _resolution(loras: Sequence[Lora]) -> int:
    """The largest side that an input was trained at, as its header says; 0 when none says."""
    sides = [
        side for lora in loras for side in lora.metadata.get("modelspec.resolution", "").split("x") if side.isdigit()
    ]
    return max(map(int, sides), default=0)


def _rounded(value: Any) -> float:
    return round(float(value), 6)
