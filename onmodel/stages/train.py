"""train: subsets of data sets, each with its repeats, to a LoRA and its checkpoints. Refining is
this, with `start`.

Killed at any step and started again, it ends with the same bytes.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from onmodel.dataset.buckets import Size, bucket_of, load_weights
from onmodel.dataset.captions import captions_of, flips_of, plain_caption, split_tags
from onmodel.dataset.latents import View, encode_pictures
from onmodel.dataset.manifest import exposure_leaf, read_items, read_subsets
from onmodel.dataset.merkle import merkle_root
from onmodel.dataset.pixels import WHITE
from onmodel.dataset.rules import MOST_WEIGHT, SubsetConfig
from onmodel.dataset.summary import TrainSample, say_captions, say_crops, say_exposures
from onmodel.dataset.texts import encode_captions
from onmodel.errors import InputError, StateError
from onmodel.families.protocol import Family, FamilySpec
from onmodel.hashing import sha256_file, sweep, write_atomic, write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora import header
from onmodel.lora.tensors import read_lora, rescale
from onmodel.policy import check_text
from onmodel.reading import LARGEST_WHOLE
from onmodel.records import Artifact, Item
from onmodel.sample.pictures import PictureRequest, Sampling, parameters, png_bytes
from onmodel.sample.sampler import Job, generate
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    StageSettings,
    TrainingSettings,
    write_models,
)
from onmodel.train.adapters import Trained
from onmodel.train.loop import Example, Outputs, TrainingInputs, epoch_steps, train
from onmodel.train.networks import make_network, trained_layers
from onmodel.train.optimizers import OPTIMIZERS, check_device, optimizer_class
from onmodel.train.options import Preview
from onmodel.train.state import History, State
from onmodel.weights import payload_sha256

MAKES: Kind = "models"
READS = Reads("train", sheet=("trigger",), head=("seed", "threads"))
TAGS_IN_HEADER = 100  # the most frequent of each subset
METRICS = "metrics.jsonl"
SHAPES = (
    "network",
    "rank",
    "alpha",
    "ranks",
    "targets",
    "lokr_factor",
    "batch",
    "precision",
    "save_precision",
    "ema",
    "optimizer",
)


class Share(StageSettings, SubsetConfig):
    """One subset of a training. Unset fields inherit from the data set's own file, then from the
    train stage."""

    subset: str = Field(description="Name of the subset.")
    stage: str | None = Field(
        default=None, description="Curate stage of the subset. Unset: the run's `dataset`."
    )

    @property
    def label(self) -> str:
        return f"{self.stage}/{self.subset}" if self.stage else self.subset

    @property
    def exposures(self) -> int:
        """How often an epoch shows each picture, when everything is said."""
        return self.repeats * len(self.resolutions)


class Settings(TrainingSettings):
    """The settings of a train stage. A LoRA of others is continued through an `import` stage."""

    do: Literal["train"]
    dataset: str = Field(description="Curate stage to train on.")
    data: list[Share] | None = Field(
        default=None,
        min_length=1,
        description=(
            "Subsets with their repeats. Unset: all subsets that are not held out, as their "
            "own files say."
        ),
    )
    prior_weight: float = Field(
        default=1.0,
        ge=0,
        le=MOST_WEIGHT,
        description="Factor on the loss of regularisation pictures.",
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
    def _once(cls, data: list[Share] | None) -> list[Share] | None:
        seen = Counter((share.stage, share.subset) for share in data or ())
        for (_, subset), count in seen.items():
            if count > 1:
                raise ValueError(f"names {subset!r} {count} times; add up its repeats")
        return data

    def named_stages(self) -> list[NamedStage]:
        found = [NamedStage("dataset", self.dataset, "dataset")]
        for share in self.data or ():
            name = share.stage or self.dataset
            found.append(NamedStage("data.subset", name, "dataset", share.subset))
        if self.start is not None:
            found.append(NamedStage("start", self.start, "model"))
        return found

    @property
    def datasets(self) -> list[str]:
        """The curate stages that the run takes pictures from."""
        return list(
            dict.fromkeys(
                [self.dataset, *(share.stage for share in self.data or () if share.stage)]
            )
        )

    def shares(self, known: Mapping[str, Plan]) -> list[Share]:
        """What is trained on, with everything said. `known`: data set → its subsets, as a plan or a
        manifest says.

        Raises InputError for a subset that its data set does not have.
        """
        own = known[self.dataset]
        data = self.data or [Share(subset=name) for name in own.counts if name not in own.heldout]
        if not data:
            raise InputError(
                "dataset", self.dataset, "has no subset to train on; name a curate stage"
            )
        for share in data:
            counts = known[share.stage or self.dataset].counts
            if share.subset not in counts:
                there = ", ".join(counts) or "none; name a curate stage"
                raise InputError(
                    "data.subset",
                    share.subset,
                    f"subsets of {share.stage or self.dataset}: {there}",
                )
        return [
            share.over(self, known[share.stage or self.dataset].shown.get(share.subset, {}))
            for share in data
        ]

    def sides(self, before: Mapping[str, Plan]) -> set[int]:
        return {side for share in self.shares(before) for side in share.resolutions}

    def shapes(self) -> dict[str, Any]:
        return self.model_dump(mode="json", include=set(SHAPES))


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Exposures, steps and checkpoints. Steps are a few more when pictures have several sizes,
    fewer when some are held out. Raises InputError for a subset that its data set does not have, or
    an optimizer that cannot be had.
    """
    optimizer_class(settings)
    shares = settings.shares(before)
    shown = sum(
        before[share.stage or settings.dataset].counts[share.subset] * share.exposures
        for share in shares
    )
    written = [epoch for epoch in range(1, settings.epochs + 1) if settings.kept(epoch)]
    models, sure = len(written), written
    if settings.keep_last or settings.keep_best:  # the end always stays
        sure = written[-(settings.keep_last or 1) :]
        models = min(models, len(sure) + (settings.keep_best or 0))
    steps = (
        math.ceil(math.ceil(shown / settings.batch) / settings.gradient_accumulation)
        * settings.epochs
    )
    exposures = _exposures(shares, settings.epochs)
    return Plan(steps=steps, exposures=exposures, models=models, epochs=sure)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Train, keeping checkpoints. Raises InputError for data or a start that does not fit,
    StateError when damaged."""
    head = context.recipe(READS)
    context = replace(context, seed=context.seed + settings.seed)
    first = context.processes.first
    if first:
        sweep(context.scratch)
        sweep(context.out)
    family = context.family()
    device = next(family.backbone.parameters()).device
    check_device(settings, device)
    for prompt in settings.preview.prompts if settings.preview else []:
        check_text(prompt, f"stages.{context.name}.preview.prompts")
    adapters, parents = _network(inputs, settings, context, family)
    shares = settings.shares(
        {name: _known(inputs.artifact(name).path) for name in settings.datasets}
    )
    pictures = _pictures(inputs, shares, settings, context, family.spec.resolution.step)
    shots = [picture.shot for picture in pictures]
    say_exposures(shots, settings.epochs, context.events)
    say_crops(shots, context.events)
    lost = say_captions(shots, family.text_losses, context.events)
    if not first:
        context.processes.wait()  # the first encodes, the others map what it wrote
    latents = encode_pictures(
        family, [view for p in pictures for view in p.views], context.scratch, context.events
    )
    examples, heldout = _examples(pictures, latents, settings, context, family.spec.downscale)
    captions = {caption for example in (*examples, *heldout) for caption in example.captions}
    texts = encode_captions(family, captions, context.scratch, context.events)
    if first:
        context.processes.wait()

    state = State(context.scratch, adapters, settings)
    _check_kept(state.history, context.out)

    dtype = _precision(settings, device)
    steps_per_epoch = len(epoch_steps(examples, 1, settings, context.seed))
    steps = steps_per_epoch * settings.epochs
    facts = {
        "settings": settings.told(),
        "shares": [share.model_dump(mode="json") for share in shares],
        "exposures": _exposures(shares, settings.epochs),
        "pictures": _count(pictures),
        "root": merkle_root(
            exposure_leaf(item, share.label, share.exposures)
            for share, item in dict.fromkeys((picture.share, picture.item) for picture in pictures)
        ),
        "steps": steps,
        "layers": len(adapters.parts),
        "precision": str(dtype).removeprefix("torch."),
    }
    data = [inputs.lineage(name) for name in settings.datasets]
    this_run = add(
        [context.base, head, *data, *parents],
        "run",
        name=context.name,
        seed=context.seed,
        **facts,
    )
    words = _kohya_words(settings, context, shares, pictures, steps)

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
        _preview(family, settings.preview, settings, context, epoch)

    train(
        TrainingInputs(family, examples, heldout, texts, settings, context.seed, dtype),
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
    write_json(
        context.out / "pictures.json", [shot.as_dict(settings.epochs, lost) for shot in shots]
    )
    kept = sorted(state.history.kept)
    write_models(context.out, [(f"{context.name}@{epoch}", epoch, _file(epoch)) for epoch in kept])
    checkpoints = [
        _checkpoint(this_run, e, e * steps_per_epoch, payload_sha256(context.out / _file(e)))
        for e in kept
    ]
    return context.commit("run", add(checkpoints, "checkpoints", name=context.name))


@dataclass(frozen=True)
class Picture:
    """An item at one resolution, with its share of the run, its file, and that of its mask."""

    item: Item
    share: Share
    path: Path
    mask: Path | None
    size: Size

    @property
    def views(self) -> list[View]:
        """What is encoded of it: both sides of what may be mirrored."""
        flips = (False, True) if self.share.flip and self.item.split == "train" else (False,)
        return [View(self.path, self.size, flip, self.item.paper or WHITE) for flip in flips]

    @property
    def shot(self) -> TrainSample:
        return TrainSample(self.share.label, self.item, self.size, self.share)


def _known(folder: Path) -> Plan:
    """What a data set that was made holds."""
    subsets = read_subsets(folder)
    return Plan(
        counts={name: row["count"] for name, row in subsets.items()},
        shown={name: row["shown"] for name, row in subsets.items() if "shown" in row},
        heldout=[name for name, row in subsets.items() if row["heldout"] == row["count"]],
    )


def _pictures(
    inputs: Inputs, shares: Sequence[Share], settings: Settings, context: Context, multiple: int
) -> list[Picture]:
    """The pictures of every share at each of its resolutions.

    Raises InputError for a subset that has nothing to train on, or lacks the sentences that are
    asked for.
    """
    field = f"stages.{context.name}.data.subset"
    pictures = []
    for share in shares:
        folder = inputs.artifact(share.stage or settings.dataset).path
        own = [item for item in read_items(folder) if item.subset == share.subset]
        if all(item.split == "heldout" for item in own):
            raise InputError(
                field, share.subset, "all its pictures are held out; train on another subset"
            )
        silent = sum(not item.sentence for item in own)
        if share.caption == "sentence" and silent:
            raise InputError(
                field,
                share.subset,
                f'{silent} pictures have no sentence; write them or use caption = "tags"',
            )
        for item in own:
            path = folder / item.image
            mask = path if item.mask == "alpha" else folder / item.mask if item.mask else None
            for resolution in share.resolutions:
                size = bucket_of(item.width, item.height, resolution, share, multiple)
                pictures.append(Picture(item, share, path, mask, size))
    return pictures


def _examples(
    pictures: Sequence[Picture],
    latents: Mapping[View, Tensor],
    settings: Settings,
    context: Context,
    downscale: int,
) -> tuple[list[Example], list[Example]]:
    """What is trained on, and what the held-out loss is measured on. Regularisation is never the
    latter."""
    examples, heldout = [], []
    for picture in pictures:
        item, share = picture.item, picture.share
        sides = [latents[view] for view in picture.views]
        mask = None
        if picture.mask is not None:
            mask = torch.from_numpy(
                load_weights(picture.mask, item.mask == "alpha", picture.size, downscale)
            )
        if item.split == "train":
            captions = captions_of(
                item, share.repeats, settings.epochs, share.caption_rules, context.seed
            )
            weight = share.loss_weight * (settings.prior_weight if share.regularisation else 1.0)
            flipped = sides[1] if share.flip else None
            flips = (
                flips_of(item, share.repeats * settings.epochs, context.seed) if share.flip else []
            )
            examples.append(
                Example(item, sides[0], share.repeats, captions, flipped, flips, mask, weight)
            )
        elif settings.validation and not share.regularisation:
            heldout.append(
                Example(item, sides[0], 0, [plain_caption(item, share.caption_rules)], mask_hw=mask)
            )
    if settings.keep_best is not None and not heldout:
        raise InputError(
            "keep_best",
            settings.keep_best,
            "no picture is held out to judge by; set heldout in curate",
        )
    if settings.validation and not heldout:
        note = "no picture is held out, so no held-out loss is measured"
        context.events.note(note, "warning")
    return examples, heldout


def _network(
    inputs: Inputs, settings: Settings, context: Context, family: Family
) -> tuple[Trained, list[Lineage]]:
    """What is trained, in the model's order, and the history of the LoRA that it begins with.

    Layers of `start` beyond the targets are trained too, or its change would be lost.
    """
    spec, device = family.spec, next(family.backbone.parameters()).device
    rank_alphas = trained_layers(spec, settings)
    if settings.start is None:
        return make_network(family, settings, rank_alphas, context.seed, device), []
    model, chosen = inputs.model(settings.start), inputs.artifact(settings.start)
    found = read_lora(model.path, spec, dora=settings.network == "dora")
    start = rescale(
        found, {name: settings.rank_alpha(name) for name in found.modules}, context.seed
    ).modules
    ranks = sorted({row.rank for row in found.modules.values()})
    note = f"starts from {model.name}: rank {ranks[-1]}, alpha {found.trained_alpha or ranks[-1]:g}"
    note += f" → rank {settings.rank}, alpha {settings.alpha:g}, the same change of the base"
    if beyond := set(start) - set(rank_alphas):
        note += f"; {len(beyond)} layers beyond {settings.targets} are trained too"
    context.events.note(note)
    why = [inputs.lineage(settings.start)] if chosen.kind == "selection" else []
    network = make_network(family, settings, rank_alphas, context.seed, device, start)
    return network, [header.lineage_of(found, model.sha256), *why]


def _preview(
    family: Family, preview: Preview, settings: Settings, context: Context, epoch: int
) -> None:
    """Draw the preview's prompts with the base as it is being trained."""
    step = family.spec.resolution.step
    side = max(settings.resolutions) // step * step
    width, height = (
        (preview.size, preview.size)
        if isinstance(preview.size, int)
        else preview.size or (side, side)
    )
    sampling = Sampling(preview.steps, preview.guidance, preview.shift, 1.0, width, height)
    jobs = [
        Job(prompt, preview.negative, preview.seed + i, width, height)
        for i, prompt in enumerate(preview.prompts)
    ]
    made = generate(
        family,
        jobs,
        steps=preview.steps,
        guidance=preview.guidance,
        shift=preview.shift,
        batch=settings.batch,
    )
    for i, (job, image) in enumerate(made):
        text = parameters(
            context.base_sha256, PictureRequest(job.prompt, job.negative, job.seed), sampling
        )
        path = context.out / "previews" / f"epoch-{epoch:04d}-{i:02d}.png"
        write_atomic(path, png_bytes(image, f"{text}, Training: {context.name} epoch {epoch}"))


