"""Do the observers see on these drawings? Measured before they judge anything.

A tagger, an identity model or a classifier returns numbers for any picture, also for drawings that
it was never taught. So each must first tell apart pictures whose content is known: the labelled
held-out references, and where these say too little, the base's own pictures of what the prompts
ask. What fails is not judged, and the evaluation says why.

The measure is the AUC: the probability that a picture that shows something gets a higher score than
one that does not. 0.5 is a guess, 1 tells all apart. Where all labelled pictures show the same
value there is no AUC, and the agreement with the labels stands for it: the share of the pictures
whose likeliest value is the labelled one.

Both have a 95 % interval. An observer fails where the interval lies below the bound, and where too
few pictures say anything: the value is below the bound and the interval includes a guess. A
value whose interval includes the bound is judged, with a note of how few pictures show it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from onmodel.randomness import generator
from onmodel.sample.suites import Prompt, Vocabulary

LEAST, GUESS = 0.7, 0.5  # AUC, or agreement
CONFIDENCE = 0.95
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
    says, None where too few pictures say anything, with its 95 % interval from `low` to `high`;
    `pictures`: how many were compared; `source`: which.
    """

    subject: str
    value: float | None
    pictures: int
    source: str
    measure: Literal["AUC", "agreement"] = "AUC"
    low: float = 0.0
    high: float = 1.0

    @property
    def passed(self) -> bool:
        return self.value is not None and self.high >= LEAST and not self.too_few

    @property
    def too_few(self) -> bool:
        """Whether the pictures are too few to tell sight from a guess."""
        return self.value is None or (self.value < LEAST <= self.high and self.low <= GUESS)

    @property
    def note(self) -> str:
        """What a person should know of a subject that is judged: how few pictures show that it can
        be read; "" where that is certain."""
        if self.passed and self.low < LEAST:
            return f"shown on {self.pictures} pictures only"
        return ""

    @property
    def reason(self) -> str:
        """Why an axis is not judged, in one line."""
        return f"not judged: {self.why}"

    @property
    def why(self) -> str:
        """Why its subject cannot be judged."""
        if self.value is None:
            return f"no pictures show whether {self.subject} can be read"
        found = (
            f"{self.measure} {self.value:.2f}, {self.low:.2f}…{self.high:.2f}, on {self.pictures}"
            f" pictures: {self.source}; {LEAST} is needed"
        )
        if self.too_few:
            return f"too few pictures show whether {self.subject} can be read ({found})"
        return f"{self.subject} cannot be read on these drawings ({found})"


def auc(with_it: np.ndarray, without: np.ndarray) -> float:
    """Probability that a score [N] of a picture that shows it is above one [M] of a picture that
    does not; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([with_it, without]))
    n, m = len(with_it), len(without)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def auc_interval(value: float, with_it: int, without: int) -> tuple[float, float]:
    """The 95 % interval of an AUC from so many pictures that show something and that do not.

    The bounds are the AUCs from which `value` is 1.96 of their own standard errors away, so that an
    AUC of 1 has an interval, too (Newcombe 2006, method 5; the standard error of Hanley & McNeil
    1982).
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + CONFIDENCE) / 2))

    def error(a: float) -> float:
        among = (with_it - 1) * (a / (2 - a) - a * a) + (without - 1) * (
            2 * a * a / (1 + a) - a * a
        )
        return float(max(0.0, (a * (1 - a) + among) / (with_it * without)) ** 0.5)

    def below(a: float) -> float:
        return value - a - z * error(a)

    def above(a: float) -> float:
        return a - value - z * error(a)

    inside = min(max(value, 1e-6), 1 - 1e-6)  # at 0 and 1 the error is 0, which is no bound
    low = 0.0 if value <= 0 else float(brentq(below, 0.0, inside))
    high = 1.0 if value >= 1 else float(brentq(above, inside, 1.0))
    return low, high


def agreement_interval(right: int, count: int) -> tuple[float, float]:
    """The exact 95 % interval of a share (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if right == 0 else float(beta.ppf(tail, right, count - right + 1))
    high = 1.0 if right == count else float(beta.ppf(1 - tail, right + 1, count - right))
    return low, high


def check_attribute(
    attribute: str,
    said: Sequence[str | None],
    scores: Mapping[str, np.ndarray],
    source: str,
    silent: str | None = None,
) -> ObserverCheck:
    """The AUC of an attribute's values, weighed by their pictures, as its interval is (as if the
    values erred together, which is wider than the truth); the agreement where there is none.

    `said`: the value that each picture [N] is known to show, None where it is not known; `scores`:
    value → the observer's scores [N]; `silent`: the value that has no tag.
    """
    values = np.array([value if value is not None else "" for value in said], dtype=object)
    known = values != ""
    found: list[tuple[float, float, float]] = []
    weights: list[int] = []
    for value, score in scores.items():
        shows, other = values == value, known & (values != value)
        if min(shows.sum(), other.sum()) >= FEWEST:
            one = auc(score[shows], score[other])
            found.append((one, *auc_interval(one, int(shows.sum()), int(other.sum()))))
            weights.append(int(shows.sum()))
    if not found:
        return _agreement(attribute, values, scores, silent, source)
    mean, low, high = (float(x) for x in np.average(found, axis=0, weights=weights))
    return ObserverCheck(attribute, mean, int(known.sum()), source, low=low, high=high)


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
    return _agreed(attribute, right, source)


def _agreed(subject: str, right_n: np.ndarray, source: str) -> ObserverCheck:
    """The check of a subject that was read right or wrong in each picture."""
    right, count = int(right_n.sum()), len(right_n)
    low, high = agreement_interval(right, count)
    return ObserverCheck(subject, right / count, count, source, "agreement", low, high)


def _told_apart(
    subject: str, with_it: np.ndarray, without: np.ndarray, source: str
) -> ObserverCheck:
    """The check of a subject by the scores of the pictures that show it and of those that do
    not."""
    value = auc(with_it, without)
    low, high = auc_interval(value, len(with_it), len(without))
    count = len(with_it) + len(without)
    return ObserverCheck(subject, value, count, source, low=low, high=high)


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
            if not found[attribute].too_few:
                continue
        prompts, tags_pst = base
        asked = [
            prompt.asked.get(attribute) for prompt in prompts for _ in range(tags_pst.shape[1])
        ]
        flat = tags_pst.reshape(len(asked), tags_pst.shape[-1])
        scores = {value: flat[:, column] for value, column in known.items()}
        of_base = check_attribute(attribute, asked, scores, BASE)
        if attribute not in found or of_base.value is not None:
            found[attribute] = of_base
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
    source = "references and the base's other characters"
    if min(len(own), len(others)) < FEWEST:
        return ObserverCheck("the character", None, len(own) + len(others), source)
    return _told_apart("the character", -own, -others, source)


def check_corruption(intact: np.ndarray, damaged: np.ndarray) -> ObserverCheck:
    """Does the classifier tell references from copies of them that were cut up?"""
    if len(intact) < FEWEST:
        return ObserverCheck("broken pictures", None, len(intact), REFERENCES)
    return _told_apart("broken pictures", damaged, intact, "references, half cut up")


def check_heads(heads: np.ndarray) -> ObserverCheck:
    """Does the detector find one head in a reference?"""
    if len(heads) < FEWEST:
        return ObserverCheck("heads", None, len(heads), REFERENCES)
    return _agreed("heads", heads == 1, REFERENCES)


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
