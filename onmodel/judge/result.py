"""The result of the answers: strengths, ties, the judge's consistency, and the agreement of each
axis with the judge.

Only first showings count as votes; repeats measure the judge. The unit is the prompt, as
everywhere.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import stats

from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.evaluation import Evaluation
from onmodel.evaluate.statistics import CONFIDENCE, Interval, mean_interval
from onmodel.hashing import write_json
from onmodel.judge.session import Pair, Session
from onmodel.judge.strength import strengths
from onmodel.judge.votes import Answer, Votes

CHANCE = 0.5
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Vote:
    """The answer to a first showing; `chosen` is a model, None for a tie."""

    pair: Pair
    chosen: str | None


@dataclass(frozen=True)
class JudgedModel:
    """One model. `strength`: Bradley–Terry log-odds, mean 0; `preferred`: share of pairs it would
    win against the others. None where answers lie on one prompt only."""

    name: str
    strength: Interval | None
    preferred: Interval | None
    won: int
    lost: int
    tied: int


@dataclass(frozen=True)
class AxisAgreement:
    """How often an axis prefers the picture that the judge chose.

    Counted over decided pairs on whose prompt the axis has different values for the two models.
    `share` is None when these pairs cover fewer than two prompts.
    """

    axis: str
    title: str
    share: Interval | None
    pairs: int


@dataclass(frozen=True)
class SessionResult:
    """Everything that a session says. `models` strongest first; `ties`, `left`, `repeated`: shares
    of the answers, of the decided answers, of the repeats that were answered alike."""

    question: str
    signature: str
    seed: int
    answered: int
    of: int
    models: Sequence[JudgedModel]
    ties: Interval | None
    left: Interval | None
    repeated: Interval | None
    repeats: int
    reversed: int
    axes: Sequence[AxisAgreement]
    notes: Sequence[str]

    def as_dict(self) -> dict[str, object]:
        """JSON values."""
        return asdict(self)


def result(session: Session, answers: Sequence[Answer]) -> SessionResult:
    """Read the answers, one for each of the first pairs."""
    evaluation = session.measured()
    given = list(zip(session.pairs, answers, strict=False))
    votes = [Vote(pair, _choice(pair, answer)) for pair, answer in given if pair.repeats is None]
    again = [
        (_choice(session.pairs[pair.repeats], answers[pair.repeats]), _choice(pair, answer))
        for pair, answer in given
        if pair.repeats is not None
    ]
    models, notes = _models(session, votes)
    found = SessionResult(
        question=session.question,
        signature=evaluation.signature,
        seed=session.seed,
        answered=len(given),
        of=len(session.pairs),
        models=models,
        ties=_share([(vote.pair.prompt, vote.chosen is None) for vote in votes]),
        left=_share([(pair.prompt, answer == "left") for pair, answer in given if answer != "tie"]),
        repeated=_repeated([first == second for first, second in again]),
        repeats=len(again),
        reversed=sum(None not in (first, second) and first != second for first, second in again),
        axes=_agreements(evaluation, votes),
        notes=notes,
    )
    return replace(found, notes=[*notes, *_warnings(found)])


def end_session(session: Session, votes: Votes) -> SessionResult:
    """Work out the result, close the votes and write result.json. The result of an ended session is
    worked out again. Raises ValueError before the first answer."""
    if not votes.answers:
        raise ValueError("no pair was answered yet")
    found = result(session, votes.answers)
    if not votes.ended:
        votes.end()
    write_json(session.folder / "result.json", found.as_dict())
    return found


def judge_rows(found: SessionResult) -> list[tuple[str, Interval | None, str]]:
    """What is known of the judge: words, share, what it is a share of."""
    votes = (
        sum(model.won for model in found.models) + sum(model.tied for model in found.models) // 2
    )
    return [
        ("ties", found.ties, f"{votes} pairs"),
        (
            "the same answer when shown again",
            found.repeated,
            f"{found.repeats} repeats, {found.reversed} reversed",
        ),
        ("the left picture", found.left, "decided answers, repeats too"),
    ]


def spelt(interval: Interval | None, signed: bool = False) -> str:
    """`0.71 [0.55, 0.83]`, or a dash."""
    if interval is None:
        return NOTHING
    form = "{:+.2f} [{:+.2f}, {:+.2f}]" if signed else "{:.2f} [{:.2f}, {:.2f}]"
    return form.format(interval.value, interval.low, interval.high)


def _choice(pair: Pair, answer: Answer) -> str | None:
    """The model that was chosen; None for a tie."""
    return {"left": pair.left, "right": pair.right, "tie": None}[answer]


def _share(rows: Sequence[tuple[str, bool]]) -> Interval | None:
    """Share of (prompt, yes) rows that say yes, every prompt counting alike; None with fewer than
    two prompts."""
    by_prompt: dict[str, list[bool]] = {}
    for prompt, yes in rows:
        by_prompt.setdefault(prompt, []).append(yes)
    if len(by_prompt) < 2:
        return None
    return mean_interval(np.array([np.mean(group) for group in by_prompt.values()]), (0, 1))


def _repeated(alike: Sequence[bool]) -> Interval | None:
    """Share of the repeats that were answered alike, with Wilson's interval over repeats: each is
    another pair."""
    if not alike:
        return None
    test = stats.binomtest(sum(alike), len(alike))
    low, high = test.proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(test.statistic), float(low), float(high), len(alike))


def _models(session: Session, votes: Sequence[Vote]) -> tuple[list[JudgedModel], list[str]]:
    """The models, strongest first, and which of them differ significantly."""
    names = list(session.models)
    prompts = list(dict.fromkeys(vote.pair.prompt for vote in votes))
    wins = np.zeros((len(prompts), len(names), len(names)))  # ties half to both
    ties = np.zeros(len(names), dtype=int)
    for vote in votes:
        ends = names.index(vote.pair.left), names.index(vote.pair.right)
        for own, other in (ends, ends[::-1]):
            won = 0.5 if vote.chosen is None else float(vote.chosen == names[own])
            wins[prompts.index(vote.pair.prompt), own, other] += won
            ties[own] += vote.chosen is None
    won, lost = (np.round(wins.sum((0, axis)) - ties / 2).astype(int) for axis in (2, 1))
    counts = list(zip(won.tolist(), lost.tolist(), ties.tolist(), strict=True))
    if len(prompts) < 2:
        told = "the answers lie on fewer than two prompts: they say nothing about the models"
        return [
            JudgedModel(name, None, None, *row) for name, row in zip(names, counts, strict=True)
        ], [told]
    fit = strengths(wins, session.seed)
    order = np.argsort(-fit.values, kind="stable").tolist()
    models = [JudgedModel(names[m], fit.strength(m), fit.preferred(m), *counts[m]) for m in order]
    best, *others = order
    worse = [m for m in others if fit.told_apart(best, m)]
    alike = [m for m in others if m not in worse]
    notes = [
        f"{names[best]} is preferred to {_listed(names, worse)} (95 %, all pairs of models"
        " together)"
    ] * bool(worse)
    notes += [f"{names[best]} cannot be told from {_listed(names, alike)}"] * bool(alike)
    for model in models:
        if not model.won + model.lost + model.tied:
            notes.append(f"{model.name} was never shown: its strength is a guess")
        elif not model.won + model.tied or not model.lost + model.tied:
            which, end = ("won", "upper") if model.won else ("lost", "lower")
            notes.append(
                f"{model.name} {which} every vote: its strength has no {end} end that votes could"
                " show"
            )
    return models, notes


def _agreements(evaluation: Evaluation, votes: Sequence[Vote]) -> list[AxisAgreement]:
    """All axes together (the mean cost that select lowers), then each axis, from its value of each
    prompt."""
    axes = list(evaluation.axes.values())
    costs = {
        (row.name, axis.id, prompt): _cost(axis, value)
        for row in evaluation.models
        for axis in axes
        for prompt, value in row.values(axis.id).items()
    }
    by_axis: dict[str, list[tuple[str, float]]] = {axis.id: [] for axis in axes}
    together = []
    for vote in votes:
        if vote.chosen is None:
            continue
        prompt = vote.pair.prompt
        loser = vote.pair.left if vote.chosen == vote.pair.right else vote.pair.right
        saved = {
            axis.id: costs[loser, axis.id, prompt] - costs[vote.chosen, axis.id, prompt]
            for axis in axes
            if (loser, axis.id, prompt) in costs and (vote.chosen, axis.id, prompt) in costs
        }
        together.append((prompt, sum(saved.values())))
        for id, difference in saved.items():
            by_axis[id].append((prompt, difference))
    rows = [("bias", "all axes together, as select adds them up", together)]
    rows += [(axis.id, axis.title, by_axis[axis.id]) for axis in axes]
    return [_agreement(*row) for row in rows]


def _agreement(axis: str, title: str, differences: Sequence[tuple[str, float]]) -> AxisAgreement:
    decided = [(prompt, saved > 0) for prompt, saved in differences if saved]
    return AxisAgreement(axis, title, _share(decided), len(decided))


def _cost(axis: Axis, value: float) -> float:
    """Deviation of one prompt from the ideal, in whole faults; ratios by their logarithm."""
    return axis.cost(float(np.log(value)) + 1 if axis.across == "geometric" else value)


def _warnings(found: SessionResult) -> list[str]:
    """What to keep in mind about this judge and these axes."""
    notes = []
    if found.answered < found.of:
        notes.append(f"ended after {found.answered} of {found.of} pairs")
    if found.repeated is None:
        notes.append("no pair was shown again: how consistent the judge is is unknown")
    elif found.repeated.low <= CHANCE:
        notes.append("the repeats do not show that the judge answers more alike than by chance")
    if found.left and not found.left.low <= CHANCE <= found.left.high:
        notes.append(
            f"the judge leans to the {'left' if found.left.value > CHANCE else 'right'} side"
        )
    silent = [row.title for row in found.axes if row.share is None]
    if silent:
        notes.append(
            f"no two prompts with a decided pair and different values: {', '.join(silent)}"
        )
    return notes


def _listed(names: Sequence[str], which: Sequence[int]) -> str:
    return ", ".join(names[m] for m in which)
