"""train: subsets of data sets, each with its repeats, to a LoRA and its checkpoints. Refining is this, with `start`.

Killed at any step and started again, it ends with the same bytes.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, computed_field, field_validator
from torch import Tensor

from onmodel import __version__
from onmodel.dataset.buckets import Size, bucket_sizes, nearest_bucket
from onmodel.dataset.captions import plain_caption, split_tags
from onmodel.dataset.latents import encode_pictures
from onmodel.dataset.manifest import read_items
from onmodel.errors import InputError, StateError
from onmodel.hashing import sha256_file, sweep, tree_hash, write_atomic, write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.models import header
from onmodel.models.family import Family, FamilySpec, Text
from onmodel.models.lora import BLOCKS_KEY, read_lora, regauge
from onmodel.models.weights import payload_sha256
from onmodel.policy import check_text
from onmodel.records import Artifact, Item
from onmodel.sample.pictures import Request, Sampling, parameters, png_bytes
from onmodel.sample.sampler import Job, generate
from onmodel.stages.base import Context, Inputs, Plan, StageSettings, write_models
from onmodel.train.adapters import Adapters, Trained, fresh_factors
from onmodel.train.loop import Example, captions_of, epoch_steps, train
from onmodel.train.optimizers import OPTIMIZERS, check_device, optimizer_class
from onmodel.train.options import Options, Preview
from onmodel.train.peft_layers import DoraAdapters, LokrAdapters
from onmodel.train.state import History, State

TAGS_IN_HEADER = 100  # the most frequent of each subset
METRICS = "metrics.jsonl"


class Share(StageSettings):
    """One subset and how often an epoch shows each of its pictures. `stage` names another data set than the run's."""

    subset: str
    repeats: int = Field(1, ge=1)
    stage: str | None = None


class StartFile(StageSettings):
    """A LoRA from elsewhere: a safetensors file in any layout, or a PEFT folder. It is known by its content."""

    lora: Path = Field(exclude=True)

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def sha256(self) -> str | None:
        """Hash of the file or folder; None when it is not there."""
        if self.lora.is_dir():
            return tree_hash(self.lora)
        return sha256_file(self.lora) if self.lora.is_file() else None


