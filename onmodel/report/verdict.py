"""The comparison of the shown model with the others in plain sentences."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.compare import TESTED, WORDS, Comparison, compare_pairs
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.report.source import ReportSource, label
from onmodel.text import capital

EVERY_PAIR = 16  # models, up to which every pair is compared


def sentence_of(one: Comparison) -> str:
    """ "better than Release 1 (nearer to 0 by 2.9, 2.0…3.8, p 0.003)"."""
    p = "p < 0.001" if one.p < 0.001 else f"p {one.p:.2g}"
    if not one.called:
        settled = f"; {one.settled_by}" if one.outcome == "open" else ""
        whom = "as" if one.outcome == "same" else "against"
        return f"{one.words} {whom} {label(one.against)} (difference {one.change}, {p}{settled})"
    flip = 1 if one.gain > 0 else -1
    low, high = sorted((flip * one.low, flip * one.high))
    moved = f"{_moved(one)} {one.text(abs(one.gain)).lstrip('+')}, {one.span(low, high)}"
    return f"{one.words} than {label(one.against)} ({moved}, {p})"


def _moved(one: Comparison) -> str:
    good = one.gain > 0
    if one.axis.direction in ("zero", "one"):
        return f"{'nearer to' if good else 'farther from'} {one.axis.ideal:g} by"
    return "higher by" if good == (one.axis.direction == "up") else "lower by"


def comparisons(source: ReportSource) -> dict[str, list[Comparison]]:
    """The shown model against each earlier release and each parent, one family: one Comparison per
    axis."""
    evaluation, shown = source.published, source.shown
    if evaluation is None or shown is None:
        return {}
    pairs = [(shown, name) for name in dict.fromkeys([*source.earlier, *source.ancestors])]
    return {label(name): row for (_, name), row in compare_pairs(evaluation, pairs).items()}


def differences(evaluation: Evaluation, shown: str) -> dict[tuple[str, str], list[Comparison]]:
    """(a, b) → a against b on every axis, p adjusted over all pairs: every pair, both ways round.

    Beside more than EVERY_PAIR models only the pairs with `shown`.
    """
    found = compare_pairs(evaluation, pairs(evaluation.names, shown))
    turned = {(b, a): [one.turned(a) for one in row] for (a, b), row in found.items()}
    return found | turned


def pairs(names: Sequence[str], shown: str) -> list[tuple[str, str]]:
    """The pairs of models that a page compares, one way round."""
    every = len(names) <= EVERY_PAIR
    return [(a, b) for a, b in combinations(names, 2) if every or shown in (a, b)]


def verdict(source: ReportSource) -> list[str]:
    """Plain sentences: first one against each other model, then one for each axis."""
    found = comparisons(source)
    shown = source.shown
    if not found or shown is None or source.published is None:
        return []
    model = source.measured[shown]
    return summary(found, shown) + [
        _axis_sentence(model, axis, found) for axis in source.published.axes.values()
    ]


def summary(found: Mapping[str, Sequence[Comparison]], shown: str) -> list[str]:
    """One sentence for each model compared with: on which axes better, worse, the same, or
    open."""
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
        sentences.append(
            f"Against {words}, {label(shown)} is {'; '.join(parts) or 'not comparable'}."
        )
    return sentences


def _axis_sentence(
    model: EvaluatedModel, axis: Axis, found: Mapping[str, Sequence[Comparison]]
) -> str:
    score = model.score(axis.id)
    name = capital(axis.short)
    if score is None:
        return f"{name}: {WORDS['unavailable']}, {model.why_not(axis.id)}."
    rows = [
        c
        for row in found.values()
        for c in row
        if c.axis.id == axis.id and c.outcome != "unavailable"
    ]
    parts = [sentence_of(c) for c in rows]
    value = (
        f"{name} {axis.text(score.value)} ({axis.span(score.low, score.high)}, {score.n} prompts)"
    )
    remark = model.remark(axis.id)
    parts = [*parts, *([remark] if remark else [])]
    return f"{value}: {'; '.join(parts) or 'nothing to compare with'}."


def enumerated(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
