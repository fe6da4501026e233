"""merge: several LoRAs into one, ΔW = Σ wᵢ·ΔWᵢ, exactly or as the best sum of a smaller rank.

Makes `merged.safetensors`, `models.json` and `merge.json` (weights, strengths, cosines, energy
kept). The history of every input, and of the selection that chose it, is inlined in the result's
own: no parent file is needed to read it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from onmodel.dataset.rules import MOST_WEIGHT
from onmodel.errors import InputError
from onmodel.hashing import write_json
from onmodel.ledger.lineage import Lineage
from onmodel.lora import header
from onmodel.lora.merge_files import largest_side, merge_files
from onmodel.lora.merge_job import MergeJob, MergeSize, open_sources
from onmodel.lora.methods import METHODS, choose
from onmodel.records import Artifact, Model
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    StageSettings,
    write_models,
)
from onmodel.train.options import LARGEST_RANK

MAKES: Kind = "models"
READS = Reads("merge", sheet=("trigger",))
FILE = "merged.safetensors"
MEGABYTE = 1_000_000


class Settings(StageSettings):
    """The settings of a merge stage. Alpha never changes the merged ΔW."""

    do: Literal["merge"]
    models: str | list[str] = Field(description="Models to merge, or a select stage.")
    method: str | None = Field(
        default=None,
        description=(
            "Merge method (docs/reference/merging.md). Unset: the mean, or the weighted sum where "
            "weights are given."
        ),
    )
    weights: Literal["uniform"] | list[float] | dict[str, float] = Field(
        default="uniform",
        description=(
            '"uniform", a list in order, or model to weight. A single model is scaled by its '
            "weight."
        ),
    )
    decay: float | None = Field(
        default=None, description="Method ema: weight of a model relative to the next. Unset: 0.8."
    )
    density: float | None = Field(
        default=None, description="Methods ties and dare: share of entries kept (0–1). Unset: 0.5."
    )
    blocks: dict[str, float] | None = Field(
        default=None,
        description=(
            'Factors on the weights of layers, e.g. { "0-9" = 0.5, mlp = 0, "model:mlp" = 2 }.'
        ),
    )
    rank: Annotated[int, Field(ge=1, le=LARGEST_RANK)] | None = Field(
        default=None,
        description="Rank of every layer. Without rank, energy and megabytes: the exact sum.",
    )
    energy: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description=("Share of the energy to keep (0–1). Ranks are distributed over the layers."),
    )
    megabytes: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="Largest file size in MB. Ranks are distributed over the layers."
    )
    alpha: Literal["from-parent"] | Annotated[float, Field(gt=0, le=MOST_WEIGHT)] = Field(
        default="from-parent",
        description=(
            'Alpha in the header; matters for further training only. "from-parent" keeps '
            "alpha/rank."
        ),
    )

    @model_validator(mode="after")
    def _make_sense(self) -> "Settings":
        """What is wrong without knowing the models is said before anything runs."""
        if self.method is not None and self.method not in METHODS:
            raise InputError("method", self.method, f"known: {', '.join(METHODS)}")
        self.size()
        return self

    def size(self) -> MergeSize:
        limit = None if self.megabytes is None else round(self.megabytes * MEGABYTE)
        return MergeSize(self.rank, self.energy, limit)

    def named_stages(self) -> list[NamedStage]:
        models = [self.models] if isinstance(self.models, str) else self.models
        return [NamedStage("models", name, "models") for name in models]


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """One model; seconds of work."""
    return Plan(models=1)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Merge what the settings name (`make`). Raises InputError for fewer than two models without a
    weight."""
    models = inputs.models(settings.needs())
    if len(models) < 2 and settings.weights == "uniform":
        remedy = "name at least two models, or the weight of one"
        raise InputError(f"stages.{context.name}.models", ", ".join(m.name for m in models), remedy)
    chosen = [
        inputs.lineage(name)
        for name in settings.needs()
        if inputs.artifact(name).kind == "selection"
    ]
    return make(models, settings, chosen, context)


def make(
    models: Sequence[Model], settings: Settings, reasons: Sequence[Lineage], context: Context
) -> Artifact:
    """The artifact of a merge of these models; search and tune make theirs with it too.

    `reasons` are the histories of what chose the models. Raises InputError for settings that do not
    fit the models or a file of another base.
    """
    spec, names = context.family().spec, [model.name for model in models]
    weights = None if settings.weights == "uniform" else settings.weights
    blend = choose(
        names, spec, settings.method, weights, settings.decay, settings.density, settings.blocks
    )
    with open_sources([(model.name, model.path) for model in models], spec) as sources:
        facts = header.Facts(
            title=context.name,
            author="",
            license="",
            trigger=context.character.trigger,
            architecture=spec.architecture,
            resolution=largest_side(sources),
            date="",
            blocks=spec.blocks,
            width=spec.width,
            base_sha256=context.base_sha256,
        )
        job = MergeJob(sources, blend, spec, settings.size(), settings.alpha)
        told = {"name": context.name, "base": context.base_sha256, "settings": settings.told()}
        lineage, report = merge_files(context.out / FILE, job, facts, reasons, told, context.events)
    found = report.as_dict()
    for row, model in zip(found["models"], models, strict=True):
        row["sha256"] = model.sha256
    write_json(context.out / "merge.json", found)
    write_models(context.out, [(context.name, None, FILE)])
    return context.commit("merge", lineage)
