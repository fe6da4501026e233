"""train: subsets of data sets, each with its repeats, to a LoRA and its checkpoints. Refining is
this, with `start`.

Killed at any step and started again, it ends with the same bytes.
"""

# A plan reads the settings alone, so what computes is imported where it does.

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from onmodel.dataset.manifest import exposure_leaf, read_subsets
from onmodel.dataset.merkle import merkle_root
from onmodel.dataset.summary import say_captions, say_crops, say_exposures
from onmodel.errors import InputError, StateError
from onmodel.families.modes import Modes
from onmodel.families.protocol import Family, FamilySpec, Text
from onmodel.hashing import sha256_file, sweep, write_atomic, write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora import header
from onmodel.policy import check_text
from onmodel.reading import LARGEST_WHOLE
from onmodel.records import Artifact
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    TrainingSettings,
    write_models,
)
from onmodel.stages.previews import draw_previews, preview_sampling
from onmodel.train.networks import layer_rates, make_network, text_rates, trained_layers
from onmodel.train.optimizers import check_device, check_optimizer
from onmodel.train.options import TrainSubset
from onmodel.weights import payload_sha256

if TYPE_CHECKING:
    from onmodel.train.adapters import Trained
    from onmodel.train.examples import TrainPicture
    from onmodel.train.loop import Example
    from onmodel.train.state import History

MAKES: Kind = "models"
READS = Reads("train", sheet=("trigger",), head=("seed", "threads"))
_STEP = 16  # pixels that sides are rounded to in the plan, where the base is not loaded
TAGS_IN_HEADER = 100  # the most frequent of each subset
METRICS = "metrics.jsonl"
SHAPES = (
    "network",
    "rank",
    "alpha",
    "ranks",
    "targets",
    "train_text_conditioner",
    "train_text_encoder",
    "lokr_factor",
    "batch",
    "precision",
    "save_precision",
    "ema",
    "optimizer",
)


