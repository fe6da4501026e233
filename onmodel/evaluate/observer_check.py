"""Do the observers see on these drawings? Measured before they judge anything.

A tagger, an identity model or a classifier returns numbers for any picture, also for drawings that
it was never taught. So each must first tell apart pictures whose content is known: the labelled
held-out references, and where these say too little, the base's own pictures of what the prompts
ask. What fails is not judged, and the evaluation says why.

The measure is the AUC: the probability that a picture that shows something gets a higher score than
one that does not. 0.5 is a guess, 1 tells all apart. Where all labelled pictures show the same
value there is no AUC, and the agreement with the labels stands for it: the share of the pictures
whose likeliest value is the labelled one.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from onmodel.randomness import generator
from onmodel.sample.suites import Prompt, Vocabulary

LEAST = 0.7  # AUC, or agreement
SEEN = 0.5  # probability from which a tag is seen, where its absence is a value
FEWEST = 3  # pictures on either side of a comparison
TILES = 4  # a damaged copy is cut into TILES × TILES and put together in another order
MOST_DAMAGED = 16  # references of which a damaged copy is looked at

REFERENCES, BASE = "references", "the base's pictures"
IDENTITY, CORRUPTION, HEADS = "identity", "corruption", "heads"  # checks beside the attributes


@dataclass(frozen=True)
class ObserverCheck:
    """What an observer showed on pictures with known content.

    `subject`: what it is asked about, as it is printed; `value`: its AUC or agreement, as `measure`
    says, None where too few pictures say anything; `pictures`: how many were compared; `source`:
    which.
    """

    subject: str
    value: float | None
    pictures: int
    source: str
    measure: Literal["AUC", "agreement"] = "AUC"

    @property
    def passed(self) -> bool:
        return self.value is not None and self.value >= LEAST

    @property
    def reason(self) -> str:
        """Why it is not judged, in one line."""
        if self.value is None:
            return f"not judged: no pictures show whether {self.subject} can be read"
        return (
            f"not judged: {self.subject} cannot be read on these drawings ({self.measure}"
            f" {self.value:.2f} on {self.pictures} pictures: {self.source}; {LEAST} is needed)"
        )


def auc(with_it: np.ndarray, without: np.ndarray) -> float:
    """Probability that a score [N] of a picture that shows it is above one [M] of a picture that
    does not; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([with_it, without]))
    n, m = len(with_it), len(without)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def check_attribute(
    attribute: str,
    said: Sequence[str | None],
    scores: Mapping[str, np.ndarray],
    source: str,
    silent: str | None = None,
) -> ObserverCheck:
    """The AUC of an attribute's values, weighed by their pictures; the agreement where there is
    none.

    `said`: the value that each picture [N] is known to show, None where it is not known; `scores`:
    value → the observer's scores [N]; `silent`: the value that has no tag.
    """
    values = np.array([value if value is not None else "" for value in said], dtype=object)
    known = values != ""
    found: list[tuple[float, int]] = []
    for value, score in scores.items():
        shows, other = values == value, known & (values != value)
        if min(shows.sum(), other.sum()) >= FEWEST:
            found.append((auc(score[shows], score[other]), int(shows.sum())))
    if not found:
        return _agreement(attribute, values, scores, silent, source)
    aucs, counts = np.array(found).T
    return ObserverCheck(
        attribute, float(np.average(aucs, weights=counts)), int(known.sum()), source
    )


def _agreement(
    attribute: str,
    values: np.ndarray,
    scores: Mapping[str, np.ndarray],
    silent: str | None,
    source: str,
) -> ObserverCheck:
    """The share of the labelled pictures whose likeliest value is the labelled one; the silent
    value is seen where no other is."""
    names = np.array(list(scores), dtype=object)
    known = np.isin(values, [*names, silent])
    if known.sum() < FEWEST:
        return ObserverCheck(attribute, None, int(known.sum()), source, "agreement")
    table, said = np.stack(list(scores.values()))[:, known], values[known]
    right = np.where(said == silent, table.max(0) < SEEN, names[table.argmax(0)] == said)
    return ObserverCheck(attribute, float(right.mean()), int(known.sum()), source, "agreement")


