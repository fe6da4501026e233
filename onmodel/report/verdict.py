"""The comparison of the shown model with the others in plain sentences."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.compare import WORDS, Comparison, decide_pairs, undecided_pairs
from onmodel.evaluate.evaluation import EvaluatedModel
from onmodel.evaluate.headlines import ComparisonResult, label, result_of
from onmodel.evaluate.plan import share_prompts
from onmodel.report.source import ReportSource
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
    """The shown model against each of `source.rivals`, by label. One Comparison per axis."""
    return {label(name): row for name, row in _shown(source).items()}


def result(source: ReportSource) -> ComparisonResult | None:
    """The result of the shown model in a few sentences; None where nothing was compared."""
    compared = _shown(source)
    if not compared or source.published is None or source.shown is None:
        return None
    return result_of(source.published, source.shown, compared)


def _shown(source: ReportSource) -> dict[str, list[Comparison]]:
    """The same comparisons under the models' own names."""
    found = source.compared
    return {name: found[name] for name in source.rivals if name in found}


def differences(source: ReportSource) -> dict[tuple[str, str], list[Comparison]]:
    """(a, b) → a against b on every axis, both ways round. Pairs with the shown model are those of
    the verdict; the others are adjusted over all of them.

    Beside more than EVERY_PAIR models only the pairs with the shown one.
    """
    evaluation, shown = source.published, source.shown
    if evaluation is None or shown is None:
        return {}
    others = [pair for pair in pairs(evaluation.names, shown) if shown not in pair]
    rows = {**source.undecided, **undecided_pairs(evaluation, others)}
    found = decide_pairs(evaluation, rows)
    found |= {(shown, other): row for other, row in source.compared.items()}
    turned = {(b, a): [one.turned(a) for one in row] for (a, b), row in found.items()}
    return found | turned


def pairs(names: Sequence[str], shown: str) -> list[tuple[str, str]]:
    """The pairs of models that a page compares, one way round."""
    every = len(names) <= EVERY_PAIR
    return [(a, b) for a, b in combinations(names, 2) if every or shown in (a, b)]


def verdict(source: ReportSource) -> list[str]:
    """Plain sentences: the result, then one for each axis."""
    found, result_ = comparisons(source), result(source)
    if result_ is None or source.shown is None or source.published is None:
        return []
    model = source.measured[source.shown]
    axes = source.published.axes.values()
    return (
        result_.sentences
        + chosen_on(source)
        + second_look(source)
        + [_axis_sentence(model, axis, found) for axis in axes]
    )


def chosen_on(source: ReportSource) -> list[str]:
    """A sentence where models of this run were chosen on prompts of the published evaluation."""
    if source.published is None:
        return []
    plans = [one.signature for one in source.selections.values()]
    plans += [one.check for one in source.searches.values()]
    if any(share_prompts(source.published.signature, plan) for plan in plans):
        return [
            "Models were chosen on these same prompts, so the numbers flatter them. Judge them by"
            " an evaluation with another suite."
        ]
    return []


def second_look(source: ReportSource) -> list[str]:
    """What a second look at the published evaluation found of the questions that it left open."""
    sentences = []
    for name, evaluation in source.evaluations.items():
        if evaluation.first is not None and evaluation.first.stage == source.published_name:
            found = result(source.about(name))
            prompts = len(evaluation.plan.prompts) - evaluation.first.prompts
            start = f"Second look, with {prompts} more prompts:"
            sentences += [f"{start} {one}" for one in (found.sentences if found else [])]
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