class Settings(StageSettings, Options):
    """`dataset` is a curate stage. `start` is a model to train on from, brought to this run's rank and alpha: a
    reference such as `merged`, or `{ lora = "old.safetensors" }`.
    """

    do: Literal["train"]
    dataset: str
    data: list[Share] = Field(min_length=1)
    start: str | StartFile | None = None

    @field_validator("data")
    @classmethod
    def _once(cls, data: list[Share]) -> list[Share]:
        seen = Counter((share.stage, share.subset) for share in data)
        for (_, subset), count in seen.items():
            if count > 1:
                raise ValueError(f"names {subset!r} {count} times; add up its repeats")
        return data

    def needs(self) -> list[str]:
        return [*self.datasets, *([self.start] if isinstance(self.start, str) else [])]

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
    out. Raises InputError for a subset that its data set does not have, or an optimizer or start that is not there.
    """
    optimizer_class(settings)
    if isinstance(settings.start, StartFile) and settings.start.sha256 is None:
        raise InputError("start.lora", settings.start.lora, "no such file; name a .safetensors or a PEFT folder")
    shown = 0
    for share in settings.data:
        counts = before[share.stage or settings.dataset].counts
        if share.subset not in counts:
            known = ", ".join(counts) or "none; name a curate stage"
            raise InputError("data.subset", share.subset, f"subsets of {share.stage or settings.dataset}: {known}")
        shown += counts[share.subset] * share.repeats
    kept = sum(settings.kept(epoch) for epoch in range(1, settings.epochs + 1))
    if settings.keep_last or settings.keep_best:
        kept = min(kept, (settings.keep_last or 1) + (settings.keep_best or 0))  # the end always stays
    steps = math.ceil(math.ceil(shown / settings.batch) / settings.gradient_accumulation) * settings.epochs
    return Plan(steps=steps, exposures=settings.exposures, models=kept)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Train, keeping checkpoints. Raises InputError for data or a start that does not fit, StateError when damaged."""
    torch.set_num_threads(context.threads)
    sweep(context.scratch)
    sweep(context.out)
    family = context.family()
    if family.spec.prediction != "flow":
        raise InputError("base", family.spec.name, f"predicts {family.spec.prediction}; only flow models are trained")
    device = next(family.transformer.parameters()).device
    check_device(settings, device)
    for prompt in settings.preview.prompts if settings.preview else []:
        check_text(prompt, f"stages.{context.name}.preview.prompts")
    adapters, parents = _adapters(inputs, settings, context, family)
    pictures = _pictures(inputs, settings, context)
    sizes = bucket_sizes(settings.resolution, family.spec.multiple)
    buckets = {picture.path: nearest_bucket(picture.item.width, picture.item.height, sizes) for picture in pictures}
    latents = encode_pictures(family, buckets, context.scratch, context.progress)
    examples, heldout = _examples(pictures, latents, settings, context)
    texts = _encode_captions(family, [*examples, *heldout], context)

    state = State(context.scratch, adapters, settings)
    _check_kept(state.history, context.out)

    dtype = _precision(settings, device)
    steps_per_epoch = len(epoch_steps(examples, 1, settings, context.seed))
    steps = steps_per_epoch * settings.epochs
    facts = {
        "settings": settings.model_dump(mode="json"),
        "exposures": settings.exposures,
        "pictures": _count(pictures),
        "steps": steps,
        "layers": len(adapters.parts),
        "precision": str(dtype).removeprefix("torch."),
    }
    base = add([], "base", name=context.base_name, sha256=context.base_sha256)
    data = [inputs.lineage(name) for name in settings.datasets]
    this_run = add([base, *data, *parents], "run", name=context.name, seed=context.seed, version=__version__, **facts)
    words = _kohya_words(settings, context, pictures, buckets, steps) | {BLOCKS_KEY: str(family.spec.blocks)}

    def keep(epoch: int, step: int) -> str:
        _remove_dropped(state.history, context.out)
        path, draft = context.out / _file(epoch), context.scratch / "draft.safetensors"
        saved = {"fp32": torch.float32, "bf16": torch.bfloat16}[settings.save_precision]
        adapters.write(
            draft, {}, saved
        )  # the history names the hash of the tensors, and stands before them in the file
        lineage = _checkpoint(this_run, epoch, step, draft)
        about = _about(context, settings, family.spec, epoch)
        adapters.write(path, header.build(about, lineage, **words, ss_epoch=str(epoch), ss_steps=str(step)), saved)
        return sha256_file(path)

    def preview(epoch: int) -> None:
        assert settings.preview is not None
        _preview(family, settings.preview, settings, context, epoch)

    train(
        family, state, examples, heldout, texts, settings,
        seed=context.seed, dtype=dtype, progress=context.progress, keep=keep, preview=preview,
    )  # fmt: skip
    _remove_dropped(state.history, context.out)
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
    if settings.keep_best is not None and not heldout:
        raise InputError("keep_best", settings.keep_best, "no picture is held out to judge by; set heldout in curate")
    if settings.validation and not heldout:
        note = "  no picture is held out, so no held-out loss is measured"
        context.progress.console.print(note, style="yellow", highlight=False)
    return examples, heldout


def _encode_captions(family: Family, examples: Sequence[Example], context: Context) -> dict[str, Text]:
    captions = sorted({caption for example in examples for caption in example.captions})
    texts = {}
    with context.progress.task("encode captions", total=len(captions)) as task:
        for caption in captions:
            (texts[caption],) = family.encode_text([caption])
            task.advance()
    return texts


