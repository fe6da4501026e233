"""What an axis is: a record of itself and a plain function from evidence to one number per
prompt."""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from onmodel.character import Character
from onmodel.evaluate.features import Features
from onmodel.evaluate.observer_check import IDENTITY, ObserverCheck
from onmodel.sample.suites import Prompt, Vocabulary
from onmodel.text import capital, decimal

NOTICED = 0.1  # of a whole fault
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
    pictures of a prompt without which it tells nothing. `retraining`: what training again on data
    of the same kind may change, in the axis' unit (docs/explanation/statistics.md); 0 where it is
    within a tenth of a fault, or not measured.
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
    retraining: float = 0.0

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
    def noticed(self) -> float:
        """The change, in the same unit as `margin`, from which a person may notice a difference."""
        return NOTICED * self.fault

    @property
    def margin(self) -> float:
        """The change, in the axis' unit (in its logarithm for geometric means), below which nobody
        notices a difference or another training brings it: a smaller one is never called better
        or worse."""
        return max(self.noticed, self.retraining)

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


Shared = Mapping[str, np.ndarray]
"""What a joint axis needs beside a model's rows: the same for every model of a plan."""


@dataclass(frozen=True)
class Joint:
    """What a joint axis finds: `rows` [P, K], where a row follows from the pictures of its prompt
    alone. `shared` has the base's rows under BASE where the axis reads the base."""

    rows: np.ndarray
    shared: Shared
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Joining:
    """How a joint axis makes prompt values of rows.

    `spread`: (rows [R, P, K], weights [R, P], shared) → value of each prompt [R, P], NaN where it
    says nothing. R runs over permuted or resampled sets of prompts, or is 1; a weight says how
    often a prompt counts. With `ratio` the axis is the ratio to the same of the base's rows.
    `contrast`: (rows of a and of b [R, P, K], weights, shared) → how much worse a is than b [R], in
    the axis' unit, where that is not the difference of two values; `changes`: (rows of a and of b,
    shared) → the same of each prompt [R, P], NaN where it says nothing. `tested`: (rows of a and of
    b, shared) → what the swaps are compared in [R], where that is not the contrast.
    """

    spread: Callable[[np.ndarray, np.ndarray, Shared], np.ndarray]
    ratio: bool = False
    contrast: Callable[[np.ndarray, np.ndarray, np.ndarray, Shared], np.ndarray] | None = None
    changes: Callable[[np.ndarray, np.ndarray, Shared], np.ndarray] | None = None
    tested: Callable[[np.ndarray, np.ndarray, Shared], np.ndarray] | None = None

    def value(self, rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
        """The axis' value of each set [R]; NaN where no prompt says anything, or the base has 0 to
        compare with."""
        values, control = self.parts(rows_rpk, weights_rp, shared)
        mean = weighted_mean(values, weights_rp)
        if control is None:
            return mean
        whole = weighted_mean(control, weights_rp)
        return np.divide(mean, whole, out=np.full_like(mean, np.nan), where=whole != 0)

    def parts(
        self, rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The values [R, P] of the prompts, and those of the base where the axis is a ratio."""
        values = self.spread(rows_rpk, weights_rp, shared)
        if not self.ratio:
            return values, None
        return values, self.spread(shared[BASE][None], weights_rp, shared)


BASE = "base"
LEAST_READABLE = 0.5  # share of the free attributes below which an axis over them is not judged
PLACES = 5  # of a row's numbers, so that a file holds exactly what was computed with


def weighted_mean(values_rp: np.ndarray, weights_rp: np.ndarray) -> np.ndarray:
    """Mean over prompts [R], leaving NaN out; NaN where nothing is left."""
    known = ~np.isnan(values_rp)
    count = (known * weights_rp).sum(1)
    total = (np.where(known, values_rp, 0.0) * weights_rp).sum(1)
    return np.asarray(total / np.where(count > 0, count, np.nan))


@dataclass(frozen=True)
class References:
    """Held-out pictures of the character; pictures of one `group` are near duplicates of each
    other.

    `compare` is the identity model's: features [N, F] and [M, F] → how much the pictures differ [N,
    M], 0…1. `labels`: the tags of each picture; `damaged`: what the classifier of corruption says
    of damaged copies of the first of them. Both serve the checks of the observers alone.
    """

    features: Features
    groups: np.ndarray
    compare: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    labels: Sequence[Collection[str]] = ()
    damaged: np.ndarray = field(default_factory=lambda: np.zeros(0))

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
    knows. `checks`: what the observers showed on these drawings, by attribute, and by IDENTITY,
    CORRUPTION and HEADS; what failed is not judged.
    """

    character: Character
    prompts: Sequence[Prompt]
    vocabulary: Vocabulary
    columns: Mapping[str, int]
    arms: Mapping[str, Features]
    references: References | None
    training: Training | None
    checks: Mapping[str, ObserverCheck] = field(default_factory=dict)

    def require(self, subject: str) -> None:
        """Raise Unavailable where an observer failed its check on what it is asked about."""
        check = self.checks.get(subject)
        if check is not None and not check.passed:
            raise Unavailable(check.reason)

    @property
    def free(self) -> frozenset[str]:
        """The attributes that the character leaves free."""
        return frozenset(self.character.free)

    def readable_attributes(self) -> tuple[list[str], dict[str, str]]:
        """The free attributes that the tagger can read, and attribute → why it is left out.

        Raises Unavailable where it can read fewer than LEAST_READABLE of them.
        """
        free = sorted(self.free & set(self.vocabulary))
        failed = [name for name in free if name in self.checks and not self.checks[name].passed]
        if len(free) - len(failed) < LEAST_READABLE * len(free):
            reasons = "; ".join(self.checks[name].why for name in failed)
            left = len(free) - len(failed)
            raise Unavailable(f"{left} of {len(free)} free attributes can be read: {reasons}")
        kept = [name for name in free if name not in failed]
        return kept, {name: self.checks[name].why for name in failed}

    def arm(self, letter: str) -> Features:
        """Features of an arm. Raises Unavailable when it was not generated."""
        if letter not in self.arms:
            raise Unavailable(f"arm {letter} was not generated")
        return self.arms[letter]

    def seen(self, letter: str, attribute: str) -> dict[str, np.ndarray]:
        """Value → tagger probability [P, S] that it is seen, for the values that the tagger has a
        column for.

        Raises Unavailable without a tagger, and where it cannot read the attribute.
        """
        tags = self.arm(letter).tags
        if tags.shape[-1] == 0:
            raise Unavailable("no tagger was given")
        self.require(attribute)
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
        self.require(IDENTITY)
        *pictures, width = features.shape
        return self.references.agreement(features.reshape(math.prod(pictures), width)).reshape(
            pictures
        )


def seen_rows(
    evidence: Evidence, letter: str, attributes: Sequence[str]
) -> tuple[np.ndarray, dict[str, dict[str, int]]]:
    """Mean probability over a prompt's pictures of every value of the attributes [P, K], and
    attribute → value → column."""
    tables = [evidence.seen(letter, attribute) for attribute in attributes]
    numbers = itertools.count()
    columns = {
        attribute: {value: next(numbers) for value in seen}
        for attribute, seen in zip(attributes, tables, strict=True)
    }
    rows = [found.mean(1) for seen in tables for found in seen.values()]
    return np.stack(rows, axis=-1) if rows else np.zeros((len(evidence.prompts), 0)), columns


def asked_columns(
    evidence: Evidence, columns: Mapping[str, Mapping[str, int]], other: int = -1
) -> np.ndarray:
    """The column of the value that each prompt asks for [attributes, P]: −1 where none is asked,
    `other` where the tagger has no column for it."""
    return np.array(
        [
            [
                values.get(prompt.asked[attribute], other) if attribute in prompt.asked else -1
                for prompt in evidence.prompts
            ]
            for attribute, values in columns.items()
        ],
        dtype=int,
    ).reshape(len(columns), len(evidence.prompts))


def informedness(rows_rpk: np.ndarray, weights_rp: np.ndarray, asked_p: np.ndarray) -> np.ndarray:
    """Youden's J per prompt [R, P] of one attribute: probability of the asked value minus its mean
    probability where a sibling is asked.

    `asked_p` as `asked_columns` gives it. NaN where the attribute is not asked, or where no prompt
    asks for a sibling.
    """
    rows, weights = np.broadcast_arrays(rows_rpk, weights_rp[..., None])[0], weights_rp
    found = np.full(rows.shape[:2], np.nan)
    asking = np.flatnonzero(asked_p >= 0)
    if not len(asking):
        return found
    columns, place = np.unique(asked_p[asking], return_inverse=True)
    seen = rows[:, asking][:, :, columns]  # [R, asking, values]
    sibling = weights[:, asking, None] * (place[:, None] != np.arange(len(columns)))
    count = sibling.sum(1)
    others = (seen * sibling).sum(1) / np.where(count > 0, count, np.nan)
    found[:, asking] = seen[:, np.arange(len(asking)), place] - others[:, place]
    return found


def chosen(rows_rpk: np.ndarray, weights_rp: np.ndarray) -> np.ndarray:
    """Each prompt's value [R, P] of the column that is largest over the other half of the prompts
    (even or odd).

    What it picks owes nothing to the prompt's own chance. All the other prompts would not do: their
    sum is largest where the prompt's own value is small. NaN where no prompt of the other half
    counts.
    """
    rows = np.broadcast_arrays(rows_rpk, weights_rp[..., None])[0]
    found = np.empty(rows.shape[:2])
    half = np.arange(rows.shape[1]) % 2
    for own in (0, 1):
        others = weights_rp[:, half != own]
        total = (rows[:, half != own] * others[..., None]).sum(1)
        picked = np.take_along_axis(rows[:, half == own], total.argmax(1)[:, None, None], axis=2)
        found[:, half == own] = np.where(others.sum(1)[:, None] > 0, picked[..., 0], np.nan)
    return found


def mean_of_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over rows [K][…, P] by prompt, leaving NaN out; NaN where a prompt has none."""
    table = np.array(rows)
    known = ~np.isnan(table)
    total = np.where(known, table, 0).sum(0)
    return np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
