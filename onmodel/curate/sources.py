"""The pictures that a source of a curate stage offers: a toon set, a folder, the kept pictures of a
sample stage, or a subset of an earlier data set. Nothing is decoded here."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onmodel.curate.ingest import FolderScan, Reading, SourcePicture, scan_folder
from onmodel.curate.provenance import KnownPicture, model_of, read_known
from onmodel.dataset.captions import says_word, split_tags
from onmodel.dataset.manifest import read_items
from onmodel.dataset.pixels import WHITE
from onmodel.hashing import read_json, sha256_file
from onmodel.randomness import generator
from onmodel.records import Item
from onmodel.text import shown
from onmodel.toon.datasets import write_set


def toon_pictures(name: str, folder: Path, count: int | None) -> list[SourcePicture]:
    """Write the toon set `name` into `folder` and return its pictures."""
    shutil.rmtree(folder, ignore_errors=True)
    write_set(name, folder, count=count)
    return scan_folder(folder, "toon").pictures


def folder_pictures(folder: Path, reading: Reading, trigger: str) -> FolderScan:
    """What a folder offers. The origin and background of a picture are those of provenance.json,
    where the folder has one; a picture without a caption has the trigger. Raises InputError when
    the folder cannot be read."""
    scan = scan_folder(folder, f"folder:{folder.name}", reading)
    known = read_known(folder)
    pictures = [_with_provenance(picture, known.of(picture.path)) for picture in scan.pictures]
    return scan._replace(pictures=[_with_trigger(picture, trigger) for picture in pictures])


def scan_notes(scan: FolderScan, tagger: str = "") -> list[str]:
    """Lines about a folder: its captions, its masks, and what is left alone. `tagger` tags pictures
    without a caption."""
    notes = list(scan.notes)
    if scan.uncaptioned:
        count = f"{scan.uncaptioned} of {len(scan.pictures)} pictures have no caption"
        given = scan.pictures[0].reading.default_caption
        notes.append(
            f"{count}: the trigger and the tagger's tags are shown with them"
            if given is None and tagger
            else f"{count}: the trigger alone is shown with them"
            if given is None
            else f"{count}: {shown(repr(given))} is shown with them"
        )
    if scan.masks:
        notes.append(f"{scan.masks} masks are used, found by their names")
    return notes


def _with_trigger(picture: SourcePicture, trigger: str) -> SourcePicture:
    """The picture; without a caption, its tags hold the trigger."""
    if picture.captioned or says_word(", ".join(picture.tags), trigger):
        return picture
    return replace(picture, tags=(trigger, *picture.tags))


def sampled_pictures(folder: Path) -> list[SourcePicture]:
    """The kept pictures of a sample stage's artifact."""
    pictures = []
    for row in read_json(folder / "pictures.json"):
        if row["kept"]:
            origin = f"generated:{row['model_sha256']}"
            path, tags = folder / row["file"], tuple(split_tags(row["tags"]))
            pictures.append(SourcePicture(path, tags, row["sentence"], origin))
    return pictures


def subset_pictures(folder: Path, subset: str) -> list[SourcePicture]:
    """The pictures of one subset of an earlier data set, with captions, masks and origins."""
    return [_from_item(item, folder) for item in read_items(folder) if item.subset == subset]


def shuffled(pictures: Sequence[SourcePicture], seed: int, place: str) -> list[SourcePicture]:
    """The pictures in a random order. `place` names their content, not their path: the same recipe
    chooses the same pictures wherever a folder lies, and two sources that draw on one place shuffle
    it alike."""
    order = generator(seed, "choose pictures", place).permutation(len(pictures))
    return [pictures[i] for i in order]


def _with_provenance(picture: SourcePicture, known: KnownPicture | None) -> SourcePicture:
    """The picture with the origin, rights and background that provenance.json states for these
    bytes."""
    if known is None or sha256_file(picture.path) != known.sha256:
        return picture
    origin = known.origin
    if not model_of(origin):
        origin = f"told:{origin} ({known.rights})"
    reading = picture.reading
    if known.background:
        reading = reading.model_copy(update={"background": known.background})
    return replace(picture, origin=origin, reading=reading)


def _from_item(item: Item, folder: Path) -> SourcePicture:
    alpha = item.mask == "alpha"
    return SourcePicture(
        path=folder / item.image,
        tags=tuple(split_tags(item.tags)),
        sentence=item.sentence,
        origin=item.origin,
        kept_first=item.kept_first,
        kept_last=item.kept_last,
        mask=folder / item.mask if item.mask and not alpha else None,
        reading=Reading(alpha_mask=alpha, background=item.paper or WHITE),
        file=item.file,
    )
