"""train: subsets of data sets, each with its repeats, to a LoRA and its checkpoints. Refining is this, with `start`.

Killed at any step and started again, it ends with the same bytes.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from onmodel import __version__
from onmodel.dataset.buckets import Size, bucket_sizes, nearest_bucket
from onmodel.dataset.captions import plain_caption, split_tags
from onmodel.dataset.latents import encode_pictures
from onmodel.dataset.manifest import read_items
from onmodel.dataset.texts import encode_captions
from onmodel.errors import InputError, StateError
from onmodel.hashing import sha256_file, sweep, write_atomic, write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.models import header
from onmodel.models.family import FamilySpec
from onmodel.models.lora import Factors, read_lora, regauge, write_lora
from onmodel.models.weights import payload_sha256
from onmodel.records import Artifact, Item
from onmodel.stages.base import Context, Inputs, Plan, StageSettings, write_models
from onmodel.train.adapters import Adapters, fresh_factors
from onmodel.train.loop import Example, captions_of, epoch_batches, train
from onmodel.train.options import Options
from onmodel.train.state import History, State

TAGS_IN_HEADER = 100  # the most frequent of each subset
METRICS = "metrics.jsonl"


class Share(StageSettings):
    """One subset and how often an epoch shows each of its pictures. `stage` names another data set than the run's."""

    subset: str
    repeats: int = Field(1, ge=1)
    stage: str | None = None


class Settings(StageSettings, Options):
    """`dataset` is a curate stage. `start` is a model to train on from, brought to this run's rank and alpha."""

    do: Literal["train"]
    dataset: str
    data: list[Share] = Field(min_length=1)
    start: str | None = None

    @field_validator("data")
    @classmethod
    def _once(cls, data: list[Share]) -> list[Share]:
        seen = Counter((share.stage, share.subset) for share in data)
        for (_, subset), count in seen.items():
            if count > 1:
                raise ValueError(f"names {subset!r} {count} times; add up its repeats")
        return data

    def needs(self) -> list[str]:
        return [*self.datasets, *([self.start] if self.start else [])]

    @property
    def datasets(self) -> list[str]:
        """The curate stages that the run takes pictures from."""
        return list(dict.fromkeys([self.dataset, *(share.stage for share in self.data if share.stage)]))

    @property
    def exposures(self) -> dict[str, int]:
        """How often the run shows each picture of a subset."""
        return {_label(share): share.repeats * self.epochs for share in self.data}


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Exposures, steps and checkpoints. Steps are a few more when pictures have several sizes, fewer when some are held
    out. Raises InputError for a subset that its data set does not have.
    """
    shown = 0
    for share in settings.data:
        counts = before[share.stage or settings.dataset].counts
        if share.subset not in counts:
            known = ", ".join(counts) or "none; name a curate stage"
            raise InputError("data.subset", share.subset, f"subsets of {share.stage or settings.dataset}: {known}")
        shown += counts[share.subset] * share.repeats
    kept = sum(settings.kept(epoch) for epoch in range(1, settings.epochs + 1))
    steps = math.ceil(shown / settings.batch) * settings.epochs
    return Plan(steps=steps, exposures=settings.exposures, models=kept)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Train, keeping checkpoints. Raises InputError for data or a start that does not fit, StateError when damaged."""
    torch.set_num_threads(context.threads)
    first = context.processes.first
    if first:
        sweep(context.scratch)
        sweep(context.out)
    family = context.family()
    if family.spec.prediction != "flow":
        raise InputError("base", family.spec.name, f"predicts {family.spec.prediction}; only flow models are trained")
    pictures = _pictures(inputs, settings, context)
    sizes = bucket_sizes(settings.resolution, family.spec.multiple)
    buckets = {picture.path: nearest_bucket(picture.item.width, picture.item.height, sizes) for picture in pictures}
    if not first:
        context.processes.wait()  # the first encodes, the others map what it wrote
    latents = encode_pictures(family, buckets, context.scratch, context.progress)
    examples, heldout = _examples(pictures, latents, settings, context)
    captions = {caption for example in (*examples, *heldout) for caption in example.captions}
    texts = encode_captions(family, captions, context.scratch, context.progress)
    if first:
        context.processes.wait()

    factors, parents = _first_factors(inputs, settings, context, family.spec)
    adapters = Adapters(factors, next(family.transformer.parameters()).device)
    state = State(context.scratch, adapters, settings.weight_decay)
    _check_kept(state.history, context.out)

    dtype = _precision(settings, adapters.flat.device)
    steps_per_epoch = len(epoch_batches(examples, 1, settings.batch, context.seed))
    steps = steps_per_epoch * settings.epochs
    facts = {
        "settings": settings.model_dump(mode="json"),
        "exposures": settings.exposures,
        "pictures": _count(pictures),
        "steps": steps,
        "layers": len(factors),
        "precision": str(dtype).removeprefix("torch."),
    }
    base = add([], "base", name=context.base_name, sha256=context.base_sha256)
    data = [inputs.lineage(name) for name in settings.datasets]
    this_run = add([base, *data, *parents], "run", name=context.name, seed=context.seed, version=__version__, **facts)
    words = _kohya_words(settings, context, pictures, buckets, steps)

    def keep(epoch: int, step: int) -> str:
        path, draft = context.out / _file(epoch), context.scratch / "draft.safetensors"
        lora = adapters.lora()
        write_lora(draft, lora, {})  # the history names the hash of the tensors, and stands before them in the file
        lineage = _checkpoint(this_run, epoch, step, draft)
        about = _about(context, settings, family.spec, epoch)
        write_lora(path, lora, header.build(about, lineage, **words, ss_epoch=str(epoch), ss_steps=str(step)))
        return sha256_file(path)

    train(
        family, state, examples, heldout, texts, settings,
        seed=context.seed, dtype=dtype, progress=context.progress, keep=keep,
        processes=context.processes, record=context.record,
    )  # fmt: skip
    if not first:
        return Artifact("run", "", context.out)
    rows = state.history.rows(steps_per_epoch)
    write_atomic(context.out / METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode())
    write_json(context.out / "run.json", facts)
    kept = sorted(state.history.kept)
    write_models(context.out, [(f"{context.name}@{epoch}", epoch, _file(epoch)) for epoch in kept])
    checkpoints = [_checkpoint(this_run, e, e * steps_per_epoch, context.out / _file(e)) for e in kept]
    return context.commit("run", add(checkpoints, "checkpoints", name=context.name))


