"""The result of a comparison in a few plain sentences, each with a number that a person can check
in the pictures. Pages, summary.json, the terminal and the release card print the same.

At most MOST sentences, the largest change first; then what stayed the same; then what is open.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.axes.design import ONE_HEAD, differing, mean_violation
from onmodel.evaluate.compare import Comparison, readable
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.text import capital

MOST = 6
HALF_PULL = 0.5  # of the way to a subset's style, from which it is named as the likely cause

# Axis → the attribute whose asked values it judges: the prompts that get them are counted.
ASKED = {"style": "style", "expression": "expression", "outfit_change": "outfit"}
# Axis → what a maker can change where it got worse.
REMEDIES: Mapping[str, str] = {
    "reproduction": "Train longer, or add pictures that show the whole design.",
    "design": "Check this trait in the pictures and captions; correct or remove those that differ.",
    "style": "Caption the style of the training pictures, or lower the repeats of that subset.",
    "expression": "Add pictures with other expressions, and caption the expression of each.",
    "default_expression": "Caption the expression of every picture, or add other expressions.",
    "default_framing": "Caption the framing of every picture, or add close-ups and full bodies.",
    "composition": "Add pictures with other poses and framings.",
    "colour_cast": "Correct the colour of the training pictures before training.",
    "colour_area": "Correct the colour of the training pictures, or caption the background.",
    "outfit_keep": "Add pictures of the outfit, with its tags in the caption.",
    "outfit_change": "Caption the outfit of every picture, or add pictures in other outfits.",
    "outfit_leak": "Caption the outfit of every picture, so that it is not part of the trigger.",
    "memorisation": "Lower repeats or epochs, or add pictures to the subset.",
    "drift": "Lower the learning rate or the number of epochs, or train fewer layers.",
    "entanglement": "Add pictures that show one of the two without the other.",
    "override": "Caption the trait where it may change, and add pictures without it.",
}


@dataclass(frozen=True)
class Headline:
    """One change: the comparison, its sentence, the prompt whose pictures show it most, and what to
    do about it ("" where it got better)."""

    comparison: Comparison
    sentence: str
    prompt: str
    remedy: str


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison with one or several models says: changes, and one line each for what stayed
    the same and what is open ("" for none)."""

    changes: Sequence[Headline]
    further: int
    same: str
    open: str

    @property
    def sentences(self) -> list[str]:
        """The result as text, in the order in which it is read."""
        rows = [f"{one.sentence} {one.remedy}".rstrip() for one in self.changes]
        if self.further:
            rows.append(f"{self.further} smaller changes are in the table.")
        rows += filter(None, (self.same, self.open))
        return rows or ["No declared question was measured for both models."]


def label(model: str) -> str:
    """How a person calls a model: `release_2@30` → `Release 2 @30`."""
    stage, _, epoch = model.partition("@")
    return capital(stage.replace("_", " ")) + (f" @{epoch}" if epoch else "")


def result_of(
    evaluation: Evaluation, shown: str, compared: Mapping[str, Sequence[Comparison]]
) -> ComparisonResult:
    """The result of the model `shown` against others: `compared` is other model → its comparisons.

    Of the pairs in which an axis changed, the largest change speaks for the axis.
    """
    largest: dict[str, Comparison] = {}
    for row in compared.values():
        for one in row:
            before = largest.get(one.axis.id)
            if one.called and (before is None or abs(one.gain) > abs(before.gain)):
                largest[one.axis.id] = one
    ranked = sorted(largest.values(), key=lambda one: abs(one.gain) / one.axis.fault, reverse=True)
    changes = [_headline(evaluation, shown, one) for one in ranked[:MOST]]
    quiet = [one for row in compared.values() for one in row if one.axis.id not in largest]
    return ComparisonResult(changes, len(ranked[MOST:]), _same(quiet), _open(quiet))


def _headline(evaluation: Evaluation, shown: str, one: Comparison) -> Headline:
    model, other = evaluation.model(shown), evaluation.model(one.against)
    against = label(one.against)
    now = plain_number(evaluation, model, one.axis, other)
    before = plain_number(evaluation, other, one.axis, model)
    sentence = (
        f"{capital(one.outcome)} than {against} on {one.axis.short}: {now}; {against}: {before}."
    )
    worse = model if one.outcome == "worse" else other
    if cause := _cause(worse, one.axis):
        sentence += f" {cause}"
    remedy = REMEDIES.get(one.axis.id, "") if one.outcome == "worse" else ""
    return Headline(one, sentence, _telling_prompt(one, model, other), remedy)


