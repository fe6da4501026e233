"""What selection.json and search.json hold, as types, with their readers.

A tuning writes a selection.json, too, with its rounds in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from onmodel.errors import InputError, StateError
from onmodel.evaluate.axes.base import Axis
from onmodel.evaluate.evaluation import AnyScore, Score
from onmodel.evaluate.halving import Round
from onmodel.evaluate.selection import RULE, Constraints, Selection, Verdict
from onmodel.hashing import read_json

CHOICE, SEARCH = "selection.json", "search.json"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WeightedScores:
    """The scores of `model` at a LoRA weight; `name` is both together."""

    name: str
    model: str
    weight: float
    axes: Mapping[str, AnyScore]

    def score(self, axis: str) -> Score | None:
        """The score on an axis; None where there is none."""
        found = self.axes.get(axis)
        return found if isinstance(found, Score) else None


@dataclass(frozen=True)
class TuningRound(Round):
    """A round of a tuning with what was measured in it."""

    measured: Sequence[WeightedScores]


@dataclass(frozen=True)
class Choice:
    """The rule and bounds of a selection, what was chosen, and a row with its reason for every
    candidate.

    `weight`, `rounds` and `records` (axis → its record) are those of a tuning.
    """

    signature: str
    rule: str
    count: int
    at_least: Mapping[str, float]
    at_most: Mapping[str, float]
    chosen: Sequence[str]
    too_close_to_call: bool
    constraints_met: bool
    axes: Sequence[str]
    candidates: Sequence[Verdict]
    alike: Sequence[str] = ()
    weight: float | None = None
    rounds: Sequence[TuningRound] = ()
    records: Mapping[str, Axis] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Selection, signature: str, constraints: Constraints) -> "Choice":
        """From what `select` found under a plan."""
        return cls(
            signature=signature,
            rule=RULE,
            count=constraints.count,
            at_least=constraints.at_least,
            at_most=constraints.at_most,
            chosen=found.chosen,
            too_close_to_call=found.too_close_to_call,
            constraints_met=found.constraints_met,
            axes=found.axes,
            candidates=found.verdicts,
            alike=found.alike,
        )

    def as_json(self) -> dict[str, object]:
        """The values of the file, in its order."""
        keys = (
            *("signature", "rule", "count", "at_least", "at_most", "chosen", "alike"),
            *("too_close_to_call", "constraints_met", "axes"),
        )
        table: dict[str, object] = {key: getattr(self, key) for key in keys}
        table["candidates"] = [asdict(row) for row in self.candidates]
        if self.rounds:
            records = {id: axis.as_dict() for id, axis in self.records.items()}
            rounds = [asdict(one) for one in self.rounds]
            table |= {"weight": self.weight, "rounds": rounds, "records": records}
        return table


@dataclass(frozen=True, slots=True)
class SearchedModel:
    """A model that a search could take."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SearchTrial:
    """One measurement: the weights of the models, the noise (`block`), why it was made, and the
    objective's value."""

    weights: Sequence[float]
    block: int
    why: str
    value: float


@dataclass(frozen=True)
class SearchRecord:
    """Every measurement of a search for merge weights.

    `expected`: the objective of each trial's weights in the end; `found`: the best weights by it;
    `taken`: those that were kept after the check; `signature` and `check`: the plans of search and
    check; `axes`: by trial, axis → value.
    """

    models: Sequence[SearchedModel]
    trials: Sequence[SearchTrial]
    noise: float
    found: Sequence[float]
    taken: Sequence[float]
    signature: str
    check: str
    objective: str
    expected: Sequence[float]
    axes: Sequence[Mapping[str, float | None]]

    def facts(self) -> dict[str, object]:
        """What the history keeps of it."""
        table = asdict(self)
        return {key: table[key] for key in table if key not in ("objective", "expected", "axes")}


_CHOICE, _SEARCH = TypeAdapter(Choice), TypeAdapter(SearchRecord)


def read_choice(path: Path) -> Choice:
    """A selection.json of this project. Raises StateError naming the file and the field."""
    return read_own(path, _CHOICE)


def read_search(path: Path) -> SearchRecord:
    """A search.json of this project. Raises StateError naming the file and the field."""
    return read_own(path, _SEARCH)


def read_own(path: Path, adapter: TypeAdapter[T]) -> T:
    """A JSON file that onmodel wrote, as its type. Raises StateError naming the file and the
    field."""
    try:
        return adapter.validate_python(read_json(path))
    except ValidationError as error:
        raise StateError(path, f"is damaged: {InputError.of(error, path.stem)}") from error