@dataclass(frozen=True)
class Picture:
    """An item with its share of the run and its file."""

    item: Item
    share: Share
    path: Path


def _pictures(inputs: Inputs, settings: Settings, context: Context) -> list[Picture]:
    """The pictures of every share.

    Raises InputError for a subset that is missing, has nothing to train on, or lacks the sentences that are asked for.
    """
    field = f"stages.{context.name}.data.subset"
    pictures = []
    for share in settings.data:
        folder = inputs.artifact(share.stage or settings.dataset).path
        items = read_items(folder)
        own = [item for item in items if item.subset == share.subset]
        if not own:
            known = ", ".join(dict.fromkeys(item.subset for item in items))
            raise InputError(field, share.subset, f"no such subset; the data set has {known}")
        if all(item.split == "heldout" for item in own):
            raise InputError(field, share.subset, "all its pictures are held out; train on another subset")
        silent = sum(not item.sentence for item in own)
        if settings.caption == "sentence" and silent:
            raise InputError(
                field, share.subset, f'{silent} pictures have no sentence; write them or use caption = "tags"'
            )
        pictures += [Picture(item, share, folder / item.image) for item in own]
    return pictures


def _examples(
    pictures: Sequence[Picture], latents: Mapping[Path, Tensor], settings: Settings, context: Context
) -> tuple[list[Example], list[Example]]:
    """What is trained on, and what the held-out loss is measured on."""
    examples, heldout = [], []
    for picture in pictures:
        item, repeats = picture.item, picture.share.repeats
        if item.split == "train":
            captions = captions_of(item, repeats, settings, context.seed)
            examples.append(Example(item, latents[picture.path], repeats, captions))
        elif settings.validation:
            captions = [plain_caption(item, settings.caption_rules)]
            heldout.append(Example(item, latents[picture.path], 0, captions))
    if settings.validation and not heldout:
        note = "  no picture is held out, so no held-out loss is measured"
        context.progress.console.print(note, style="yellow", highlight=False)
    return examples, heldout