def plain_number(
    evaluation: Evaluation, model: EvaluatedModel, axis: Axis, other: EvaluatedModel
) -> str:
    """What the axis measured of a model, as a count of its pictures where there is one.

    The trait of `design` is the one in which the two models differ most.
    """
    score = model.score(axis.id)
    if axis.id == "reproduction" and model.agreement and model.agreement.hits:
        return f"{model.agreement.hits[0]:.0%} of the pictures show the character"
    if axis.id == "design" and (trait := _differing_trait(evaluation, model, other)):
        return trait
    if axis.id in ASKED and (found := _asked_and_seen(evaluation, model, ASKED[axis.id])):
        return f"the asked {ASKED[axis.id]} is drawn in {found[0]} of {found[1]} prompts"
    if axis.id == "colour_cast" and score:
        hue, size = "yellow" if score.value > 0 else "blue", f"{abs(score.value):.0f}"
        return f"{size} unit{'' if size == '1' else 's'} of Δb* towards {hue}"
    if axis.id == "colour_area" and score:
        return f"{axis.text(score.value)} {axis.unit}"
    return f"{axis.text(score.value) if score else 'unknown'} ({axis.unit})"


def _differing_trait(evaluation: Evaluation, model: EvaluatedModel, other: EvaluatedModel) -> str:
    """The trait in which the comparison found the two models to differ most, in words."""
    if model.traits is None or not readable(
        evaluation.axes["design"], evaluation.shared, model, other
    ):
        return ""
    shared = {name: np.array(table) for name, table in evaluation.shared["design"].items()}
    ours, theirs = (np.array([one.rows["design"]], dtype=float) for one in (model, other))
    place = int(differing(ours, theirs, shared)[1][0])
    tag = list(model.traits.traits)[place]
    own = model.traits.traits[tag].violated or 0.0
    others = other.traits.traits[tag].violated or 0.0 if other.traits else 0.0
    share = f"{own:.0%} of the pictures"
    mine, their = (mean_violation(rows[0], place) for rows in (ours, theirs))
    if (mine - their) * (own - others) <= 0:  # pictures that are counted hide what was compared
        share += f" (mean probability {mine:.2f})"
    if tag == ONE_HEAD:
        return f"not one head in {share}"
    return f"{tag} is {'missing' if tag in model.traits.required else 'seen'} in {share}"


def _asked_and_seen(
    evaluation: Evaluation, model: EvaluatedModel, attribute: str
) -> tuple[int, int] | None:
    """In how many prompts the asked value is the likeliest in the pictures, and how many ask for
    the attribute; None where no picture was read."""
    seen = read = 0
    for prompt in evaluation.plan.prompts:
        answer = model.answers.get(prompt.id, {}).get(attribute)
        if answer:
            means = {value: sum(rows) / len(rows) for value, rows in answer.items()}
            read += 1
            seen += max(means, key=lambda value: means[value]) == prompt.asked[attribute]
    return (seen, read) if read else None


def _cause(model: EvaluatedModel, axis: Axis) -> str:
    """What in the training data of the worse model is likely behind it, where subsets tell it."""
    if axis.id == "style" and model.style_pull:
        pulls = {
            name: pull
            for name, pull in model.style_pull.pull_by_subset.items()
            if pull is not None and pull >= HALF_PULL
        }
        if pulls:  # 1 is all the way; far more than that is towards another style
            subset = min(pulls, key=lambda name: abs(1 - pulls[name]))
            name = label(model.name)
            return f"{name} draws like subset {subset} where the prompt asks for no style."
    if axis.id == "memorisation" and model.near_copies and model.near_copies.nearest:
        return f"The nearest training picture is {model.near_copies.nearest[0].training}."
    return ""


def _telling_prompt(one: Comparison, model: EvaluatedModel, other: EvaluatedModel) -> str:
    """The prompt on which the models differ most in the direction of the change; "" for none."""
    ours, theirs = model.values(one.axis.id), other.values(one.axis.id)
    best, most = "", -math.inf
    for prompt in ours.keys() & theirs.keys():
        gain = one.axis.cost(theirs[prompt]) - one.axis.cost(ours[prompt])
        rank = (gain if one.gain > 0 else -gain, prompt)
        if (best == "" or rank > (most, best)) and not math.isnan(rank[0]):
            most, best = rank
    return best


def _same(rows: Iterable[Comparison]) -> str:
    """The axes that are the same in every pair."""
    outcomes: dict[str, set[str]] = {}
    titles: dict[str, str] = {}
    for one in rows:
        if one.outcome != "unavailable":
            outcomes.setdefault(one.axis.id, set()).add(one.outcome)
            titles[one.axis.id] = one.axis.short
    same = [titles[id] for id, found in outcomes.items() if found == {"same"}]
    return f"Unchanged: {', '.join(same)}." if same else ""


def _open(rows: Iterable[Comparison]) -> str:
    """The declared questions that are open, with what would settle each."""
    found: dict[str, Comparison] = {}
    for one in rows:
        if one.outcome == "open" and not one.exploratory:
            found.setdefault(one.axis.id, one)
    if not found:
        return ""
    parts = [f"{one.axis.short} ({one.settled_by})" for one in found.values()]
    return f"Open: {'; '.join(parts)}."