def _adapters(inputs: Inputs, settings: Settings, context: Context, family: Family) -> tuple[Trained, list[Lineage]]:
    """What is trained, in the model's order, and the history of the LoRA that it begins with.

    Layers of `start` beyond the targets are trained too, or its change would be lost.
    """
    spec, device = family.spec, next(family.transformer.parameters()).device
    targets = spec.targets(settings.targets)
    for rule in settings.ranks:
        if not set(spec.matching("ranks.layers", rule.layers)) & set(targets):
            raise InputError("ranks.layers", rule.layers, f"matches no layer of targets = {settings.targets!r}")
    gauges = {linear.name: settings.gauge(linear.name) for linear in spec.linears}
    if settings.network == "lokr":
        if settings.start is not None:
            raise InputError("start", settings.start, 'a LoKr begins at nothing; train on with network = "lora"')
        return LokrAdapters(family, targets, gauges, settings.lokr_factor, context.seed, device), []
    factors, parents = fresh_factors(targets, gauges, context.seed), []
    if settings.start is not None:
        if isinstance(settings.start, str):
            model = inputs.model(settings.start)
            name, path, sha256 = model.name, model.path, model.sha256
        else:
            name, path, sha256 = settings.start.lora.name, settings.start.lora, str(settings.start.sha256)
        found = read_lora(path, spec, dora=settings.network == "dora")
        start = regauge(found, gauges, context.seed).modules
        ranks = sorted({row.rank for row in found.modules.values()})
        note = f"  starts from {name}: rank {ranks[-1]}, alpha {found.trained_alpha or ranks[-1]:g}"
        note += f" → rank {settings.rank}, alpha {settings.alpha:g}, the same change of the base"
        if beyond := set(start) - set(factors):
            note += f"; {len(beyond)} layers beyond {settings.targets} are trained too"
        context.progress.console.print(note, highlight=False)
        both = {**factors, **start}
        factors = {linear.name: both[linear.name] for linear in spec.linears if linear.name in both}
        parents = [header.lineage_of(found, sha256)]
    if settings.network == "dora":
        return DoraAdapters(family, factors, device), parents
    return Adapters(factors, device), parents


def _preview(family: Family, preview: Preview, settings: Settings, context: Context, epoch: int) -> None:
    """Draw the preview's prompts with the base as it is being trained."""
    side = settings.resolution // family.spec.multiple * family.spec.multiple
    width, height = (preview.size, preview.size) if isinstance(preview.size, int) else preview.size or (side, side)
    sampling = Sampling(preview.steps, preview.guidance, preview.shift, 1.0, width, height)
    jobs = [Job(prompt, preview.negative, preview.seed + i, width, height) for i, prompt in enumerate(preview.prompts)]
    made = generate(family, jobs, steps=preview.steps, guidance=preview.guidance, shift=preview.shift,
                    batch=settings.batch)  # fmt: skip
    for i, (job, image) in enumerate(made):
        text = parameters(context.base_sha256, Request(job.prompt, job.negative, job.seed), sampling)
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
            raise StateError(path, "is missing" if not path.is_file() else "was changed since it was written")


def _remove_dropped(history: History, out: Path) -> None:
    """Delete checkpoints that the saved state no longer names: by a keep-rule, or written just before a kill."""
    for path in out.glob("epoch-*.safetensors"):
        if path.name not in {_file(epoch) for epoch in history.kept}:
            path.unlink()


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
    row = OPTIMIZERS[settings.optimizer]
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
        "ss_optimizer": f"{row.module}.{row.name}",
        "ss_optimizer_args": _json(settings.optimizer_args) if settings.optimizer_args else "",
        "ss_lr_scheduler": settings.schedule,
        "ss_lr_warmup_steps": str(settings.warmup),
        "ss_max_grad_norm": repr(settings.grad_clip),
        "ss_seed": str(context.seed),
        "ss_num_epochs": str(settings.epochs),
        "ss_max_train_steps": str(steps),
        "ss_num_train_images": str(sum(picture.share.repeats for picture in trained)),
        "ss_total_batch_size": str(settings.batch),
        "ss_gradient_accumulation_steps": str(settings.gradient_accumulation),
        **_network_words(settings),
        "ss_tag_frequency": _json({name: dict(count.most_common(TAGS_IN_HEADER)) for name, count in tags.items()}),
        "ss_datasets": _json(datasets),
        "ss_bucket_info": _json({"buckets": bucket_info}),
    }


def _network_words(settings: Settings) -> dict[str, str]:
    """What LyCORIS calls a network that is no plain LoRA."""
    if settings.network == "lora":
        return {}
    if settings.network == "dora":
        return {"ss_network_module": "lycoris.kohya", "ss_network_args": _json({"algo": "lora", "dora_wd": True})}
    return {
        "ss_network_module": "lycoris.kohya",
        "ss_network_args": _json({"algo": "lokr", "factor": settings.lokr_factor}),
        "ss_network_dim": "Dynamic" if settings.ranks else str(settings.rank),
        "ss_network_alpha": "" if settings.ranks else f"{settings.alpha:g}",
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
