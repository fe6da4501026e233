"""Pictures that sources offer, decoded, checked and written into a data set's folder."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from onmodel.curate.duplicates import Thumb
from onmodel.curate.ingest import SourcePicture, check
from onmodel.curate.provenance import model_of
from onmodel.dataset.decoder import Decoder
from onmodel.dataset.decoding import Decode, DecodedPicture, Refused, decode
from onmodel.dataset.manifest import Refusal
from onmodel.errors import InputError
from onmodel.events import Task
from onmodel.hashing import write_atomic
from onmodel.records import Item

NO_EFFECT = "white everywhere"
DARK = 2  # levels of 256 that count as black
_MASKS = {
    "black everywhere": (
        "nothing of these pictures is learnt; white (255) is what is learnt: invert the masks, or"
        " save those of 0 and 1 with 0 and 255"
    ),
    "transparent everywhere": (
        "nothing of these pictures is learnt; leave out alpha_mask, or save them with their colours"
    ),
    NO_EFFECT: "they change nothing",
}


@dataclass(frozen=True)
class Offer:
    """The pictures that one source offers to a subset, in the order in which they are taken.

    At most `count` are taken (None: all), each path once per `pool`. `trusted` files were written
    by this package and are decoded in this process; others in the decoder's own. `tagger` tags
    pictures without a caption.
    """

    subset: str
    pictures: Sequence[SourcePicture]
    count: int | None
    pool: str
    trusted: bool
    tagger: str | None = None


@dataclass
class Collected:
    """The pictures taken so far: `items` and their `thumbs` in one order; files in `folder`.
    `untagged`: a tagger → the items without a caption that it is to tag."""

    folder: Path
    refused: list[Refusal]
    items: list[Item] = field(default_factory=list)
    thumbs: list[Thumb] = field(default_factory=list)
    untagged: dict[str, list[int]] = field(default_factory=dict)
    _contents: set[tuple[str, str]] = field(default_factory=set)  # (subset, content)
    _masks: dict[str, Counter[str]] = field(default_factory=dict)  # subset → kinds of masks
    _written: dict[str, str] = field(default_factory=dict)  # file of the data set → its SHA-256

    def take(self, source: SourcePicture, subset: str, decode: Decode) -> None:
        """Decode a picture and write it. Raises Refused with the reason when it may not enter."""
        picture, mask = check(source, decode)
        item = item_of(source, picture, mask, subset)
        if item.mask:
            kind = _kind_of_mask(picture, mask)
            self._masks.setdefault(subset, Counter()).update([kind])
        if (subset, item.content) in self._contents:
            raise Refused(f"the same picture is in {subset} already")
        sha256 = self._written.setdefault(item.image, picture.sha256)
        self.items.append(replace(item, sha256=sha256))
        if sha256 == picture.sha256:  # else the same pixels lie there already
            write_atomic(self.folder / item.image, picture.data)
        if mask is not None:
            write_atomic(self.folder / item.mask, mask.data)
        self.thumbs.append(Thumb(picture.width / picture.height, np.asarray(picture.small)))
        self._contents.add((subset, item.content))

    def check_subsets(self, names: Iterable[str], field: str) -> None:
        """Raise InputError for a subset without a picture; `field` is that of all subsets."""
        filled = {item.subset for item in self.items}
        for name in names:
            if name not in filled:
                first = self.refused[:1]
                why = "".join(f"; the first: {row.file}, {row.reason}" for row in first)
                raise InputError(f"{field}.{name}", "no picture", f"nothing remains of it{why}")

    def check_masks(self, field: str) -> list[str]:
        """Lines about masks under which nothing of a picture is learnt, or all of it. Raises
        InputError for a subset of which nothing is learnt."""
        lines = []
        counts = Counter(item.subset for item in self.items)
        for subset, kinds in self._masks.items():
            for kind, meaning in _MASKS.items():
                number = kinds[kind]
                if number and number == counts[subset] and kind != NO_EFFECT:
                    raise InputError(f"{field}.{subset}", f"{number} of {number} {kind}", meaning)
                if number and (kind != NO_EFFECT or number == kinds.total()):
                    lines.append(
                        f"{subset}: {number} of {kinds.total()} masks are {kind}; {meaning}"
                    )
        return lines


def _kind_of_mask(picture: DecodedPicture, mask: DecodedPicture | None) -> str:
    """What a mask does: "" for one that weighs some of its picture, else a key of _MASKS. A
    picture's own transparency is judged by what shows of the picture."""
    if mask is None:
        colours = [low == high for low, high in _extrema(picture)]
        flat = "#" + "".join(f"{low:02x}" for low, _ in _extrema(picture))
        return "transparent everywhere" if all(colours) and flat == picture.background else ""
    darkest, lightest = _extrema(mask)[0]
    if lightest <= DARK:
        return "black everywhere"
    return NO_EFFECT if darkest >= 255 - DARK else ""


def _extrema(picture: DecodedPicture) -> list[tuple[int, int]]:
    """Lowest and highest value of red, green and blue."""
    pixels = np.asarray(picture.small)
    return [(int(band.min()), int(band.max())) for band in np.moveaxis(pixels, -1, 0)]


def collect(offers: Iterable[Offer], folder: Path, refused: list[Refusal], task: Task) -> Collected:
    """Take pictures of the offers, one after another. `refused` are files that scanning refused;
    those that decoding refuses are added. `task` advances by pictures."""
    found = Collected(folder, refused)
    taken: set[tuple[str, Path]] = set()
    with Decoder() as decoder:
        for offer in offers:
            count = 0
            for source in offer.pictures:
                task.advance()
                if (offer.pool, source.path) in taken or count == offer.count:
                    continue
                try:
                    found.take(source, offer.subset, decode if offer.trusted else decoder)
                except Refused as reason:
                    refused.append(Refusal(source.name, str(reason)))
                    continue
                if offer.tagger and not source.captioned:
                    found.untagged.setdefault(offer.tagger, []).append(len(found.items) - 1)
                taken.add((offer.pool, source.path))
                count += 1
    return found


def item_of(
    source: SourcePicture, picture: DecodedPicture, mask: DecodedPicture | None, subset: str
) -> Item:
    """The manifest's entry of a picture, without its group and split.

    The file of a generated picture is named by its pixels, of any other by its bytes.
    """
    pixels = picture.pixels if model_of(source.origin) else ""
    mask_file = "alpha" if source.reading.alpha_mask and picture.background else ""
    if mask is not None:
        mask_file = f"masks/{mask.sha256}{mask.suffix}"
    return Item(
        image=f"images/{pixels or picture.sha256}{picture.suffix}",
        sha256=picture.sha256,
        width=picture.width,
        height=picture.height,
        subset=subset,
        tags=", ".join(source.tags),
        sentence=source.sentence,
        group=0,
        split="train",
        origin=source.origin,
        file=source.name,
        mask=mask_file,
        kept_first=source.kept_first,
        kept_last=source.kept_last,
        paper=picture.background,
        profile=picture.profile,
        pixels=pixels,
    )
