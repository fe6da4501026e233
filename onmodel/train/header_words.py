"""What kohya's tools write about a training into a LoRA's header, and other tools read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from onmodel.dataset.captions import split_tags
from onmodel.train.examples import TrainPicture, count_pictures
from onmodel.train.optimizers import OPTIMIZERS
from onmodel.train.options import Options, TrainSubset

MOST_TAGS = 100  # the most frequent of each subset


def kohya_words(
    name: str,
    options: Options,
    seed: int,
    subsets: Sequence[TrainSubset],
    pictures: Sequence[TrainPicture],
    steps: int,
) -> dict[str, str]:
    """The `ss_` fields of a run called `name`."""
    row = OPTIMIZERS[options.optimizer]
    trained = [picture for picture in pictures if picture.item.split == "train"]
    regularisation = sum(p.subset.repeats for p in trained if p.subset.regularisation)
    return {
        "ss_output_name": name,
        "ss_learning_rate": repr(options.learning_rate),
        **_rates(options),
        "ss_optimizer": f"{row.module}.{row.name}",
        "ss_optimizer_args": _json(options.optimizer_args) if options.optimizer_args else "",
        "ss_lr_scheduler": options.schedule,
        "ss_lr_warmup_steps": str(options.warmup),
        "ss_max_grad_norm": repr(options.grad_clip),
        "ss_seed": str(seed),
        "ss_num_epochs": str(options.epochs),
        "ss_max_train_steps": str(steps),
        "ss_num_train_images": str(sum(p.subset.repeats for p in trained) - regularisation),
        "ss_num_reg_images": str(regularisation),
        "ss_prior_loss_weight": repr(options.prior_weight),
        "ss_total_batch_size": str(options.batch),
        "ss_gradient_accumulation_steps": str(options.gradient_accumulation),
        **_network_words(options),
        **({"ss_noise_offset": repr(options.noise_offset)} if options.noise_offset else {}),
        "ss_tag_frequency": _json(_tag_frequency(subsets, trained)),
        "ss_datasets": _json(_datasets(subsets, trained)),
        "ss_bucket_info": _json({"buckets": _buckets(trained)}),
    }


def _rates(options: Options) -> dict[str, str]:
    """The rates of the parts, where what encodes text is trained too. kohya's tools train the text
    conditioner at the rate of the transformer and have no word for another."""
    rates = options.text_rates
    if not rates:
        return {}
    encoder = rates.get("text encoder")
    return {
        "ss_unet_lr": repr(options.learning_rate),
        "ss_text_encoder_lr": "" if encoder is None else repr(encoder),
    }


def _tag_frequency(
    subsets: Sequence[TrainSubset], trained: Sequence[TrainPicture]
) -> Mapping[str, Mapping[str, int]]:
    tags: dict[str, Counter[str]] = {subset.label: Counter() for subset in subsets}
    for label, item in dict.fromkeys((picture.subset.label, picture.item) for picture in trained):
        tags[label].update(split_tags(item.tags))
    return {label: dict(count.most_common(MOST_TAGS)) for label, count in tags.items()}


def _datasets(
    subsets: Sequence[TrainSubset], trained: Sequence[TrainPicture]
) -> list[dict[str, object]]:
    counts = count_pictures(trained)
    return [
        {
            "name": subset.label,
            "num_repeats": subset.repeats,
            "img_count": counts[subset.label]["train"],
            "is_reg": subset.regularisation,
            "keep_tokens": subset.keep_tokens,
            "shuffle_caption": subset.shuffle_tags,
            "caption_tag_dropout_rate": subset.tag_dropout,
            "caption_dropout_rate": subset.caption_dropout,
            "flip_aug": subset.flip,
        }
        for subset in subsets
    ]


def _buckets(trained: Sequence[TrainPicture]) -> dict[str, dict[str, object]]:
    sizes = Counter(picture.size for picture in trained)
    return {
        str(i): {"resolution": list(size), "count": sizes[size]}
        for i, size in enumerate(sorted(sizes))
    }


def _network_words(options: Options) -> dict[str, str]:
    """What LyCORIS calls a network that is not a plain LoRA."""
    if options.network == "lora":
        return {}
    if options.network == "dora":
        return {
            "ss_network_module": "lycoris.kohya",
            "ss_network_args": _json({"algo": "lora", "dora_wd": True}),
        }
    return {
        "ss_network_module": "lycoris.kohya",
        "ss_network_args": _json({"algo": "lokr", "factor": options.lokr_factor}),
        "ss_network_dim": "Dynamic" if options.ranks else str(options.rank),
        "ss_network_alpha": "" if options.ranks else f"{options.alpha:g}",
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
