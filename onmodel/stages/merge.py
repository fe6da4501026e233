"""merge: several LoRAs into one, ΔW = Σ wᵢ·ΔWᵢ, exactly or as the best sum of a smaller rank.

Makes `merged.safetensors`, `models.json` and `merge.json` (weights, strengths, cosines, energy
kept). The history of every input, and of the selection that chose it, is inlined in the result's
own: no parent file is needed to read it.
"""

import shutil
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from onmodel.dataset.rules import MOST_WEIGHT
from onmodel.errors import InputError
from onmodel.hashing import write_json
from onmodel.ledger.lineage import Lineage
from onmodel.lora import header
from onmodel.lora.merge_files import Job, Size, largest_side, merge_files, open_sources
from onmodel.lora.methods import METHODS, choose
from onmodel.records import Artifact, Model
from onmodel.stages.base import (
    Context,
    Inputs,
    Plan,
    Reads,
    StageSettings,
    keep_file,
    write_models,
)
from onmodel.train.options import LARGEST_RANK

READS = Reads("merge", sheet=("trigger",))
FILE = "merged.safetensors"
MEGABYTE = 1_000_000


class Settings(StageSettings):
    """The result's size is its `rank`, the share of `energy` to keep or the file's `megabytes`;
    nothing of it keeps the exact sum (rank Σ rᵢ). Energy and megabytes share the ranks out over the
    layers.

    One model with its weight, `weights = [0.8]`, is scaled by it.

    `method` left out is the plain mean, or the weighted sum where there are weights; `decay`,
    `density` and `blocks` (`{ "0-9" = 0.5, mlp = 0, "model:mlp" = 2 }`, factors on the weights) are
    read by the methods that have them.

    `alpha` is that of the result's header, and by it of its factors: "from-parent" keeps the
    inputs' alpha / rank, so that training it on moves ΔW by steps of the size the inputs were
    trained with. It never changes ΔW.
    """

    do: Literal["merge"]
    models: str | list[str]
    method: str | None = None
    weights: Literal["uniform"] | list[float] | dict[str, float] = "uniform"
    decay: float | None = None
    density: float | None = None
    blocks: dict[str, float] | None = None
    rank: Annotated[int, Field(ge=1, le=LARGEST_RANK)] | None = None
    energy: Annotated[float, Field(gt=0, le=1)] | None = None
    megabytes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    alpha: Literal["from-parent"] | Annotated[float, Field(gt=0, le=MOST_WEIGHT)] = "from-parent"

    @model_validator(mode="after")
    def _make_sense(self) -> "Settings":
        """What is wrong without knowing the models is said before anything runs."""
        if self.method is not None and self.method not in METHODS:
            raise InputError("method", self.method, f"known: {', '.join(METHODS)}")
        self.size()
        return self

    def size(self) -> Size:
        limit = None if self.megabytes is None else round(self.megabytes * MEGABYTE)
        return Size(self.rank, self.energy, limit)

    def needs(self) -> list[str]:
        return [self.models] if isinstance(self.models, str) else self.models


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """One model; seconds of work."""
    return Plan(models=1)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Read, sum, write. Raises InputError for settings that do not fit the models or a file of
    another base."""
    models = inputs.models(settings.needs())
    if len(models) < 2 and settings.weights == "uniform":
        remedy = "name at least two models, or the weight of one"
        raise InputError(f"stages.{context.name}.models", ", ".join(m.name for m in models), remedy)
    spec, names = context.family().spec, [model.name for model in models]
    weights = None if settings.weights == "uniform" else settings.weights
    blend = choose(
        names, spec, settings.method, weights, settings.decay, settings.density, settings.blocks
    )
    chosen = [
        inputs.lineage(name)
        for name in settings.needs()
        if inputs.artifact(name).kind == "selection"
    ]
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
        )
        job = Job(sources, blend, spec, settings.size(), settings.alpha)
        told = {"name": context.name, "base": context.base_sha256, "settings": settings.told()}
        lineage, report = merge_files(
            context.out / FILE, job, facts, chosen, told, context.progress
        )
    for row, model in zip(report["models"], models, strict=True):
        row["sha256"] = model.sha256
    write_json(context.out / "merge.json", report)
    write_models(context.out, [(context.name, None, FILE)])
    return context.commit("merge", lineage)


def run_chosen(
    parts: Sequence[tuple[Model, float]], history: Lineage, context: Context, **size: Any
) -> Artifact:
    """Run a merge stage on models and their weights, as if a select stage with this history had
    chosen them.

    `size` are the stage's `rank` and `alpha`.
    """
    folder = context.scratch / "chosen"
    shutil.rmtree(folder, ignore_errors=True)
    for model, _ in parts:
        keep_file(model.path, folder / f"{model.sha256}.safetensors")
    write_models(
        folder, [(model.name, model.epoch, f"{model.sha256}.safetensors") for model, _ in parts]
    )
    write_json(folder / "lineage.json", history)
    table = {
        "do": "merge",
        "models": context.name,
        "weights": [weight for _, weight in parts],
        **size,
    }
    return run(
        Inputs({context.name: Artifact("selection", "", folder)}),
        Settings.model_validate(table),
        context,
    )