class Settings(TrainingSettings):
    """The settings of a train stage. A LoRA of others is continued through an `import` stage."""

    do: Literal["train"]
    dataset: str = Field(description="Curate stage to train on.")
    data: list[TrainSubset] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Subsets with their repeats. Unset: all subsets that are not held out, as their "
            "own files say."
        ),
    )
    start: str | None = Field(
        default=None,
        description=("Model to continue from, e.g. a train or merge stage. Unset: a new adapter."),
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=LARGEST_WHOLE,
        description="Added to the recipe's seed. Another value is a repeated training.",
    )

    @model_validator(mode="after")
    def _begins(self) -> Self:
        if self.start is not None and self.network == "lokr":
            raise ValueError('a LoKr begins at nothing; without start, or with network = "lora"')
        return self

    @field_validator("data")
    @classmethod
    def _once(cls, data: list[TrainSubset] | None) -> list[TrainSubset] | None:
        seen = Counter((subset.stage, subset.subset) for subset in data or ())
        for (_, subset), count in seen.items():
            if count > 1:
                raise ValueError(f"names {subset!r} {count} times; add up its repeats")
        return data

    def named_stages(self) -> list[NamedStage]:
        found = [NamedStage("dataset", self.dataset, "dataset")]
        for subset in self.data or ():
            name = subset.stage or self.dataset
            found.append(NamedStage("data.subset", name, "dataset", subset.subset))
        if self.start is not None:
            found.append(NamedStage("start", self.start, "model"))
        return found

    @property
    def datasets(self) -> list[str]:
        """The curate stages that the run takes pictures from."""
        return list(
            dict.fromkeys(
                [self.dataset, *(subset.stage for subset in self.data or () if subset.stage)]
            )
        )

    def subsets(self, known: Mapping[str, Plan]) -> list[TrainSubset]:
        """What is trained on, with everything said. `known`: data set → its subsets, as a plan or a
        manifest says.

        Raises InputError for a subset that its data set does not have.
        """
        own = known[self.dataset]
        data = self.data or [
            TrainSubset(subset=name) for name in own.counts if name not in own.heldout
        ]
        if not data:
            raise InputError(
                "dataset", self.dataset, "has no subset to train on; name a curate stage"
            )
        for subset in data:
            plan = known[subset.stage or self.dataset]
            counts = plan.counts
            if subset.subset not in counts:
                there = ", ".join(counts) or "none; name a curate stage"
                raise InputError(
                    "data.subset",
                    subset.subset,
                    f"subsets of {subset.stage or self.dataset}: {there}",
                )
            if subset.subset in plan.heldout:
                remedy = "is held out as a whole; take it out of heldout_subsets, or use another"
                raise InputError("data.subset", subset.subset, remedy)
        return [
            subset.over(self, known[subset.stage or self.dataset].shown.get(subset.subset, {}))
            for subset in data
        ]

    def sides(self, before: Mapping[str, Plan]) -> set[int]:
        return {side for subset in self.subsets(before) for side in subset.resolutions}

    def shapes(self) -> dict[str, object]:
        return self.model_dump(mode="json", include=set(SHAPES))


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Exposures, steps and checkpoints. Steps are a few more when pictures have several sizes,
    fewer when some are held out. Raises InputError for a subset that its data set does not have, or
    an optimizer that cannot be had.
    """
    check_optimizer(settings)
    subsets = settings.subsets(before)
    shown = sum(
        before[subset.stage or settings.dataset].counts[subset.subset] * subset.exposures
        for subset in subsets
    )
    written = [epoch for epoch in range(1, settings.epochs + 1) if settings.kept(epoch)]
    models, sure = len(written), written
    if settings.keep_last or settings.keep_best:  # the end always stays
        sure = written[-(settings.keep_last or 1) :]
        models = min(models, len(sure) + (settings.keep_best or 0))
    steps = steps_for(shown, settings)
    exposures = _exposures(subsets, settings.epochs)
    if all(subset.loss_weight == 0 for subset in subsets):
        raise InputError("loss_weight", 0, "nothing is learnt: give a subset more than 0")
    notes = (*settings.doubts(steps), *_hidden_sentences(settings, subsets, before))
    preview, drawn = settings.preview, None
    if preview is not None:
        drawn = preview_sampling(preview, settings, _STEP).drawn(len(preview.prompts))
    return Plan(
        steps=steps, exposures=exposures, models=models, epochs=sure, drawn=drawn, notes=notes
    )


def steps_for(shown: int, settings: TrainingSettings) -> int:
    """Optimiser steps of a run whose epochs show so many pictures."""
    batches = math.ceil(shown / settings.batch)
    return math.ceil(batches / settings.gradient_accumulation) * settings.epochs


def _hidden_sentences(
    settings: Settings, subsets: Sequence[TrainSubset], before: Mapping[str, Plan]
) -> list[str]:
    """A note for each subset whose captions have lines that its caption form never shows."""
    notes = []
    for subset in subsets:
        count = before[subset.stage or settings.dataset].sentences.get(subset.subset, 0)
        if subset.caption == "tags" and count:
            notes.append(
                f'{subset.label}: {count} captions have further lines, which caption = "tags" never'
                ' shows; use "both" or "sentence"'
            )
    return notes


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Train, keeping checkpoints. Raises InputError for data or a start that does not fit, or a
    memory that does not suffice, StateError when damaged."""
    from onmodel.train.fitting import training_modes

    family = context.family()
    known = {name: _known(inputs.artifact(name).path) for name in settings.datasets}
    modes = training_modes(family, settings, max(settings.sides(known)), context.events)
    trained = text_rates(family.spec, settings)
    with family.computing(modes), family.training_text(trained):
        return _run(inputs, settings, context, family, modes)