def silent_value(values: Mapping[str, str]) -> str | None:
    """The value that has an empty tag: a picture shows it where no other tag is said."""
    return next((value for value, tag in values.items() if not tag), None)


def said_by_tags(tags: Sequence[Collection[str]], values: Mapping[str, str]) -> list[str | None]:
    """The value of an attribute that each picture's labels say; None unless exactly one.

    `values`: value → tag. The value with an empty tag is what a picture shows that says none.
    """
    silent = silent_value(values)
    found: list[str | None] = []
    for row in tags:
        said = [value for value, tag in values.items() if tag and tag in row]
        found.append(said[0] if len(said) == 1 else silent if not said else None)
    return found


def check_tagger(
    vocabulary: Vocabulary,
    columns: Mapping[str, int],
    references: tuple[Sequence[Collection[str]], np.ndarray] | None,
    base: tuple[Sequence[Prompt], np.ndarray],
) -> dict[str, ObserverCheck]:
    """Attribute → how well the tagger reads it.

    `references`: their labels [N] and the tagger's probabilities [N, T]; `base`: the prompts [P]
    and the probabilities [P, S, T] of the pictures that the base made of them. The references
    decide; the base is asked where they say too little.
    """
    found = {}
    for attribute, values in vocabulary.items():
        known = {value: columns[tag] for value, tag in values.items() if tag in columns}
        if not known:
            continue
        if references is not None:
            labels, tags_nt = references
            said = said_by_tags(labels, values)
            scores = {value: tags_nt[:, column] for value, column in known.items()}
            silent = silent_value(values)
            found[attribute] = check_attribute(attribute, said, scores, REFERENCES, silent)
            if found[attribute].value is not None:
                continue
        prompts, tags_pst = base
        asked = [
            prompt.asked.get(attribute) for prompt in prompts for _ in range(tags_pst.shape[1])
        ]
        flat = tags_pst.reshape(len(asked), tags_pst.shape[-1])
        scores = {value: flat[:, column] for value, column in known.items()}
        found[attribute] = check_attribute(attribute, asked, scores, BASE)
    return found


def check_identity(
    differences_nn: np.ndarray, groups: np.ndarray, others_mn: np.ndarray
) -> ObserverCheck:
    """Does the identity model tell the character from others?

    `differences_nn`: of each reference to each reference, [N, N]; `groups` [N]: near duplicates
    share one, and are not compared; `others_mn`: of pictures of other characters to the references,
    [M, N].
    """
    apart = groups[:, None] != groups[None, :]
    rows = apart.any(1)
    own = (differences_nn * apart).sum(1)[rows] / apart.sum(1)[rows]
    others = others_mn.mean(1)
    count = len(own) + len(others)
    source = "references and the base's other characters"
    if min(len(own), len(others)) < FEWEST:
        return ObserverCheck("the character", None, count, source)
    return ObserverCheck("the character", auc(-own, -others), count, source)


def check_corruption(intact: np.ndarray, damaged: np.ndarray) -> ObserverCheck:
    """Does the classifier tell references from copies of them that were cut up?"""
    if len(intact) < FEWEST:
        return ObserverCheck("broken pictures", None, len(intact), REFERENCES)
    found = auc(damaged, intact)
    return ObserverCheck(
        "broken pictures", found, len(intact) + len(damaged), "references, half cut up"
    )


def check_heads(heads: np.ndarray) -> ObserverCheck:
    """Does the detector find one head in a reference?"""
    if len(heads) < FEWEST:
        return ObserverCheck("heads", None, len(heads), REFERENCES)
    share = float((heads == 1).mean())
    return ObserverCheck("heads", share, len(heads), REFERENCES, "agreement")


def damaged_copy(image: Image.Image, name: str) -> Image.Image:
    """The picture cut into TILES × TILES and put together in another order, the same for a name."""
    width, height = image.width // TILES, image.height // TILES
    boxes = [
        (column * width, row * height, (column + 1) * width, (row + 1) * height)
        for row in range(TILES)
        for column in range(TILES)
    ]
    order = generator(0, "observer check", name).permutation(len(boxes))
    copy = image.copy()
    for box, other in zip(boxes, order, strict=True):
        copy.paste(image.crop(boxes[other]), box[:2])
    return copy
