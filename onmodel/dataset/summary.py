"""Notes before a training starts: exposures, bucket sizes, crops, and truncated captions."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from onmodel.dataset.buckets import Size, cut_away, enlargement
from onmodel.dataset.rules import SubsetConfig
from onmodel.events import Events, first
from onmodel.records import Item

NAMED = 5  # pictures that are named in a list; the others are counted
NOTICED = 0.1  # share of a picture that is cut away before it is named


@dataclass(frozen=True)
class TrainSample:
    """A picture of a subset at one training size, with the subset's settings."""

    subset: str
    item: Item
    size: Size
    rules: SubsetConfig

    @property
    def cut(self) -> float:
        return cut_away(self.item.width, self.item.height, self.size)

    @property
    def name(self) -> str:
        """The file's name, as the user knows it."""
        return self.item.file or self.item.image

    def as_dict(self, epochs: int, lost: Mapping[str, Sequence[str]]) -> dict[str, object]:
        """Its row of pictures.json; `exposures` are those at this size, 0 when it is held out."""
        return {
            "subset": self.subset,
            "file": self.name,
            "sha256": self.item.sha256,
            "split": self.item.split,
            "width": self.item.width,
            "height": self.item.height,
            "bucket": list(self.size),
            "cut_away": round(self.cut, 4),
            "scale": round(enlargement(self.item.width, self.item.height, self.size), 4),
            "exposures": self.rules.repeats * epochs * (self.item.split == "train"),
            "loss_weight": self.rules.loss_weight,
            "mask": bool(self.item.mask),
            "caption_losses": list(lost.get(self.item.sha256, ())),
        }


def say_exposures(shots: Sequence[TrainSample], epochs: int, events: Events) -> None:
    """A note for each subset: pictures, exposures of each, and caption rules."""
    for subset in dict.fromkeys(shot.subset for shot in shots):
        own = [shot for shot in shots if shot.subset == subset]
        rules = own[0].rules
        trained = {shot.item.sha256 for shot in own if shot.item.split == "train"}
        sizes = len(rules.resolutions)
        product = f"{rules.repeats} repeats × {epochs} epochs" + f" × {sizes} resolutions" * (
            sizes > 1
        )
        told = [
            (
                f"{len(trained)} pictures, each seen {rules.repeats * epochs * sizes} times"
                f" ({product})"
            ),
            *_rules(rules, {shot.item.kept_first for shot in own}),
        ]
        if masks := len({shot.item.sha256 for shot in own if shot.item.mask}):
            told.append(f"{masks} masks")
        events.note(f"{subset}: {', '.join(told)}")


def _rules(rules: SubsetConfig, kept: Collection[int | None]) -> list[str]:
    """The caption rules in words. `kept`: numbers of first tags that pictures keep in their place,
    None where the rules say it."""
    numbers = sorted({rules.keep_tokens if number is None else number for number in kept})
    first = " or ".join(map(str, numbers))
    said = []
    if rules.caption != "tags":
        said.append("sentences" if rules.caption == "sentence" else "tags and sentences in turn")
    if rules.caption != "sentence" and rules.shuffle_tags:
        said.append(f"tags shuffled behind the first {first}")
    if rules.tag_dropout:
        said.append(f"{rules.tag_dropout:.0%} of tags dropped")
    if rules.caption_dropout:
        said.append(f"{rules.caption_dropout:.0%} of captions dropped")
    if rules.caption_dropout_every:
        said.append(f"no captions in every {rules.caption_dropout_every}. epoch")
    if rules.flip:
        said.append("mirrored half the time")
    if rules.regularisation:
        said.append("regularisation")
    if rules.loss_weight != 1:
        said.append(f"loss × {rules.loss_weight:g}")
    return said


def say_crops(shots: Sequence[TrainSample], events: Events) -> None:
    """Notes about the buckets, the share of the area that is cropped, and the pictures that lose
    most."""
    sizes = Counter(shot.size for shot in shots)
    listed = ", ".join(
        f"{count} × {width}×{height}" for (width, height), count in sorted(sizes.items())
    )
    events.note(f"buckets: {listed}")
    area = sum(shot.item.width * shot.item.height for shot in shots)
    lost = sum(shot.item.width * shot.item.height * shot.cut for shot in shots)
    events.note(f"cut away to fit them: {lost / area:.1%} of the pictures' area")
    rows = sorted(
        ((shot.cut, shot) for shot in shots if shot.cut >= NOTICED), key=lambda row: -row[0]
    )
    lines = [
        f"{shot.name}: {cut:.0%} of {shot.item.width}×{shot.item.height} for"
        f" {shot.size[0]}×{shot.size[1]}"
        for cut, shot in rows
    ]
    _say_first(lines, f"pictures lose {NOTICED:.0%} or more", events)
    enlarged = [
        f"{shot.name}: ×{scale:.2f}"
        for shot in shots
        if (scale := enlargement(shot.item.width, shot.item.height, shot.size)) > 1.001
    ]
    _say_first(enlarged, "pictures are enlarged", events)


def say_captions(
    shots: Sequence[TrainSample], losses: Callable[[str], list[str]], events: Events
) -> dict[str, list[str]]:
    """A note about captions that exceed the tokenizer limit. Returns SHA-256 of a picture → what is
    lost of its captions."""
    found: dict[str, list[str]] = {}
    names = {}
    for shot in shots:
        said = {"tags": [shot.item.tags], "sentence": [shot.item.sentence]}
        captions = said.get(shot.rules.caption, [shot.item.tags, shot.item.sentence])
        lines = [line for caption in captions for line in losses(caption)]
        if lines:
            found[shot.item.sha256], names[shot.item.sha256] = lines, shot.name
    lines = [f"{names[sha256]}: {'; '.join(lost)}" for sha256, lost in found.items()]
    _say_first(lines, "captions are not read whole", events)
    return found


def _say_first(lines: Sequence[str], what: str, events: Events) -> None:
    if lines:
        events.note(f"{len(lines)} {what}:", "warning", first(lines, NAMED, "pictures.json"))
