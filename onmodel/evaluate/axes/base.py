"""What an axis is: a record of itself and a plain function from evidence to one number per
prompt."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from onmodel.character import Character
from onmodel.evaluate.features import Features
from onmodel.sample.suites import Prompt, Vocabulary
from onmodel.text import capital, decimal

Direction = Literal["up", "down", "zero", "one"]
IDEALS: Mapping[Direction, float] = {"up": 1.0, "down": 0.0, "zero": 0.0, "one": 1.0}
ARROWS: Mapping[Direction, tuple[str, str]] = {
    "up": ("\N{UPWARDS ARROW}", "higher is better"),
    "down": ("\N{DOWNWARDS ARROW}", "lower is better"),
    "zero": ("\N{RIGHTWARDS ARROW} 0", "nearer to 0 is better"),
    "one": ("\N{RIGHTWARDS ARROW} 1", "nearer to 1 is better"),
}


@dataclass(frozen=True, slots=True)
class Axis:
    """A metric's record. Without it no score is published.

    `range`: None is an open end. `direction`: "up" and "down" are better so, "zero" and "one" are
    ideals. `across`: how the values of prompts become the value of a model. `fault`: the deviation
    from the ideal that is as bad as a whole unit of the other axes, for adding them up. `seeds`:
    pictures of a prompt without which it tells nothing.
    """

    id: str
    title: str
    unit: str
    range: tuple[float | None, float | None]
    direction: Direction
    across: Literal["mean", "geometric"]
    arm: str
    observers: tuple[str, ...]
    version: int
    fault: float
    origin: str
    limits: str
    seeds: int = 1

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON values; `range` with None for open ends."""
        return asdict(self) | {"range": list(self.range), "observers": list(self.observers)}

    @property
    def short(self) -> str:
        """The title up to its first comma, for lists."""
        return self.title.partition(",")[0]

    @property
    def heading(self) -> str:
        """The title as a sentence begins."""
        return capital(self.title)

    @property
    def ideal(self) -> float:
        """The best value; where higher is better, a ratio to the base may be more than 1."""
        return IDEALS[self.direction]

    @property
    def arrow(self) -> str:
        return ARROWS[self.direction][0]

    @property
    def meaning(self) -> str:
        """ "higher is better" and its siblings."""
        return ARROWS[self.direction][1]

    @property
    def signed(self) -> bool:
        """True where both signs mean something, so that a plus is printed."""
        low, _ = self.range
        return self.direction == "zero" and (low is None or low < 0)

    @property
    def places(self) -> int:
        """Decimals: two, or one where a whole fault is many units."""
        return 2 if self.fault < 10 else 1

    def cost(self, value: float) -> float:
        """Deviation from the ideal in whole faults."""
        return float(cost(self, np.asarray(value)))

    def text(self, value: float) -> str:
        return decimal(value, self.places, self.signed)

    def span(self, low: float, high: float) -> str:
        """An interval as text."""
        return f"{self.text(low)}\N{HORIZONTAL ELLIPSIS}{self.text(high)}"


def cost(axis: Axis, value: np.ndarray) -> np.ndarray:
    """Deviation from the ideal in whole faults. "up" axes have the ideal 1, and more than that is
    still better."""
    if axis.direction in ("zero", "one"):
        deviation = np.abs(value - (axis.direction == "one"))
    else:
        deviation = 1 - value if axis.direction == "up" else value
    return np.asarray(deviation / axis.fault)


def prompt_costs(axis: Axis, values_p: np.ndarray) -> np.ndarray:
    """Costs per prompt whose mean is that of the model: for an ideal, a swing to both sides is no
    bias, a shift is."""
    if axis.across == "geometric":
        values_p = np.log(values_p) + 1
    if axis.direction in ("zero", "one"):
        away = values_p - (axis.direction == "one")
        return np.asarray(away * (-1.0 if np.nanmean(away) < 0 else 1.0) / axis.fault)
    return cost(axis, values_p)


class Unavailable(Exception):
    """An axis cannot be measured; says why. It is never guessed and never 0."""


