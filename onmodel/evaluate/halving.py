"""Successive halving: look briefly at many checkpoints and LoRA weights, and longer at those that
may be the best.

First every checkpoint at its plainest weight, then the best third of them at every weight, both by
one picture a prompt; each round after that looks longer at a third as many. Rounds nest, so no
picture is made twice. What is dropped hears why. Axes that need two pictures of a prompt speak from
the third round on, and bounds on them wait for it. Jamieson & Talwalkar 2016 halve; here a third
goes on, because the first look costs a quarter of the last one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from onmodel.evaluate.axes import AXES
from onmodel.evaluate.evaluation import EvaluatedModel
from onmodel.evaluate.selection import Constraints, Selection, select
from onmodel.records import Model

KEEP = 3  # one of so many goes on, at least two


@dataclass(frozen=True)
class WeightedModel:
    """A checkpoint at a LoRA weight."""

    model: Model
    weight: float

    @property
    def name(self) -> str:
        """How tables call it: `release_2@20 × 0.8`."""
        return f"{self.model.name} × {self.weight:g}"


@dataclass(frozen=True)
class Rung:
    """How long a round looks: the first `prompts` of the suite, each with `seeds` pictures."""

    prompts: int
    seeds: int


RUNGS = (Rung(24, 1), Rung(24, 1), Rung(24, 2), Rung(48, 2))
Measure = Callable[[Sequence[WeightedModel], Rung], Sequence[EvaluatedModel]]


@dataclass(frozen=True)
class Round:
    """What a round looked at, with the reason for everything that it dropped."""

    rung: Rung
    looked: list[str]
    kept: list[str]
    dropped: dict[str, str]


def candidates(models: Sequence[Model], weights: Sequence[float]) -> list[WeightedModel]:
    """Every checkpoint at every weight: earlier checkpoints first, and weights near 1 before
    others."""
    plain_first = sorted(weights, key=lambda weight: (abs(weight - 1), weight))
    return [WeightedModel(model, weight) for model in models for weight in plain_first]


def halve(
    models: Sequence[Model],
    weights: Sequence[float],
    measure: Measure,
    constraints: Constraints,
    seed: int,
) -> tuple[Selection, list[Round]]:
    """Narrow the grid of checkpoints × weights and choose among what is left by the rule of
    selection.py.

    `measure` gives evaluation rows in the order of the candidates, named as they are. Raises what
    `select` raises.
    """
    everything = candidates(models, weights)
    plain = everything[0].weight
    alive = [one for one in everything if one.weight == plain]
    rounds: list[Round] = []
    for number, rung in enumerate(RUNGS):
        rows = measure(alive, rung)
        found = select(rows, _tellable(constraints, rung), seed)
        if number == len(RUNGS) - 1:
            break
        order = sorted(
            range(len(alive)),
            key=lambda i: (found.verdicts[i].violation, found.verdicts[i].bias, i),
        )
        count = min(len(alive), max(2, ceil(len(alive) / KEEP)))
        kept = sorted(order[:count])
        best, last = (found.verdicts[i] for i in (order[0], order[count - 1]))
        dropped = {
            alive[i].name: (
                f"bias {found.verdicts[i].bias:.3f} at {rung.prompts} × {rung.seeds}, where"
                f" {best.name} has {best.bias:.3f} and the last that went on {last.bias:.3f}"
                + (f"; {found.verdicts[i].reason}" if found.verdicts[i].violation else "")
            )
            for i in order[count:]
        }
        rounds.append(
            Round(rung, [one.name for one in alive], [alive[i].name for i in kept], dropped)
        )
        alive = [alive[i] for i in kept]
        if number == 0:
            left = [one.model for one in alive]
            alive = [one for one in everything if one.model in left]
    rounds.append(Round(RUNGS[-1], [one.name for one in alive], found.chosen, {}))
    return found, rounds


def _tellable(constraints: Constraints, rung: Rung) -> Constraints:
    """Without the bounds on axes that need more pictures of a prompt than the round has."""

    def told(bounds: Mapping[str, float]) -> dict[str, float]:
        return {id: bound for id, bound in bounds.items() if AXES[id][0].seeds <= rung.seeds}

    return replace(
        constraints, at_least=told(constraints.at_least), at_most=told(constraints.at_most)
    )


def most_looks(models: int, weights: int) -> int:
    """Pictures per arm that `halve` makes at most, as a sum over candidates; the full grid's are 96
    of each."""
    looks, alive, before = 0, models, Rung(0, 0)
    for number, rung in enumerate(RUNGS):
        size, known = rung.prompts * rung.seeds, before.prompts * before.seeds
        if number == 1:
            looks += alive * (weights - 1) * size
            alive *= weights
        else:
            looks += alive * (size - known)
        before = rung
        alive = min(alive, max(2, ceil(alive / KEEP)))
    return looks
