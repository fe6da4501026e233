"""Tags for pictures that came without a caption, from a tagger in WD v3 format.

General tags only: the name of a character is the trigger's affair, not the tagger's.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onmodel.curate.crop import Cropped
from onmodel.curate.workshop import Decision, Piece, Said, open_workshop
from onmodel.evaluate.observers import load_observers
from onmodel.evaluate.observers.source import SCHEME, wrong
from onmodel.evaluate.observers.tagger import Tagger
from onmodel.events import Events
from onmodel.hashing import hash_json, sha256_file
from onmodel.records import Item

CERTAIN = 0.35  # probability from which a tag is said, as taggers of this format are used
CHUNK = 16  # pictures in memory at a time
Scored = list[tuple[str, float]]  # tags with their probability, the surest first


def load_tagger(place: str) -> Tagger:
    """The tagger in a folder, or on the hub. Raises InputError."""
    tagger = load_observers("", {"tagger": place}, 1).tagger
    assert tagger is not None
    return tagger


def tagger_hash(place: str) -> str:
    """What a tagger is: its files, or its name on the hub. Raises InputError for a wrong one."""
    if error := wrong("tagger", place):
        raise error
    if place.startswith(SCHEME):
        return place
    names = ("model.onnx", "selected_tags.csv")
    return hash_json([sha256_file(Path(place) / name) for name in names])


def scored_tags(files: Sequence[Cropped], tagger: Tagger, events: Events) -> list[Scored]:
    """The tags of checked pictures."""
    found: list[Scored] = []
    with events.task("tag pictures", len(files)) as task:
        for start in range(0, len(files), CHUNK):
            part = files[start : start + CHUNK]
            images = [picture.open() for picture in part]
            for row in tagger(images).tolist():
                pairs = zip(tagger.tags, row, strict=True)
                sure = [(tag, p) for tag, p in pairs if p >= CERTAIN]
                named = [pair for pair in sure if pair[0] not in tagger.characters]
                found.append(sorted(named, key=lambda pair: -pair[1]))
            task.advance(len(part))
    return found


def tag_pieces(pieces: Sequence[Piece], tagger: Tagger, events: Events) -> list[Piece]:
    """The pictures; those without tags and sentence have the tagger's, with their scores as the
    source."""
    silent = [piece for piece in pieces if not piece.tags and not piece.sentence]
    scored = scored_tags([piece.cropped for piece in silent], tagger, events)
    tagged = {}
    for piece, row in zip(silent, scored, strict=True):
        said = tuple(Said(tag, f"tagger {p:.2f}") for tag, p in row)
        tagged[piece.name] = replace(piece, tags=said)
    return [tagged.get(piece.name, piece) for piece in pieces]


def tag_untagged(work: Path, tagger: Tagger, events: Events) -> int:
    """Give the kept pictures without tags the tagger's, as one step; each tag has its score as the
    source. Returns the number of pictures that got tags."""
    workshop = open_workshop(work)
    silent = [piece for piece in workshop.kept if not piece.tags]
    scored = scored_tags([piece.cropped for piece in silent], tagger, events)
    decisions = []
    for piece, row in zip(silent, scored, strict=True):
        for tag, p in row:
            decisions.append(Decision(0, "tag", f"tagger {p:.2f}", piece.name, add=(tag,)))
    if decisions:
        workshop.decide(decisions)
    return len({row.picture for row in decisions})


def tag_items(
    items: Sequence[Item], untagged: Sequence[int], folder: Path, tagger: Tagger, events: Events
) -> list[Item]:
    """The pictures of a data set in `folder`; those at `untagged` say the tagger's tags after
    their own."""
    files = [Cropped(folder / items[i].image, items[i].paper) for i in untagged]
    found = list(items)
    for i, row in zip(untagged, scored_tags(files, tagger, events), strict=True):
        own = [items[i].tags] if items[i].tags else []
        found[i] = replace(items[i], tags=", ".join([*own, *(tag for tag, _ in row)]))
    return found
