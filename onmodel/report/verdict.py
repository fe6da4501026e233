"""Did the released model become better? Paired differences over prompts, in numbers and in plain
sentences.

A change counts when the sign-flip test, adjusted over the axes (Holm), says so and its interval
leaves 0 out, which one prompt far from the others can keep it from; everything else is too close to
call, or asked by too few prompts for any difference to count.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from onmodel.evaluate.selection import prompt_costs
from onmodel.evaluate.statistics import holm, paired, reachable
from onmodel.report.source import UNAVAILABLE, Axis, ReportSource, axes_of, capital, label
from onmodel.report.svg import decimal

LEVEL = 0.05
FEWEST = 2  # prompts below which nothing is compared
BEST_PARENT = "best parent"
EVERY_PAIR = 16  # models, up to which every pair is compared

Outcome = Literal["better", "worse", "close", "few", "unavailable"]
TESTED: Sequence[Outcome] = ("better", "worse", "close", "few")
WORDS: Mapping[Outcome, str] = {
    "better": "better",
    "worse": "worse",
    "close": "too close to call",
    "few": "too few prompts to tell",
    "unavailable": UNAVAILABLE,
}


@dataclass(frozen=True)
class Comparison:
    """The shown model against another on one axis.

    `gain` with its interval: how much nearer to good it is, in the axis's unit (in its logarithm
    for geometric means); positive is better. `p` is adjusted over the axes, `least` the smallest
    that so many prompts can give before that.
    """

    axis: Axis
    against: str
    outcome: Outcome
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = 1.0
    least: float = 0.0

    @property
    def change(self) -> str:
        """The gain with its interval, `+0.08 (+0.03…+0.13)`; nothing when unavailable."""
        if self.outcome == "unavailable":
            return ""
        return f"{self._text(self.gain)} ({self._span(self.low, self.high)})"

    @property
    def sentence(self) -> str:
        """ "better than Release 1 (nearer to 0 by 2.9, 2.0…3.8, p 0.003)"."""
        p = "p < 0.001" if self.p < 0.001 else f"p {self.p:.2g}"
        if self.outcome in ("close", "few"):
            return (
                f"{WORDS[self.outcome]} against {label(self.against)} (difference {self.change},"
                f" {p})"
            )
        flip = 1 if self.gain > 0 else -1
        low, high = sorted((flip * self.low, flip * self.high))
        moved = f"{self._moved()} {self._text(abs(self.gain)).lstrip('+')}, {self._span(low, high)}"
        return f"{self.outcome} than {label(self.against)} ({moved}, {p})"

    def turned(self, against: str) -> "Comparison":
        """The same comparison from the other side; `against` is the model that it was about."""
        other: Outcome = {"better": "worse", "worse": "better"}.get(self.outcome, self.outcome)  # type: ignore[assignment]
        return replace(
            self, against=against, outcome=other, gain=-self.gain, low=-self.high, high=-self.low
        )

    def _span(self, low: float, high: float) -> str:
        return f"{self._text(low)}\N{HORIZONTAL ELLIPSIS}{self._text(high)}"

    def _text(self, x: float) -> str:
        if self.axis.record.across == "geometric":
            return f"\N{MULTIPLICATION SIGN}{math.exp(x):.2f}"
        return decimal(x, self.axis.places, signed=True)

    def _moved(self) -> str:
        good = self.gain > 0
        if self.axis.record.direction in ("zero", "one"):
            return f"{'nearer to' if good else 'farther from'} {self.axis.ideal:g} by"
        return "higher by" if good == (self.axis.record.direction == "up") else "lower by"


def comparisons(source: ReportSource) -> dict[str, list[Comparison]]:
    """The shown model against each earlier release, and per axis against its best parent: one
    Comparison per axis."""
    evaluation, shown = source.published, source.shown
    if evaluation is None or shown is None:
        return {}
    axes = axes_of(evaluation)
    against: dict[str, list[str | None]] = {
        label(name): [name] * len(axes) for name in source.earlier
    }
    if source.ancestors:
        against[BEST_PARENT] = [_best(axis, source.ancestors, source.measured) for axis in axes]
    return {
        words: adjusted(
            [compare(axis, evaluation, shown, name) for axis, name in zip(axes, names, strict=True)]
        )
        for words, names in against.items()
    }


def compare(
    axis: Axis, evaluation: Mapping[str, Any], model: str, against: str | None
) -> Comparison:
    """One axis of one pair, with the raw p. `unavailable` when either has no values or they share
    too few prompts."""
    rows = {row["name"]: row for row in evaluation["models"]}
    if against is None:
        return Comparison(axis, "", "unavailable")
    ours, theirs = (rows[name]["per_prompt"].get(axis.id) or {} for name in (model, against))
    shared = [
        prompt for prompt in ours if ours[prompt] is not None and theirs.get(prompt) is not None
    ]
    if len(shared) < FEWEST:
        return Comparison(axis, against, "unavailable")
    a, b = (
        prompt_costs(axis.record, np.array([values[p] for p in shared], dtype=float))
        for values in (ours, theirs)
    )
    found = paired(b, a)
    gain, low, high = (
        axis.record.fault * x for x in (found.mean.value, found.mean.low, found.mean.high)
    )
    return Comparison(axis, against, "close", gain, low, high, found.p, found.least)


def differences(
    evaluation: Mapping[str, Any], shown: str
) -> dict[tuple[str, str], list[Comparison]]:
    """(a, b) → a against b on every axis, p adjusted over the axes of the pair: every pair, both
    ways round.

    Beside more than EVERY_PAIR models only the pairs with `shown`.
    """
    axes = axes_of(evaluation)
    found = {}
    for a, b in pairs([row["name"] for row in evaluation["models"]], shown):
        found[a, b] = adjusted([compare(axis, evaluation, a, b) for axis in axes])
        found[b, a] = [one.turned(a) for one in found[a, b]]
    return found


def pairs(names: Sequence[str], shown: str) -> list[tuple[str, str]]:
    """The pairs of models that a page compares, one way round."""
    every = len(names) <= EVERY_PAIR
    return [(a, b) for a, b in combinations(names, 2) if every or shown in (a, b)]


def adjusted(row: Sequence[Comparison]) -> list[Comparison]:
    """Decide a family of comparisons together: p adjusted by Holm, then the outcome."""
    tested = [c for c in row if c.outcome != "unavailable"]
    least = [c.least for c in tested]
    ids = [c.axis.id for c in tested]
    by_axis = dict(zip(ids, holm([c.p for c in tested], least), strict=True))
    best = dict(zip(ids, reachable(least), strict=True))
    return [
        decided(c, by_axis[c.axis.id], best[c.axis.id]) if c.axis.id in by_axis else c for c in row
    ]


def verdict(source: ReportSource) -> list[str]:
    """Plain sentences: first one against each other model, then one for each axis."""
    found = comparisons(source)
    shown = source.shown
    if not found or shown is None:
        return []
    return summary(found, shown) + [
        _axis_sentence(source, axis, found) for axis in axes_of(source.published or {})
    ]


def summary(found: Mapping[str, Sequence[Comparison]], shown: str) -> list[str]:
    """One sentence for each model compared with: on which axes better, worse, too close to call, or
    not to tell."""
    sentences = []
    for words, row in found.items():
        parts = []
        for outcome in TESTED:
            titles = [c.axis.short for c in row if c.outcome == outcome]
            if titles:
                every = len(titles) > 1 and all(c.outcome in (outcome, "unavailable") for c in row)
                parts.append(
                    f"{WORDS[outcome]} on"
                    f" {f'all {len(titles)} measured axes' if every else enumerated(titles)}"
                )
        whom = f"its {words} on each axis" if words == BEST_PARENT else words
        sentences.append(
            f"Against {whom}, {label(shown)} is {'; '.join(parts) or 'not comparable'}."
        )
    return sentences


def _axis_sentence(
    source: ReportSource, axis: Axis, found: Mapping[str, Sequence[Comparison]]
) -> str:
    score = source.measured[source.shown or ""]["axes"].get(axis.id)
    name = capital(axis.short)
    if score is None or score["value"] is None:
        why = (score or {}).get("why", "not measured for this model")
        return f"{name}: unavailable, {why}."
    rows = [
        (words, c)
        for words, row in found.items()
        for c in row
        if c.axis.id == axis.id and c.outcome != "unavailable"
    ]
    told = [
        c.sentence + (", its best parent here" if words == BEST_PARENT else "") for words, c in rows
    ]
    value = (
        f"{name} {axis.text(score['value'])} ({axis.span(score['low'], score['high'])},"
        f" {score['n']} prompts)"
    )
    return f"{value}: {'; '.join(told) or 'nothing to compare with'}."


def decided(comparison: Comparison, p: float, best: float = 0.0) -> Comparison:
    """The comparison with its adjusted p, and the outcome that follows; `best` is the smallest that
    it could be."""
    if p < LEVEL and comparison.low * comparison.high > 0:
        return replace(comparison, p=p, outcome="better" if comparison.gain > 0 else "worse")
    return replace(comparison, p=p, outcome="few" if best >= LEVEL else "close")


def _best(
    axis: Axis, names: Sequence[str], measured: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """The model with the lowest cost on an axis; the first of equals."""
    scores = {name: measured[name]["axes"].get(axis.id) for name in names}
    known = [name for name, score in scores.items() if score and score["value"] is not None]
    return min(known, key=lambda name: axis.cost(scores[name]["value"]), default=None)


def enumerated(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
