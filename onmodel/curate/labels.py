"""Audit of tags: rules of spelling and form, comparison with a tagger, checks over the whole set.

A tagger makes errors too, so its result counts only where it is certain, measured on the set
itself: a value is seen when its probability is as high as usual on pictures with that label; a
label is wrong when another value is seen and its own is not (confident learning: Northcutt, Jiang
and Chuang, JAIR 2021). Attributes whose labels the tagger seldom confirms are reported and not
judged.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onmodel.character import Character
from onmodel.curate.caption_syntax import audit_syntax
from onmodel.curate.findings import AuditFinding, Fix
from onmodel.curate.vocabulary import MARKS, Vocabulary, names_an_artist
from onmodel.dataset.captions import says_word
from onmodel.sample.suites import CUT_OFF

FEWEST = 5  # pictures that say a value before its usual probability is known
USUAL = 0.5  # what counts as seen before that
CONFIRMED = 0.7  # share of an attribute's labels that the tagger must confirm to judge it
APART = 3.0  # log odds between what is seen and what is said, for a label to be wrong
# share of pictures that must say an attribute before a picture that does not is one with a missing
# label
MOSTLY = 0.5
LONGEST_FUSED = 6  # words of a tag; longer ones are prose
ALWAYS, NEVER = 0.95, 0.05
TOLD = 0.25  # share of what is shown that says an attribute, before its values are weighed
# Share with the trigger from which a free value is fused with it; or half of it and so much more
# than without.
FUSED, SHARE, LIFT = 0.75, 0.5, 2.0


@dataclass(frozen=True)
class Labelled:
    """A picture as the label audit reads it: name, tags and sentence. `weight` is its repeats per
    epoch; `strict` are the attributes that it must have a label for."""

    name: str
    tags: Sequence[str]
    sentence: str = ""
    weight: float = 1.0
    strict: Sequence[str] = ()


@dataclass(frozen=True)
class Sight:
    """A tagger's results on the set: probabilities [N, T] of `tags`.

    `usual`: attribute → value → its usual probability on pictures with that label. `confirmed`:
    attribute → the share of its labels (0–1) that the tagger confirms.
    """

    tags: Sequence[str]
    probabilities: np.ndarray
    usual: Mapping[str, Mapping[str, float]]
    confirmed: Mapping[str, float]

    @classmethod
    def of(
        cls,
        pictures: Sequence[Labelled],
        tags: Sequence[str],
        probabilities: np.ndarray,
        vocabulary: Vocabulary,
    ) -> "Sight":
        """Measure on the labelled set how the tagger reads it."""
        column = {tag: i for i, tag in enumerate(tags)}
        said = [vocabulary.said(picture.tags) for picture in pictures]
        usual: dict[str, dict[str, float]] = {}
        confirmed: dict[str, float] = {}
        for attribute, values in vocabulary.attributes.items():
            known = {value: column[tag] for value, tag in values.items() if tag in column}
            if len(known) < 2:
                continue
            usual[attribute] = {}
            for value, i in known.items():
                only = [row.get(attribute) == [value] for row in said]
                p = np.median(probabilities[only, i]) if sum(only) >= FEWEST else USUAL
                usual[attribute][value] = float(min(max(p, 0.2), 0.9))
            agree = [
                known[row[attribute][0]] == max(known.values(), key=lambda i: p[i])
                for p, row in zip(probabilities, said, strict=True)
                if len(row.get(attribute, ())) == 1 and row[attribute][0] in known
            ]
            if len(agree) >= FEWEST:
                confirmed[attribute] = float(np.mean(agree))
        return cls(tags, probabilities, usual, confirmed)

    def over(self, probabilities: np.ndarray) -> "Sight":
        """The same thresholds over the probabilities [M, T] of other pictures."""
        return replace(self, probabilities=probabilities)

    def judges(self, attribute: str) -> bool:
        return self.confirmed.get(attribute, 0.0) >= CONFIRMED

    def probability(self, i: int, tag: str) -> float | None:
        """The probability of a tag in picture `i`; None for a tag that the tagger lacks."""
        return float(self.probabilities[i, self.tags.index(tag)]) if tag in self.tags else None

    def hardly_sees(self, i: int, attribute: str, value: str, tag: str) -> float | None:
        """The probability of a label in picture `i` where it does not confirm it, else None."""
        p = self.probability(i, tag) if self.judges(attribute) else None
        return p if p is not None and p < self.usual[attribute][value] / 2 else None


def audit_labels(
    pictures: Sequence[Labelled],
    character: Character,
    vocabulary: Vocabulary,
    sight: Sight | None = None,
) -> list[AuditFinding]:
    """All findings about the labels of a set."""
    found = [finding for picture in pictures for finding in _form(picture, character, vocabulary)]
    spelt = [
        _spelt(picture, character, vocabulary) for picture in pictures
    ]  # a slip is no missing label besides
    if sight is not None:
        found += _seen(spelt, character, vocabulary, sight)
    judged = {
        (row.picture, row.subject) for row in found if row.kind in ("wrong label", "missing label")
    }
    found += (
        row
        for row in _strictly(spelt, character, vocabulary, sight)
        if (row.picture, row.subject) not in judged
    )
    return [*found, *_whole(spelt, character, vocabulary, sight)]


def _spelt(picture: Labelled, character: Character, vocabulary: Vocabulary) -> Labelled:
    tags = (
        (
            tag
            if character.trigger in tag
            else vocabulary.alias(tag) or vocabulary.spelling(tag) or tag
        )
        for tag in picture.tags
    )
    return replace(picture, tags=tuple(tags))


# --- form: what needs no picture
# -------------------------------------------------------------------------------------


def _form(
    picture: Labelled, character: Character, vocabulary: Vocabulary
) -> Iterator[AuditFinding]:
    """Findings about the trigger, artists, spelling, repeated and contradictory tags, their order,
    and the sentence."""
    trigger = character.trigger
    syntax, clean = audit_syntax(picture.name, picture.tags, trigger)
    yield from syntax
    faulty = {row.subject for row in syntax}
    tags = [tag for tag in picture.tags if tag not in faulty]
    lower = [tag.lower() for tag in tags]
    yield from _trigger(replace(picture, tags=clean), character, tags)
    for tag in tags:
        if names_an_artist(tag):
            fix = Fix(remove=(tag,), by="rule: no artist names")
            yield AuditFinding("artist name", "error", picture.name, tag, "names an artist", fix)
        elif tag in MARKS:
            yield AuditFinding(
                "watermark", "warning", picture.name, tag, "its tags say so", Fix(aside=True)
            )
        elif trigger not in tag and (right := vocabulary.alias(tag)):
            fix = Fix((tag,), () if right in tags else (right,), by="rule: alias")
            yield AuditFinding(
                "alias",
                "warning",
                picture.name,
                tag,
                f"the list of aliases calls it {right!r}",
                fix,
            )
        elif trigger not in tag and (right := vocabulary.spelling(tag)) and right != tag:
            fix = Fix((tag,), () if right in tags else (right,), by="rule: spelling")
            yield AuditFinding("spelling", "warning", picture.name, tag, f"known as {right!r}", fix)
    for tag, count in Counter(lower).items():
        if count > 1:
            yield AuditFinding(
                "said twice",
                "note",
                picture.name,
                tag,
                f"{count} times",
                Fix((tag,), (tag,), by="rule: once"),
            )
    for tag in tags:
        if any(
            other != tag
            and other.endswith(f" {tag}")
            and vocabulary.value(other) == vocabulary.value(tag)
            for other in tags
            if vocabulary.value(tag)
        ):
            longer = next(other for other in tags if other.endswith(f" {tag}"))
            yield AuditFinding(
                "implied",
                "note",
                picture.name,
                tag,
                f"{longer!r} says it",
                Fix((tag,), by="rule: implied"),
            )
    for attribute, values in vocabulary.said(tags).items():
        if len(values) > 1 and vocabulary.exclusive(attribute):
            said = ", ".join(values)
            yield AuditFinding(
                "contradiction",
                "error",
                picture.name,
                attribute,
                f"says {said}, which exclude each other",
            )
    if character.count_tag in tags and tags[0] != character.count_tag:
        fix = Fix(
            tuple(tags),
            (character.count_tag, *(tag for tag in tags if tag != character.count_tag)),
            by="rule: order",
        )
        yield AuditFinding(
            "order", "note", picture.name, character.count_tag, "stands behind other tags", fix
        )
    yield from _sentence(picture, vocabulary)


def _trigger(
    picture: Labelled, character: Character, fixable: Sequence[str]
) -> Iterator[AuditFinding]:
    """A finding about the trigger among the tags. `fixable` are those that stand in the caption as
    they are."""
    trigger, tags = character.trigger, picture.tags
    if trigger in tags:
        return
    for tag in tags:
        words = tag.lower().split()
        prose = len(words) > LONGEST_FUSED or re.search(r"[.!?]", tag)
        if says_word(tag, trigger) and (prose or tag not in fixable):
            return  # it stands in a sentence, or in a tag that another finding is about
        if trigger.lower() in words and len(words) > 1:
            at = words.index(trigger.lower())
            parts = tuple(
                " ".join(part)
                for part in (tag.split()[:at], [trigger], tag.split()[at + 1 :])
                if part
            )
            fix = Fix((tag,), parts, by="rule: trigger alone")
            yield AuditFinding(
                "fused tag",
                "error",
                picture.name,
                tag,
                "trigger and another tag in one; a comma is missing",
                fix,
            )
            return
        if tag in fixable and _distance(tag.lower(), trigger.lower()) <= max(1, len(trigger) // 5):
            fix = Fix((tag,), (trigger,), by="rule: trigger")
            yield AuditFinding(
                "trigger misspelt", "error", picture.name, tag, f"the trigger is {trigger!r}", fix
            )
            return
    first = [tag for tag in tags if tag == character.count_tag]
    fix = Fix(tuple(first), (*first, trigger), by="rule: trigger")
    yield AuditFinding("no trigger", "error", picture.name, trigger, "no tag is the trigger", fix)


def _distance(a: str, b: str) -> int:
    """Letters to change, drop, add or swap with the next (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, other in enumerate(b, 1):
            least = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                least = min(least, older[j - 2] + 1)
            row.append(least)
    return row[-1]


def _sentence(picture: Labelled, vocabulary: Vocabulary) -> Iterator[AuditFinding]:
    """Findings about values in the sentence that contradict the tags."""
    said = vocabulary.said(picture.tags)
    for attribute, told in vocabulary.told(picture.sentence).items():
        own = said.get(attribute, [])
        if len(told) == 1 and len(own) == 1 and told != own and vocabulary.exclusive(attribute):
            evidence = f"tags say {own[0]}, the sentence {told[0]}"
            yield AuditFinding(
                "tags against sentence", "warning", picture.name, attribute, evidence
            )


# --- against what is seen
# --------------------------------------------------------------------------------------------


def _seen(
    pictures: Sequence[Labelled], character: Character, vocabulary: Vocabulary, sight: Sight
) -> Iterator[AuditFinding]:
    """Findings about wrong and missing labels, and watermarks that the tagger sees."""
    said = [vocabulary.said(picture.tags) for picture in pictures]
    designed = vocabulary.said(character.tags)
    column = {tag: i for i, tag in enumerate(sight.tags)}
    for attribute, values in vocabulary.attributes.items():
        known = {value: column[tag] for value, tag in values.items() if tag in column}
        if not sight.judges(attribute):
            if attribute in sight.confirmed and any(attribute in row for row in said):
                share = sight.confirmed[attribute]
                evidence = f"the tagger confirms {share:.0%} of its labels; they are left alone"
                yield AuditFinding("not judgeable", "note", "", attribute, evidence)
            continue
        missable = bool(np.mean([attribute in row for row in said]) >= MOSTLY)
        for i, (picture, row) in enumerate(zip(pictures, said, strict=True)):
            yield from _one_label(
                picture,
                attribute,
                row.get(attribute, []),
                designed.get(attribute, []),
                missable or attribute in picture.strict,
                {value: float(sight.probabilities[i, at]) for value, at in known.items()},
                sight.usual[attribute],
                values,
            )
    for mark in set(MARKS) & set(column):
        for i, picture in enumerate(pictures):
            if (p := sight.probabilities[i, column[mark]]) >= USUAL and mark not in picture.tags:
                yield AuditFinding(
                    "watermark", "warning", picture.name, mark, f"seen, {p:.2f}", Fix(aside=True)
                )


def _one_label(
    picture: Labelled,
    attribute: str,
    own: Sequence[str],
    designed: Sequence[str],
    missable: bool,
    p: Mapping[str, float],
    usual: Mapping[str, float],
    tags: Mapping[str, str],
) -> Iterator[AuditFinding]:
    """Is a picture's label of one attribute wrong or missing? `p`: value → probability."""
    best = max(p, key=lambda value: p[value])
    others = max((p[value] for value in p if value != best), default=0.0)
    if p[best] < usual[best] * 0.75 or log_odds(p[best]) - log_odds(others) < APART / 2:
        return  # nothing is clearly seen
    by = f"tagger {p[best]:.2f}"
    if (
        len(own) == 1
        and own[0] in p
        and own[0] != best
        and log_odds(p[best]) - log_odds(p[own[0]]) >= APART
    ):
        said = [
            tag for tag in picture.tags if tag == tags[own[0]] or tag.endswith(f" {tags[own[0]]}")
        ]
        evidence = f"says {own[0]} ({p[own[0]]:.2f}), {best} is seen ({p[best]:.2f})"
        add = () if best in designed else (tags[best],)
        yield AuditFinding(
            "wrong label", "error", picture.name, attribute, evidence, Fix(tuple(said), add, by=by)
        )
    elif not own and missable and best not in designed:
        evidence = f"{best} is seen ({p[best]:.2f}) and not said"
        yield AuditFinding(
            "missing label",
            "warning",
            picture.name,
            attribute,
            evidence,
            Fix(add=(tags[best],), by=by),
        )


def _strictly(
    pictures: Sequence[Labelled], character: Character, vocabulary: Vocabulary, sight: Sight | None
) -> Iterator[AuditFinding]:
    """Findings about labels that a strict subset requires and a picture lacks, and about labels
    that are hardly seen."""
    designed = vocabulary.said(character.tags)
    for i, picture in enumerate(pictures):
        said = vocabulary.said(picture.tags)
        hidden = {name for framing in said.get("framing", ()) for name in CUT_OFF.get(framing, ())}
        for attribute in (name for name in picture.strict if name not in hidden):
            values, own = vocabulary.attributes[attribute], said.get(attribute, [])
            if not own and attribute not in designed and all(values.values()):
                evidence = "not said, and its subset must say it"
                yield AuditFinding("missing label", "warning", picture.name, attribute, evidence)
            for value in own if sight is not None else ():
                p = sight.hardly_sees(i, attribute, value, values[value]) if sight else None
                if p is not None:
                    evidence = f"says {value}, which is hardly seen ({p:.2f})"
                    yield AuditFinding(
                        "doubtful label", "warning", picture.name, attribute, evidence
                    )


def log_odds(p: float) -> float:
    p = min(max(p, 1e-3), 1 - 1e-3)
    return float(np.log(p / (1 - p)))


# --- over the whole set
# ----------------------------------------------------------------------------------------------


def _whole(
    pictures: Sequence[Labelled], character: Character, vocabulary: Vocabulary, sight: Sight | None
) -> Iterator[AuditFinding]:
    """Tags that are always or never said, against what is seen, and free values that come with the
    trigger."""
    weights = np.array([picture.weight for picture in pictures])
    if not weights.sum():
        return
    design = set()
    for attribute, values in vocabulary.said(character.tags).items():
        design |= {(attribute, value) for value in values}
    for tag in sorted({tag for picture in pictures for tag in picture.tags}):
        named = tag in (character.count_tag, character.trigger) or names_an_artist(tag)
        meaning = vocabulary.value(tag)
        if not named and meaning is not None and meaning not in design:
            yield from _how_often_said(tag, meaning[0], pictures, character.trigger, vocabulary)
    if sight is not None:
        for attribute, tags in vocabulary.attributes.items():
            if attribute not in sight.confirmed or sight.judges(attribute):
                for value, tag in tags.items():
                    if tag in sight.tags:
                        pair = (attribute, value)
                        yield from _said_against_seen(pair, pictures, vocabulary, sight, design)


def _how_often_said(
    tag: str, attribute: str, pictures: Sequence[Labelled], trigger: str, vocabulary: Vocabulary
) -> Iterator[AuditFinding]:
    """A finding for a tag that the trigger will absorb, or that is always said.

    Counted over the pictures that say the attribute: a close-up has no pose.
    """
    weights = np.array([picture.weight for picture in pictures])
    with_trigger = np.array([trigger in picture.tags for picture in pictures])
    says = np.array([tag in picture.tags for picture in pictures])
    tells = np.array([attribute in vocabulary.said(picture.tags) for picture in pictures])
    if _mean(tells, weights) < TOLD:
        return
    inside = _mean(says, weights * (with_trigger & tells))
    outside, lift = None, ""
    if (tells & ~with_trigger).sum() >= FEWEST:
        outside = _mean(says, weights * (tells & ~with_trigger))
        lift = f", {inside / max(outside, 0.01):.1f} times as often as without it"
    lifted = outside is not None and inside >= SHARE and inside >= LIFT * max(outside, 0.02)
    share = _mean(says, weights)
    if inside >= FUSED or lifted:
        evidence = (
            f"with the trigger in {inside:.0%} of what says its {attribute}{lift}: the trigger"
            " will learn it"
        )
        yield AuditFinding("fused with the trigger", "warning", "", tag, evidence)
    elif share >= ALWAYS:
        yield AuditFinding("always said", "note", "", tag, f"in {share:.0%} of what is shown")


def _said_against_seen(
    pair: tuple[str, str],
    pictures: Sequence[Labelled],
    vocabulary: Vocabulary,
    sight: Sight,
    design: Collection[tuple[str, str]],
) -> Iterator[AuditFinding]:
    """A finding for an (attribute, value) that is seen nearly always and never said, or said nearly
    always and seldom seen."""
    attribute, value = pair
    tag = vocabulary.attributes[attribute][value]
    weights = np.array([picture.weight for picture in pictures])
    least = sight.usual.get(attribute, {}).get(value, USUAL) / 2
    seen = _mean(sight.probabilities[:, sight.tags.index(tag)] >= least, weights)
    says = [value in vocabulary.said(picture.tags).get(attribute, ()) for picture in pictures]
    said = _mean(np.array(says), weights)
    if seen >= ALWAYS and said <= NEVER and pair not in design:
        evidence = f"seen in {seen:.0%} and said in {said:.0%}: it will belong to the trigger"
        yield AuditFinding("true and never said", "warning", "", tag, evidence)
    elif said >= 0.9 and seen < 0.5:
        evidence = f"said in {said:.0%} and seen in {seen:.0%}"
        yield AuditFinding("said and not true", "error", "", tag, evidence)


def _mean(flags: np.ndarray, weights: np.ndarray) -> float:
    return float(weights[flags].sum() / weights.sum()) if weights.sum() else 0.0