def _run(
    inputs: Inputs, settings: Settings, context: Context, family: Family, modes: Modes
) -> Artifact:
    from onmodel.train.fitting import quantization_facts
    from onmodel.train.header_words import kohya_words
    from onmodel.train.loop import Outputs, TrainingInputs, epoch_steps, train
    from onmodel.train.precision import product_dtype
    from onmodel.train.state import State

    head = context.recipe(READS)
    context = replace(context, seed=context.seed + settings.seed)
    first = context.processes.first
    if first:
        sweep(context.scratch)
        sweep(context.out)
    device = family.device
    check_device(settings, device)
    for prompt in settings.preview.prompts if settings.preview else []:
        check_text(prompt, f"stages.{context.name}.preview.prompts")
    adapters, parents = _network(inputs, settings, context, family)
    data = _data(inputs, settings, context, family)
    state = State(context.scratch, adapters, settings, layer_rates(family.spec, settings))
    _check_kept(state.history, context.out)

    dtype = product_dtype(settings, device.type)
    steps_per_epoch = len(epoch_steps(data.examples, 1, settings, context.seed))
    facts = {
        **data.facts(settings),
        "steps": steps_per_epoch * settings.epochs,
        "layers": len(adapters.parts),
        "precision": str(dtype).removeprefix("torch."),
        **quantization_facts(family, settings, context.events),
    }
    histories = [inputs.lineage(name) for name in settings.datasets]
    parents = [context.base, head, *histories, *parents]
    this_run = add(parents, "run", name=context.name, seed=context.seed, **facts)
    words = kohya_words(
        context.name,
        settings,
        context.seed,
        data.subsets,
        data.pictures,
        steps_per_epoch * settings.epochs,
    )
    words[header.TEXT_KEY] = ",".join(text_rates(family.spec, settings))

    def keep(epoch: int, step: int) -> str:
        _remove_dropped(state.history, context.out)
        path = context.out / _file(epoch)
        payload = adapters.payload({"fp32": "F32", "bf16": "BF16"}[settings.save_precision])
        lineage = _checkpoint(this_run, epoch, step, payload.sha256)
        about = _about(context, settings, family.spec, epoch)
        payload.write(
            path, header.build(about, lineage, **words, ss_epoch=str(epoch), ss_steps=str(step))
        )
        return sha256_file(path)

    def preview(epoch: int) -> None:
        assert settings.preview is not None
        draw_previews(family, settings.preview, settings, context, epoch)

    options = settings
    if modes.checkpointing:
        twice = "offload" if modes.offload else True
        options = settings.model_copy(update={"gradient_checkpointing": twice})
    train(
        TrainingInputs(
            family, data.examples, data.heldout, data.texts, options, context.seed, dtype
        ),
        state,
        Outputs(keep, preview, context.record),
        context.events,
        context.processes,
    )
    if not first:
        return Artifact("run", "", context.out)
    _remove_dropped(state.history, context.out)
    rows = state.history.rows(steps_per_epoch)
    write_atomic(context.out / METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode())
    write_json(context.out / "run.json", facts)
    write_json(context.out / "pictures.json", data.rows(settings.epochs))
    kept = sorted(state.history.kept)
    write_models(context.out, [(f"{context.name}@{epoch}", epoch, _file(epoch)) for epoch in kept])
    checkpoints = [
        _checkpoint(this_run, e, e * steps_per_epoch, payload_sha256(context.out / _file(e)))
        for e in kept
    ]
    return context.commit("run", add(checkpoints, "checkpoints", name=context.name))


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on: subsets, pictures, encoded captions, and captions that lose words
    (`lost`: hash of the picture → what its caption loses)."""

    subsets: Sequence[TrainSubset]
    pictures: "Sequence[TrainPicture]"
    examples: "Sequence[Example]"
    heldout: "Sequence[Example]"
    texts: Mapping[str, Text]
    lost: Mapping[str, Sequence[str]]

    def facts(self, settings: Settings) -> dict[str, object]:
        """What run.json and the history say of the data."""
        from onmodel.train.examples import count_pictures

        shown = dict.fromkeys((picture.subset, picture.item) for picture in self.pictures)
        leaves = [exposure_leaf(item, subset.label, subset.exposures) for subset, item in shown]
        return {
            "settings": settings.told(),
            "shares": [subset.model_dump(mode="json") for subset in self.subsets],
            "exposures": _exposures(self.subsets, settings.epochs),
            "pictures": count_pictures(self.pictures),
            "root": merkle_root(leaves),
        }

    def rows(self, epochs: int) -> list[dict[str, object]]:
        """The rows of pictures.json."""
        return [picture.sample.as_dict(epochs, self.lost) for picture in self.pictures]


def _data(inputs: Inputs, settings: Settings, context: Context, family: Family) -> TrainingData:
    """Read the subsets and encode their pictures and captions: the first process does, the others
    map what it wrote."""
    from onmodel.dataset.latents import encode_pictures
    from onmodel.dataset.texts import encode_captions
    from onmodel.train.examples import check_heldout, examples_of, pictures_of

    known = {name: _known(inputs.artifact(name).path) for name in settings.datasets}
    subsets = settings.subsets(known)
    folders = [
        (subset, inputs.artifact(subset.stage or settings.dataset).path) for subset in subsets
    ]
    field = f"stages.{context.name}.data.subset"
    pictures = pictures_of(folders, family.spec.resolution.step, field)
    samples = [picture.sample for picture in pictures]
    say_exposures(samples, settings.epochs, context.events)
    say_crops(samples, context.events)
    lost = say_captions(samples, family.text_losses, context.events)
    if not context.processes.first:
        context.processes.wait()
    views = [view for picture in pictures for view in picture.views]
    latents = encode_pictures(family, views, context.scratch, context.events)
    examples, heldout = examples_of(
        pictures, latents, settings, context.seed, family.spec.downscale
    )
    check_heldout(heldout, settings, context.events)
    captions = {caption for example in (*examples, *heldout) for caption in example.captions}
    trained = text_rates(family.spec, settings)
    texts = encode_captions(family, captions, context.scratch, context.events, trained)
    if settings.preview is not None:
        family.encode_prompts(
            [*settings.preview.prompts, settings.preview.negative], settings.preview.empty_text
        )
    family.release()
    if context.processes.first:
        context.processes.wait()
    return TrainingData(subsets, pictures, examples, heldout, texts, lost)


def _known(folder: Path) -> Plan:
    """What a data set that was made holds."""
    subsets = read_subsets(folder)
    return Plan(
        counts={name: row["count"] for name, row in subsets.items()},
        shown={name: row["shown"] for name, row in subsets.items() if "shown" in row},
        heldout=[name for name, row in subsets.items() if row["heldout"] == row["count"]],
    )


def _network(
    inputs: Inputs, settings: Settings, context: Context, family: Family
) -> "tuple[Trained, list[Lineage]]":
    """What is trained, in the model's order, and the history of the LoRA that it begins with.

    Layers of `start` beyond the targets are trained too, or its change would be lost.
    """
    spec, device = family.spec, family.device
    rank_alphas = trained_layers(spec, settings)
    if settings.start is None:
        return make_network(family, settings, rank_alphas, context.seed, device), []
    from onmodel.lora.tensors import check_backbone_alone, read_lora, rescale

    model, chosen = inputs.model(settings.start), inputs.artifact(settings.start)
    found = read_lora(model.path, spec, dora=settings.network == "dora")
    why = "are not trained here (train_text_conditioner, train_text_encoder)"
    trained = text_rates(spec, settings)
    check_backbone_alone(found, spec, "start", settings.start, why, trained)
    start = rescale(
        found, {name: settings.rank_alpha(name) for name in found.modules}, context.seed
    ).modules
    ranks = sorted({row.rank for row in found.modules.values()})
    note = f"starts from {model.name}: rank {ranks[-1]}, alpha {found.trained_alpha or ranks[-1]:g}"
    note += f" → rank {settings.rank}, alpha {settings.alpha:g}, the same change of the base"
    if beyond := set(start) - set(rank_alphas):
        note += f"; {len(beyond)} layers beyond {settings.targets} are trained too"
    context.events.note(note)
    choice = [inputs.lineage(settings.start)] if chosen.kind == "selection" else []
    network = make_network(family, settings, rank_alphas, context.seed, device, start)
    return network, [header.lineage_of(found.metadata, model.sha256), *choice]


def _check_kept(history: "History", out: Path) -> None:
    """Raise StateError unless every checkpoint of an earlier attempt is as it was written."""
    for epoch, sha256 in history.kept.items():
        path = out / _file(epoch)
        if not path.is_file() or sha256_file(path) != sha256:
            raise StateError(
                path, "is missing" if not path.is_file() else "was changed since it was written"
            )


def _remove_dropped(history: "History", out: Path) -> None:
    """Delete checkpoints that the saved state no longer names: by a keep-rule, or written just
    before a kill."""
    for path in out.glob("epoch-*.safetensors"):
        if path.name not in {_file(epoch) for epoch in history.kept}:
            path.unlink()


def _checkpoint(this_run: Lineage, epoch: int, step: int, payload: str) -> Lineage:
    return add([this_run], "checkpoint", epoch=epoch, step=step, payload_sha256=payload)


def _about(context: Context, settings: Settings, spec: FamilySpec, epoch: int) -> header.Facts:
    return header.Facts(
        title=f"{context.name} epoch {epoch}",
        author="",
        license="",
        trigger=context.character.trigger,
        architecture=spec.architecture,
        resolution=max(settings.resolutions),
        date="",
        blocks=spec.blocks,
        width=spec.width,
        base_sha256=context.base_sha256,
    )


def _file(epoch: int) -> str:
    return f"epoch-{epoch:04d}.safetensors"


def _exposures(subsets: Sequence[TrainSubset], epochs: int) -> dict[str, int]:
    """How often the run shows each picture of a subset."""
    return {subset.label: subset.exposures * epochs for subset in subsets}