def _precision(settings: Settings, device: torch.device) -> torch.dtype:
    """What large products are computed in. Without bf16 in hardware a CPU is slower in it."""
    fast = torch.cpu.get_capabilities()
    native = device.type != "cpu" or fast.get("avx512_bf16", False) or fast.get("amx_bf16", False)
    if settings.precision == "bf16" or (settings.precision == "auto" and native):
        return torch.bfloat16
    return torch.float32


def _check_kept(history: History, out: Path) -> None:
    """Raise StateError unless every checkpoint of an earlier attempt is as it was written."""
    for epoch, sha256 in history.kept.items():
        path = out / _file(epoch)
        if not path.is_file() or sha256_file(path) != sha256:
            raise StateError(
                path, "is missing" if not path.is_file() else "was changed since it was written"
            )


def _remove_dropped(history: History, out: Path) -> None:
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
    )


def _kohya_words(
    settings: Settings,
    context: Context,
    shares: Sequence[Share],
    pictures: Sequence[Picture],
    steps: int,
) -> dict[str, str]:
    """What kohya's tools write about a training and other tools read."""
    row = OPTIMIZERS[settings.optimizer]
    tags: dict[str, Counter[str]] = {share.label: Counter() for share in shares}
    trained = [picture for picture in pictures if picture.item.split == "train"]
    for label, item in dict.fromkeys((picture.share.label, picture.item) for picture in trained):
        tags[label].update(split_tags(item.tags))
    counts = _count(trained)
    sizes = Counter(picture.size for picture in trained)
    datasets = [
        {
            "name": share.label,
            "num_repeats": share.repeats,
            "img_count": counts[share.label]["train"],
            "is_reg": share.regularisation,
            "keep_tokens": share.keep_tokens,
            "shuffle_caption": share.shuffle_tags,
            "caption_tag_dropout_rate": share.tag_dropout,
            "caption_dropout_rate": share.caption_dropout,
            "flip_aug": share.flip,
        }
        for share in shares
    ]
    bucket_info = {
        str(i): {"resolution": list(size), "count": sizes[size]}
        for i, size in enumerate(sorted(sizes))
    }
    return {
        "ss_output_name": context.name,
        "ss_learning_rate": repr(settings.learning_rate),
        "ss_optimizer": f"{row.module}.{row.name}",
        "ss_optimizer_args": _json(settings.optimizer_args) if settings.optimizer_args else "",
        "ss_lr_scheduler": settings.schedule,
        "ss_lr_warmup_steps": str(settings.warmup),
        "ss_max_grad_norm": repr(settings.grad_clip),
        "ss_seed": str(context.seed),
        "ss_num_epochs": str(settings.epochs),
        "ss_max_train_steps": str(steps),
        "ss_num_train_images": str(
            sum(p.share.repeats for p in trained if not p.share.regularisation)
        ),
        "ss_num_reg_images": str(sum(p.share.repeats for p in trained if p.share.regularisation)),
        "ss_prior_loss_weight": repr(settings.prior_weight),
        "ss_total_batch_size": str(settings.batch),
        "ss_gradient_accumulation_steps": str(settings.gradient_accumulation),
        **_network_words(settings),
        "ss_tag_frequency": _json(
            {name: dict(count.most_common(TAGS_IN_HEADER)) for name, count in tags.items()}
        ),
        "ss_datasets": _json(datasets),
        "ss_bucket_info": _json({"buckets": bucket_info}),
    }


