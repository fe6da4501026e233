"""Which generated pictures enter a data set, and with which labels: from the prompted and the
observed values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onmodel.character import Character
from onmodel.curate.identity import SEEN, UNSEEN
from onmodel.curate.labels import APART, Sight, log_odds
from onmodel.curate.vocabulary import Vocabulary
from onmodel.curate.workshop import Said

SURELY = 0.95  # probability from which something that nobody asked for is said
USUALLY, FEWEST = (
    0.9,
    4,
)  # share of the set's pictures of a style that show a trait; so many are judged by


@dataclass(frozen=True)
class Judged:
    """The verdict on a generated picture: its labels with their sources, the same as attribute →
    value, the prompted tags that are not observed, its identity agreement, and why it is refused
    ("" when it is not)."""

    tags: tuple[Said, ...]
    values: Mapping[str, str]
    unshown: Sequence[str]
    agreement: float
    refused: str


def label(
    asked: Mapping[str, str],
    row: int,
    sight: Sight | None,
    vocabulary: Vocabulary,
    character: Character,
) -> tuple[tuple[Said, ...], dict[str, str], list[str]]:
    """Labels of picture `row` of `sight`, the same as attribute → value, and the prompted tags that
    are not observed.

    A prompted value is the label, unless the tagger is certain of another one, which is then the
    label, or does not see the value: then there is none. Tags of the design get no label, they
    belong to the trigger.
    """
    design = vocabulary.said(character.tags)
    said: list[Said] = []
    values: dict[str, str] = {}
    unshown: list[str] = []
    for name in dict.fromkeys([*asked, *character.free]):
        tags = {value: tag for value, tag in vocabulary.attributes.get(name, {}).items() if tag}
        seen = _seen(name, tags, row, sight)
        value, by = asked.get(name), "prompt"
        if seen:
            best = max(seen, key=lambda one: seen[one])
            rival = max((p for one, p in seen.items() if one != best), default=0.0)
            sure = seen[best] >= sight.usual[name][best] * 0.75 if sight else False
            if value is None:
                value = (
                    best
                    if seen[best] >= SURELY and log_odds(seen[best]) - log_odds(rival) >= APART
                    else None
                )
                by = f"tagger {seen[best]:.2f}"
            elif (
                best != value
                and sure
                and log_odds(seen[best]) - log_odds(seen.get(value, 0.0)) >= APART
            ):
                unshown.append(tags[value])
                value, by = best, f"tagger {seen[best]:.2f}"
            elif value in seen and seen[value] < (sight.usual[name][value] / 2 if sight else 0.0):
                unshown.append(tags[value])
                value = None
            elif value in seen:
                by = f"prompt, tagger {seen[value]:.2f}"
        if value is not None:
            values[name] = value
            if value not in design.get(name, ()):
                said.append(Said(tags[value], by))
    return (
        (Said(character.count_tag, "prompt"), Said(character.trigger, "prompt"), *said),
        values,
        unshown,
    )


def _seen(name: str, tags: Mapping[str, str], row: int, sight: Sight | None) -> dict[str, float]:
    """Value → probability, where the tagger can judge the attribute in this set."""
    if sight is None or not sight.judges(name):
        return {}
    found = {value: sight.probability(row, tag) for value, tag in tags.items()}
    return {value: p for value, p in found.items() if p is not None}


def alien_traits(
    character: Character, tags: Sequence[str], probabilities: np.ndarray
) -> list[list[str]]:
    """Per picture of `probabilities` [N, T]: the forbidden traits that are seen."""
    column = {tag: i for i, tag in enumerate(tags)}
    forbidden = [tag for tag in character.forbidden if tag in column]
    found = []
    for p in probabilities:
        found.append([tag for tag in forbidden if p[column[tag]] >= SEEN])
    return found


def hidden_traits(
    character: Character,
    tags: Sequence[str],
    vocabulary: Vocabulary,
    own: np.ndarray,
    new: np.ndarray,
) -> list[list[str]]:
    """Per picture of `new` [N, T]: the required traits that the set's pictures `own` [M, T] of its
    style nearly always show, and that it does not: line art shows no colours."""
    column = {tag: i for i, tag in enumerate(tags)}
    required = np.array([column[tag] for tag in character.required if tag in column], dtype=int)
    styles = [
        column[tag] for tag in vocabulary.attributes.get("style", {}).values() if tag in column
    ]
    if not len(required):
        return [[] for _ in new]
    shows = own[:, required] > UNSEEN
    found = []
    for p in new:
        alike = (
            own[:, styles].argmax(1) == p[styles].argmax()
            if styles
            else np.ones(len(own), dtype=bool)
        )
        usual = shows[alike if alike.sum() >= FEWEST else slice(None)].mean(0) >= USUALLY
        found.append([tags[i] for i in required[usual & (p[required] <= UNSEEN)]])
    return found


def pick(
    judged: Sequence[Judged],
    groups: Sequence[int],
    wanted: Mapping[str, Mapping[str, int]],
    count: int,
) -> list[int]:
    """Indices of at most `count` pictures, in the order of choice.

    Each next one has the most values that are still wanted, and among equals the best identity
    agreement. One per group of repeats; pictures without a wanted value are not chosen.
    """
    left = {name: dict(values) for name, values in wanted.items()}
    chosen: list[int] = []
    used: set[int] = set()
    while len(chosen) < count:
        gains = {
            i: _gain(row.values, left)
            for i, row in enumerate(judged)
            if not row.refused and groups[i] not in used
        }
        best = max(gains, key=lambda i: (gains[i], judged[i].agreement, -i), default=None)
        if best is None or not gains[best]:
            break
        chosen.append(best)
        used.add(groups[best])
        for name, value in judged[best].values.items():
            if left.get(name, {}).get(value, 0) > 0:
                left[name][value] -= 1
    return chosen


def _gain(values: Mapping[str, str], left: Mapping[str, Mapping[str, int]]) -> int:
    """How many of a picture's values are still wanted."""
    return sum(left.get(name, {}).get(value, 0) > 0 for name, value in values.items())