def _first_factors(
    inputs: Inputs, settings: Settings, context: Context, spec: FamilySpec
) -> tuple[dict[str, Factors], list[Lineage]]:
    """The factors that training begins with, in the model's order, and the history of the LoRA that they come from.

    Layers of `start` beyond the targets are trained too, or its change would be lost.
    """
    targets = spec.targets(settings.targets)
    fresh = fresh_factors(targets, settings.rank, settings.alpha, context.seed)
    if settings.start is None:
        return fresh, []
    model = inputs.model(settings.start)
    found = read_lora(model.path, spec)
    start = regauge(found, settings.rank, settings.alpha, context.seed)
    ranks = sorted({factors.rank for factors in found.modules.values()})
    note = f"  starts from {model.name}: rank {ranks[-1]}, alpha {found.trained_alpha or ranks[-1]:g}"
    note += f" → rank {settings.rank}, alpha {settings.alpha:g}, the same change of the base"
    if beyond := set(start.modules) - set(fresh):
        note += f"; {len(beyond)} layers beyond {settings.targets} are trained too"
    context.progress.console.print(note, highlight=False)
    both = {**fresh, **start.modules}
    ordered = {linear.name: both[linear.name] for linear in spec.linears if linear.name in both}
    return ordered, [header.lineage_of(found, model.sha256)]


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
            raise StateError(path, "is missing" if not path.is_file() else "was changed since it was written")


def _checkpoint(this_run: Lineage, epoch: int, step: int, weights: Path) -> Lineage:
    return add([this_run], "checkpoint", epoch=epoch, step=step, payload_sha256=payload_sha256(weights))


def _about(context: Context, settings: Settings, spec: FamilySpec, epoch: int) -> header.Facts:
    character = context.character
    return header.Facts(
        title=f"{character.name} {context.name} epoch {epoch}", author=character.author.name, license=character.license,
        trigger=character.trigger, architecture=spec.architecture, resolution=settings.resolution, date=context.date,
    )  # fmt: skip


def _kohya_words(
    settings: Settings, context: Context, pictures: Sequence[Picture], buckets: Mapping[Path, Size], steps: int
) -> dict[str, str]:
    """What kohya's tools write about a training and other tools read."""
    tags: dict[str, Counter[str]] = {_label(share): Counter() for share in settings.data}
    trained = [picture for picture in pictures if picture.item.split == "train"]
    for picture in trained:
        tags[_label(picture.share)].update(split_tags(picture.item.tags))
    counts = Counter(_label(picture.share) for picture in trained)
    sizes = Counter(buckets[picture.path] for picture in trained)
    datasets = [
        {
            "name": _label(share),
            "num_repeats": share.repeats,
            "img_count": counts[_label(share)],
            "keep_tokens": settings.keep_tokens,
            "shuffle_caption": settings.shuffle_tags,
            "caption_tag_dropout_rate": settings.tag_dropout,
            "caption_dropout_rate": settings.caption_dropout,
        }
        for share in settings.data
    ]
    bucket_info = {str(i): {"resolution": list(size), "count": sizes[size]} for i, size in enumerate(sorted(sizes))}
    return {
        "ss_output_name": context.name,
        "ss_learning_rate": repr(settings.learning_rate),
        "ss_optimizer": "torch.optim.AdamW",
        "ss_lr_scheduler": settings.schedule,
        "ss_lr_warmup_steps": str(settings.warmup),
        "ss_max_grad_norm": repr(settings.grad_clip),
        "ss_seed": str(context.seed),
        "ss_num_epochs": str(settings.epochs),
        "ss_max_train_steps": str(steps),
        "ss_num_train_images": str(sum(picture.share.repeats for picture in trained)),
        "ss_total_batch_size": str(settings.batch),
        "ss_gradient_checkpointing": str(settings.gradient_checkpointing),
        "ss_tag_frequency": _json({name: dict(count.most_common(TAGS_IN_HEADER)) for name, count in tags.items()}),
        "ss_datasets": _json(datasets),
        "ss_bucket_info": _json({"buckets": bucket_info}),
    }


def _count(pictures: Sequence[Picture]) -> dict[str, dict[str, int]]:
    """Pictures of each share, trained on and held out."""
    rows: dict[str, dict[str, int]] = {}
    for picture in pictures:
        row = rows.setdefault(_label(picture.share), {"train": 0, "heldout": 0})
        row[picture.item.split] += 1
    return rows


def _file(epoch: int) -> str:
    return f"epoch-{epoch:04d}.safetensors"


def _label(share: Share) -> str:
    return f"{share.stage}/{share.subset}" if share.stage else share.subset


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
