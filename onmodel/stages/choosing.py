"""Which generated pictures a sample stage keeps, and with which captions."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from onmodel.character import Character
from onmodel.evaluate import axes
from onmodel.evaluate.axes.reproduction import threshold
from onmodel.evaluate.features import Features
from onmodel.evaluate.observers import Observers
from onmodel.evaluate.observers.identity import unit
from onmodel.sample.suites import Prompt, it_shows, whom

DAMAGED = 0.5  # what the classifier of corrupted pictures says of one
SEEN = 0.35  # probability from which a tag is in a picture, as WD taggers are used


def captions(prompt: Prompt, character: Character) -> tuple[str, str]:
    """The training captions, tags and sentence, of a picture made for this prompt: trigger and what
    was asked."""
    sentence = f"{whom(character)} named {character.trigger}.{it_shows(prompt.tags)}"
    return ", ".join([character.count_tag, character.trigger, *prompt.tags]), sentence


def choose(
    features: Features,
    references: axes.References,
    keep: int,
    faults: Sequence[str] = (),
    least: float | None = None,
) -> list[tuple[bool, str]]:
    """Keep at most `keep` pictures, farthest-first among those that show the character and have no
    fault; (kept, reason) for each.

    The first kept agrees best with the references; each next one is farthest, in tags and layout,
    from those kept. `faults`: what is wrong with each picture, or ""; `least`: the agreement that
    shows the character, unless what nine in ten references have. Raises Unavailable with too few
    references.
    """
    needed = threshold(references) if least is None else least
    whose = "the references' own" if least is None else "the wanted"
    agreement = references.agreement(features.identity)
    look = np.concatenate([unit(features.tags), unit(features.box)], axis=-1)
    sound = np.array([not fault for fault in faults or [""] * len(look)])
    passing = (agreement >= needed) & sound
    nearest = np.full(len(look), np.inf)
    said = [f"agreement {value:.3f} is below {whose} {needed:.3f}" for value in agreement]
    said = [fault or reason for fault, reason in zip(faults or [""] * len(said), said, strict=True)]
    kept: list[int] = []
    for _ in range(min(keep, int(passing.sum()))):
        score = np.where(passing, nearest if kept else agreement, -np.inf)
        score[kept] = -np.inf
        pick = int(score.argmax())
        apart = f"{nearest[pick]:.3f} from the nearest kept" if kept else "the best"
        said[pick] = f"agreement {agreement[pick]:.3f}, {apart}"
        kept.append(pick)
        nearest = np.minimum(nearest, np.linalg.norm(look - look[pick], axis=-1))
    for i in set(np.flatnonzero(passing).tolist()) - set(kept):
        said[i] = f"agreement {agreement[i]:.3f}, but only {nearest[i]:.3f} from one that was kept"
    return [(i in kept, reason) for i, reason in enumerate(said)]


def faults_of(features: Features, observers: Observers) -> list[str]:
    """What is wrong with each picture by itself, or "": damage, and another number of heads than
    one, as far as there are observers."""
    found = []
    counts_heads = observers.detectors is not None and "head" in observers.detectors.parts
    for damage, heads in zip(features.corruption, features.heads, strict=True):
        if damage > DAMAGED:  # NaN without a classifier
            found.append(f"looks damaged ({damage:.2f})")
        elif counts_heads and heads != 1:
            found.append(f"shows {int(heads)} heads")
        else:
            found.append("")
    return found


def seen_tags(
    probabilities: np.ndarray, tags: Sequence[str], character: Character, least: int, most: int
) -> list[str]:
    """What a tagger sees in a picture beside the character herself, the most certain first: `most`
    tags, fewer where fewer are seen, but `least`."""
    own = {character.count_tag, character.trigger, *character.tags}
    others = [i for i, tag in enumerate(tags) if tag not in own]
    order = sorted(others, key=lambda i: -probabilities[i])[:most]
    return [tags[i] for place, i in enumerate(order) if place < least or probabilities[i] >= SEEN]


def density(counts: Sequence[int]) -> str:
    """How many tags pictures have, in words."""
    common = Counter(counts)
    return f"tags a picture: {np.mean(counts):.1f} ({min(common)} to {max(common)})"