@dataclass(frozen=True)
class Measured:
    """One number per prompt [P], NaN where the prompt says nothing.

    With a `control` [P] the axis is the ratio of the two means. `details` are JSON values that
    explain the number.
    """

    values: np.ndarray
    control: np.ndarray | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class References:
    """Held-out pictures of the character; pictures of one `group` are near duplicates of each
    other.

    `compare` is the identity model's: features [N, F] and [M, F] → how much the pictures differ [N,
    M], 0…1.
    """

    features: Features
    groups: np.ndarray
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray] | None

    def differences(self, identity_nf: np.ndarray) -> np.ndarray:
        """How much each picture differs from each reference, [N, references]. Raises Unavailable
        without a model."""
        if self.compare is None or not identity_nf.shape[-1]:
            raise Unavailable("no identity model was given")
        return self.compare(identity_nf, self.features.identity)

    def agreement(self, identity_nf: np.ndarray) -> np.ndarray:
        """Mean agreement (1 − difference) of each picture with the references, [N]."""
        return 1 - self.differences(identity_nf).mean(1)


@dataclass(frozen=True)
class Training:
    """Pictures that a model was trained on: what is seen in them [T, …], and their names,
    `subset/file`."""

    features: Features
    names: Sequence[str]

    @classmethod
    def join(cls, parts: Sequence["Training"]) -> "Training":
        """The pictures of all of them."""
        features = parts[0].features
        for part in parts[1:]:
            features = features.join(part.features)
        return cls(features, [name for part in parts for name in part.names])


@dataclass(frozen=True)
class Evidence:
    """All that is known of one model. `arms`: letter → Features [P, S, …]; the control stands in
    `arms` as D.

    `vocabulary`: attribute → value → tag; `columns`: tag → column of the tagger, for the tags it
    knows.
    """

    character: Character

    prompts: Sequence[Prompt]
    vocabulary: Vocabulary
    columns: Mapping[str, int]
    arms: Mapping[str, Features]
    references: References | None
    training: Training | None

    @property
    def free(self) -> frozenset[str]:
        """The attributes that the character leaves free."""
        return frozenset(self.character.free)

    def arm(self, letter: str) -> Features:
        """Features of an arm. Raises Unavailable when it was not generated."""
        if letter not in self.arms:
            raise Unavailable(f"arm {letter} was not generated")
        return self.arms[letter]

    def seen(self, letter: str, attribute: str) -> dict[str, np.ndarray]:
        """Value → tagger probability [P, S] that it is seen, for the values that the tagger has a
        column for.

        Raises Unavailable without a tagger.
        """
        tags = self.arm(letter).tags
        if tags.shape[-1] == 0:
            raise Unavailable("no tagger was given")
        values = self.vocabulary.get(attribute, {})
        return {
            value: tags[..., self.columns[tag]]
            for value, tag in values.items()
            if tag in self.columns
        }

    def agreement(self, letter: str) -> np.ndarray:
        """Mean identity agreement (1 − difference) with the references [P, S]. Raises Unavailable
        without them."""
        features = self.arm(letter).identity
        if self.references is None:
            raise Unavailable("no held-out references were given")
        *pictures, width = features.shape
        return self.references.agreement(features.reshape(math.prod(pictures), width)).reshape(
            pictures
        )


def informedness(evidence: Evidence, letter: str, attribute: str) -> np.ndarray:
    """Youden's J per prompt [P]: probability of the asked value minus its probability where a
    sibling is asked.

    NaN where the attribute is not asked, or cannot be judged: no column, or no prompt asks for a
    sibling.
    """
    seen = {value: found.mean(1) for value, found in evidence.seen(letter, attribute).items()}
    asked = [prompt.asked.get(attribute) for prompt in evidence.prompts]
    result = np.full(len(asked), np.nan)
    for p, value in enumerate(asked):
        siblings = [q for q, other in enumerate(asked) if other in seen and other != value]
        if value in seen and siblings:
            result[p] = seen[value][p] - seen[value][siblings].mean()
    return result


def chosen(table_vp: np.ndarray) -> np.ndarray:
    """For each prompt [P] the row that is largest over the other half of the prompts (even or odd),
    of [V, P].

    What it picks owes nothing to the prompt's own chance. All the other prompts would not do: their
    sum is largest where the prompt's own value is small.
    """
    half = np.arange(table_vp.shape[1]) % 2
    return np.array([table_vp[:, half != own].sum(1).argmax() for own in (0, 1)])[half]


def mean_of_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over rows [K][P] by prompt, leaving NaN out; NaN where a prompt has none."""
    table = np.array(rows)
    known = ~np.isnan(table)
    total = np.where(known, table, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
