"""The table `[experiments.NAME]` of a recipe: which variants of a training or a merge are compared.

It says what is varied; engine/experiments.py makes stages of it.
"""

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from onmodel.errors import InputError
from onmodel.hashing import hash_json
from onmodel.paths import check_distinct, check_name
from onmodel.validation import StrictTable

INFLUENCE = "influence"  # the name of the experiment of `onmodel influence`
CHANGED_VERBS = ("curate", "train", "merge")  # whose settings a variant may change
MOST_VARIANTS = 200
MOST_TRAININGS = 100  # of one variant
LONGEST_LABEL = 60  # characters of a variant's name
SHORT = 40  # characters of a label that names a stage
_NO_NAME = re.compile(r"[^\w.+-]+")
TWINS = 2  # of a training

Pictures = Annotated[int, Field(ge=1, le=1_000_000)]
Repeats = Annotated[int, Field(ge=1, le=100_000)]
Strictness = Literal["strict"]


class VariantChange(StrictTable):
    """A variant as the difference to the base stage. A setting is written with its verb, e.g.
    `"train.rank" = 16`."""

    leave_out: tuple[str, ...] = Field(default=(), description="Subsets that are not trained on.")
    repeats: dict[str, Repeats] = Field(
        default_factory=dict, description="Subset to its repeats per epoch."
    )
    count: Pictures | dict[str, Pictures] | None = Field(
        default=None,
        description=(
            "Pictures of the data set, in all (distributed over the subsets in proportion), or by"
            " subset. A toon set is drawn anew; from a folder the recipe's seed chooses."
        ),
    )
    labels: Strictness | dict[str, Strictness] | None = Field(
        default=None,
        description=(
            "strict: labels that the tagger does not confirm are left out of captions; of all"
            " subsets, or by subset."
        ),
    )
    curate: dict[str, Any] = Field(
        default_factory=dict,
        description='Settings of the curate stages trained on, e.g. "curate.heldout" = 0.2.',
    )
    train: dict[str, Any] = Field(
        default_factory=dict,
        description='Settings of the train stage, e.g. "train.rank" = 16.',
    )
    merge: dict[str, Any] = Field(
        default_factory=dict,
        description='Settings of the merge stage, e.g. "merge.method" = "ties".',
    )

    @model_validator(mode="before")
    @classmethod
    def _by_verb(cls, table: Any) -> Any:
        """`"train.rank" = 16` as `train = { rank = 16 }`."""
        if not isinstance(table, Mapping):
            return table
        found: dict[str, Any] = {}
        for key, value in table.items():
            verb, dot, name = str(key).partition(".")
            if verb not in (CHANGED_VERBS if dot else cls.model_fields):
                raise ValueError(f"{key} is unknown; {_remedy(key, cls.model_fields)}")
            if not dot and not (verb in CHANGED_VERBS and isinstance(value, Mapping)):
                found[verb] = value
                continue
            own = found.setdefault(verb, {})
            new = {name: value} if dot else value
            if not isinstance(own, dict) or own.keys() & new.keys():
                raise ValueError(f"{key} is set twice; delete one")
            found[verb] = {**own, **new}
        return found

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        for verb in CHANGED_VERBS:
            if "do" in getattr(self, verb):
                raise ValueError(f"{verb}.do cannot be changed; delete it")
        for change, setting in (("count", "subsets"), ("labels", "strict")):
            if getattr(self, change) is not None and setting in self.curate:
                raise ValueError(f"{change} sets curate.{setting} too; delete one")
        if both := sorted(set(self.leave_out) & set(self.repeats)):
            raise ValueError(f"{both[0]} is left out and has repeats; delete one")
        data = sorted({"data", "dataset"} & self.train.keys())
        if data and (self.leave_out or self.repeats or self.changes_data_set):
            raise ValueError(f"train.{data[0]} says what is trained on; make it its only change")
        return self

    @property
    def changes_data(self) -> bool:
        """Whether what is trained on is another than the base's."""
        named = {"data", "dataset"} & self.train.keys()
        return bool(self.leave_out or self.repeats or named or self.changes_data_set)

    @property
    def changes_data_set(self) -> bool:
        """Whether a curate stage is another than the base's."""
        return self.count is not None or self.labels is not None or bool(self.curate)

    @property
    def label(self) -> str:
        """What changes, e.g. `without_additional`, `rank_16`."""
        parts = [f"without_{'_'.join(self.leave_out)}"] if self.leave_out else []
        parts += [f"repeats_{_pairs(self.repeats)}"] if self.repeats else []
        parts += [self.data_label] if self.changes_data_set else []
        return "_".join([*parts, *_settings({**self.train, **self.merge})])

    @property
    def data_label(self) -> str:
        """The same for the data set alone."""
        parts = []
        if isinstance(self.count, dict):
            parts.append(f"count_{_pairs(self.count)}")
        elif self.count is not None:
            parts.append(f"count_{self.count}")
        if isinstance(self.labels, dict):
            parts.append("_".join(["strict", *self.labels]))
        elif self.labels is not None:
            parts.append(self.labels)
        return "_".join([*parts, *_settings(self.curate)])

    @property
    def words(self) -> str:
        """What changes, for tables and sentences."""
        parts = [f"without {', '.join(self.leave_out)}"] if self.leave_out else []
        parts += [f"{subset} ×{n}" for subset, n in self.repeats.items()]
        if isinstance(self.count, dict):
            parts += [f"{n} pictures in {subset}" for subset, n in self.count.items()]
        elif self.count is not None:
            parts.append(f"{self.count} pictures")
        if isinstance(self.labels, dict):
            parts.append(f"strict labels in {', '.join(self.labels)}")
        elif self.labels is not None:
            parts.append("strict labels")
        for verb in CHANGED_VERBS:
            parts += [f"{verb}.{name} = {value}" for name, value in getattr(self, verb).items()]
        return ", ".join(parts)