def _network_words(settings: Settings) -> dict[str, str]:
    """What LyCORIS calls a network that is no plain LoRA."""
    if settings.network == "lora":
        return {}
    if settings.network == "dora":
        return {
            "ss_network_module": "lycoris.kohya",
            "ss_network_args": _json({"algo": "lora", "dora_wd": True}),
        }
    return {
        "ss_network_module": "lycoris.kohya",
        "ss_network_args": _json({"algo": "lokr", "factor": settings.lokr_factor}),
        "ss_network_dim": "Dynamic" if settings.ranks else str(settings.rank),
        "ss_network_alpha": "" if settings.ranks else f"{settings.alpha:g}",
    }


def _count(pictures: Sequence[Picture]) -> dict[str, dict[str, int]]:
    """Pictures of each share, trained on and held out."""
    rows: dict[str, dict[str, int]] = {}
    for label, _, split in dict.fromkeys(
        (p.share.label, p.item.sha256, p.item.split) for p in pictures
    ):
        rows.setdefault(label, {"train": 0, "heldout": 0})[split] += 1
    return rows


def _file(epoch: int) -> str:
    return f"epoch-{epoch:04d}.safetensors"


def _exposures(shares: Sequence[Share], epochs: int) -> dict[str, int]:
    """How often the run shows each picture of a subset."""
    return {share.label: share.exposures * epochs for share in shares}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
