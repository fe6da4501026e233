"""Strict labels: a label that a tagger does not confirm is left out of its caption.

It is the label audit's rule for labels that are hardly seen (labels.py): attributes whose labels
the tagger seldom confirms stay as they are, and so does what the framing cuts off.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from onmodel.curate.labels import Labelled, Sight
from onmodel.curate.tagging import CHUNK
from onmodel.curate.vocabulary import Vocabulary, vocabulary_for
from onmodel.dataset.captions import split_tags
from onmodel.dataset.pixels import WHITE, open_picture
from onmodel.evaluate.observers.tagger import Tagger
from onmodel.events import Events
from onmodel.records import Item
from onmodel.sample.suites import CUT_OFF


def confirm_labels(
    items: Sequence[Item],
    subsets: Collection[str],
    folder: Path,
    tagger: Tagger,
    events: Events,
) -> list[Item]:
    """The pictures of a data set in `folder`; those of `subsets` say confirmed labels alone. A
    sentence that says a label which is left out is left out whole."""
    vocabulary = vocabulary_for(tagger.tags, ())
    labelled = [Labelled(item.image, split_tags(item.tags)) for item in items]
    probabilities = _probabilities(items, folder, tagger, events)
    sight = Sight.of(labelled, tagger.tags, probabilities, vocabulary)
    found, changed = list(items), 0
    for i, (item, picture) in enumerate(zip(items, labelled, strict=True)):
        if item.subset in subsets and (dropped := _unconfirmed(i, picture, vocabulary, sight)):
            found[i] = _without(item, picture.tags, dropped, vocabulary)
            changed += len(dropped)
    events.note(f"strict labels: {changed} labels are not confirmed and left out")
    return found


def _probabilities(
    items: Sequence[Item], folder: Path, tagger: Tagger, events: Events
) -> np.ndarray:
    """The tagger's probabilities [N, T]."""
    rows = []
    with events.task("look at labels", len(items)) as task:
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            rows.append(
                tagger([open_picture(folder / row.image, row.paper or WHITE) for row in part])
            )
            task.advance(len(part))
    return np.concatenate(rows)


def _unconfirmed(
    i: int, picture: Labelled, vocabulary: Vocabulary, sight: Sight
) -> set[tuple[str, str]]:
    """(attribute, value) of each label of picture `i` that is hardly seen."""
    said = vocabulary.said(picture.tags)
    hidden = {name for framing in said.get("framing", ()) for name in CUT_OFF.get(framing, ())}
    found = set()
    for attribute, values in said.items():
        tags = vocabulary.attributes[attribute]
        for value in values if attribute not in hidden else ():
            if sight.hardly_sees(i, attribute, value, tags[value]) is not None:
                found.add((attribute, value))
    return found


def _without(
    item: Item, tags: Sequence[str], dropped: Collection[tuple[str, str]], vocabulary: Vocabulary
) -> Item:
    kept = [tag for tag in tags if vocabulary.value(tag) not in dropped]
    told = vocabulary.told(item.sentence)
    wrong = any(value in told.get(attribute, ()) for attribute, value in dropped)
    return replace(item, tags=", ".join(kept), sentence="" if wrong else item.sentence)