class ExperimentSettings(StrictTable):
    """An experiment: a base stage, and variants of it that one evaluation compares with it."""

    base: str = Field(description="Train or merge stage whose variants are compared with it.")
    like: str | None = Field(
        default=None,
        description="Evaluate stage whose settings are used. Unset: the recipe's last.",
    )
    questions: tuple[str, ...] = Field(
        default=(),
        description=(
            "Axes tested as one family over all variants; the others are exploratory. Unset: those"
            " of the evaluate stage."
        ),
    )
    seeds: int | None = Field(
        default=None, ge=1, description="Pictures per prompt. Unset: as the evaluate stage has it."
    )
    twins: int | None = Field(
        default=None,
        ge=0,
        le=MOST_TRAININGS,
        description=(
            "More trainings of the base with another seed: other noise, another order of pictures,"
            f" another start of the adapter. Unset: {TWINS}; none for a merge, which has no noise."
        ),
    )
    replicates: int = Field(
        default=1, ge=1, le=MOST_TRAININGS, description="Trainings of each variant, by seed."
    )
    stop_early: bool = Field(
        default=False,
        description=(
            "Measure all variants on the first half of the prompts, and only the half of them whose"
            " surest effect is largest on the rest."
        ),
    )
    grid: dict[str, Any] = Field(
        default_factory=dict,
        description=(
            'A change to a list of its values, e.g. "train.rank" = [8, 16]. Every combination is a'
            " variant."
        ),
    )
    # The last field: below it the name would hide the type.
    list: dict[str, VariantChange] = Field(
        default_factory=dict, description="Name of a variant to its change."
    )

    @field_validator("list")
    @classmethod
    def _names(cls, variants: dict[str, VariantChange]) -> dict[str, VariantChange]:
        check_distinct(variants, "list")
        for name, change in variants.items():
            check_name(name, "list", LONGEST_LABEL)
            if change == VariantChange():
                raise ValueError(f"{name} changes nothing; give it a change, or delete it")
        return variants

    @field_validator("grid")
    @classmethod
    def _value_lists(cls, grid: dict[str, Any]) -> dict[str, Any]:
        for key, values in _flat(grid).items():
            if not isinstance(values, list) or not values:
                raise ValueError(f'{key} needs a list of values, e.g. "{key}" = [8, 16]')
        return grid

    def variants(self, field: str) -> dict[str, VariantChange]:
        """Name → change of every variant, those of the grid after those of the list. `field` is
        where the table stands. Raises InputError without a variant, or with too many."""
        found = dict(self.list)
        keys = _flat(self.grid)
        count = len(found)
        if keys:
            combinations = 1
            for values in keys.values():
                combinations *= len(values)
            count += combinations
        if not 1 <= count <= MOST_VARIANTS:
            remedy = (
                f"at most {MOST_VARIANTS}; each is a whole training"
                if count
                else f"add a variant, e.g. [{field}.list.without_extra]"
            )
            raise InputError(field, f"{count} variants", remedy)
        for values in itertools.product(*keys.values()) if keys else ():
            try:
                change = VariantChange.model_validate(dict(zip(keys, values, strict=True)))
            except ValidationError as error:
                raise InputError.of(error, f"{field}.grid") from error
            if change == VariantChange():
                continue  # the base itself
            name = name_part(change.label, f"{change.label[:SHORT]}_{hash_json(change.label)[:6]}")
            if name in found:
                remedy = "stands in it twice; delete one, or name it otherwise in the list"
                raise InputError(f"{field}.grid", name, remedy)
            found[name] = change
        return found


def _remedy(key: str, fields: Iterable[str]) -> str:
    known = sorted(fields)
    near = difflib.get_close_matches(str(key), known, n=1)
    if "." in str(key):
        return "write curate., train. or merge. before the name of a setting"
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"


def _flat(grid: Mapping[str, Any]) -> dict[str, Any]:
    """The grid with `train.rank` for a table `train` with `rank`."""
    found: dict[str, Any] = {}
    for key, value in grid.items():
        if key in CHANGED_VERBS and isinstance(value, Mapping):
            found |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            found[key] = value
    return found


def _pairs(numbers: Mapping[str, int]) -> str:
    return "_".join(f"{name}_{number}" for name, number in numbers.items())


def _settings(table: Mapping[str, Any]) -> list[str]:
    """`rank_16` for plain values, the name and a hash for lists and tables."""
    parts = []
    for name, value in table.items():
        plain = isinstance(value, str | int | float)
        parts.append(f"{name}_{value}" if plain else f"{name}_{hash_json(value)[:6]}")
    return parts


def name_part(label: str, otherwise: str) -> str:
    """The label as a part of a stage's name, so that equal changes of several experiments are one
    stage; `otherwise` for a long one."""
    name = label if len(label) <= SHORT else otherwise
    return _NO_NAME.sub("_", name)
