"""From the pictures of data sets to what the loop trains on: sizes, captions, masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from onmodel.dataset.buckets import Size, bucket_of, load_weights
from onmodel.dataset.captions import captions_of, flips_of, plain_caption
from onmodel.dataset.latents import View
from onmodel.dataset.manifest import read_items
from onmodel.dataset.pixels import WHITE
from onmodel.dataset.summary import TrainSample
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.records import Item
from onmodel.train.loop import Example
from onmodel.train.options import Options, TrainSubset


@dataclass(frozen=True)
class TrainPicture:
    """A picture of a data set at one size, with its subset, its file and the file of its mask."""

    item: Item
    subset: TrainSubset
    path: Path
    mask: Path | None
    size: Size

    @property
    def views(self) -> list[View]:
        """What is encoded of it: both sides where it may be mirrored."""
        flips = (False, True) if self.subset.flip and self.item.split == "train" else (False,)
        return [View(self.path, self.size, flip, self.item.paper or WHITE) for flip in flips]

    @property
    def sample(self) -> TrainSample:
        return TrainSample(self.subset.label, self.item, self.size, self.subset)


def pictures_of(
    subsets: Sequence[tuple[TrainSubset, Path]], multiple: int, field: str
) -> list[TrainPicture]:
    """The pictures of every subset, each at all of its resolutions.

    `subsets`: each with the folder of its data set; sides of a size are multiples of `multiple`
    pixels. Raises InputError about `field` for a subset whose pictures are all held out, or that
    lacks the sentences that its captions need.
    """
    pictures = []
    for subset, folder in subsets:
        own = [item for item in read_items(folder) if item.subset == subset.subset]
        if all(item.split == "heldout" for item in own):
            raise InputError(
                field, subset.subset, "all its pictures are held out; train on another subset"
            )
        silent = sum(not item.sentence for item in own)
        if subset.caption == "sentence" and silent:
            remedy = f'{silent} pictures have no sentence; write them or use caption = "tags"'
            raise InputError(field, subset.subset, remedy)
        for item in own:
            path = folder / item.image
            mask = path if item.mask == "alpha" else folder / item.mask if item.mask else None
            for resolution in subset.resolutions:
                size = bucket_of(item.width, item.height, resolution, subset, multiple)
                pictures.append(TrainPicture(item, subset, path, mask, size))
    return pictures


def examples_of(
    pictures: Sequence[TrainPicture],
    latents: Mapping[View, Tensor],
    options: Options,
    seed: int,
    downscale: int,
) -> tuple[list[Example], list[Example]]:
    """What is trained on, and what the held-out loss is measured on. Regularisation pictures are
    never held out. `downscale`: pixels per latent."""
    examples, heldout = [], []
    for picture in pictures:
        item, subset = picture.item, picture.subset
        sides = [latents[view] for view in picture.views]
        mask = None
        if picture.mask is not None:
            mask = torch.from_numpy(
                load_weights(picture.mask, item.mask == "alpha", picture.size, downscale)
            )
        rules = subset.caption_rules
        if item.split == "train":
            captions = captions_of(item, subset.repeats, options.epochs, rules, seed)
            prior = options.prior_weight if subset.regularisation else 1.0
            flipped, flips = None, list[bool]()
            if subset.flip:
                flipped, flips = sides[1], flips_of(item, subset.repeats * options.epochs, seed)
            examples.append(
                Example(
                    item=item,
                    latents_chw=sides[0],
                    repeats=subset.repeats,
                    captions=captions,
                    flipped_chw=flipped,
                    flips=flips,
                    mask_hw=mask,
                    weight=subset.loss_weight * prior,
                )
            )
        elif options.validation and not subset.regularisation:
            caption = plain_caption(item, rules)
            heldout.append(Example(item, sides[0], 0, [caption], mask_hw=mask))
    return examples, heldout


def check_heldout(heldout: Sequence[Example], options: Options, events: Events) -> None:
    """Raise InputError where checkpoints are kept by a loss that cannot be measured; a note where
    it would only have been told."""
    if heldout:
        return
    if options.keep_best is not None:
        remedy = "no picture is held out to judge by; set heldout in curate"
        raise InputError("keep_best", options.keep_best, remedy)
    if options.validation:
        events.note("no picture is held out, so no held-out loss is measured", "warning")


def count_pictures(pictures: Sequence[TrainPicture]) -> dict[str, dict[str, int]]:
    """Subset → its pictures that are trained on, and those held out."""
    rows: dict[str, dict[str, int]] = {}
    seen = dict.fromkeys((p.subset.label, p.item.sha256, p.item.split) for p in pictures)
    for label, _, split in seen:
        rows.setdefault(label, {"train": 0, "heldout": 0})[split] += 1
    return rows
