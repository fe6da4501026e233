"""What the readers of other trainers' data set files share: the table of options, checks of values,
and the result of reading a file."""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from onmodel.curate.ingest import Reading
from onmodel.dataset.rules import SubsetConfig
from onmodel.errors import InputError
from onmodel.reading import path_cure
from onmodel.text import printable

Table = Mapping[str, Any]
LONGEST_SHOWN, SHOWN = 80, 5  # characters of a wrong value, and options, that a message repeats
LARGEST_SIDE = 8_192  # pixels; a picture of such a square is larger than what is read

EVEN_REGULARISATION = (
    "regularisation pictures are repeated until they are about as many as the others, whatever"
    " repeats their file says"
)
OWN_BUCKETS = "onmodel makes its own buckets, a sixteenth of the resolution apart"


@dataclass(frozen=True)
class ForeignSubset:
    """A folder of pictures: how it is read and how a training shows it.

    `heldout` is the share (0–1) that is never trained on, None where the file sets none.
    """

    name: str
    folder: Path
    reading: Reading
    config: SubsetConfig
    heldout: float | None = None


@dataclass(frozen=True)
class ForeignDataset:
    """A data set as its file describes it. `notes` list the options without effect.

    With `even_regularisation`, regularisation pictures are shown as often as all others together.
    """

    subsets: Sequence[ForeignSubset]
    notes: Sequence[str]
    even_regularisation: bool = False


def subsets_by_name(
    datasets: Mapping[str, ForeignDataset], taken: Collection[str]
) -> dict[str, ForeignSubset]:
    """Name → subset, of data sets by the setting that names them. Raises InputError for a name that
    two subsets have, or that is in `taken`."""
    found: dict[str, ForeignSubset] = {}
    for setting, dataset in datasets.items():
        for subset in dataset.subsets:
            if subset.name in found or subset.name in taken:
                remedy = "there is another subset of that name; rename a folder"
                raise InputError(setting, subset.name, remedy)
            found[subset.name] = subset
    return found


def subset_configs(
    datasets: Iterable[ForeignDataset], counts: Mapping[str, int]
) -> dict[str, SubsetConfig]:
    """Subset → its settings; `counts`: subset → pictures.

    Where a data set wants as many regularisation pictures as others, their repeats are the nearest
    whole number.
    """
    datasets = list(datasets)
    subsets = [subset for dataset in datasets for subset in dataset.subsets]
    configs = {subset.name: subset.config for subset in subsets}
    others = sum(
        counts.get(name, 0) * config.repeats
        for name, config in configs.items()
        if not config.regularisation
    )
    for dataset in datasets:
        own = [subset.name for subset in dataset.subsets if subset.config.regularisation]
        pictures = sum(counts.get(name, 0) for name in own)
        if dataset.even_regularisation and others and pictures:
            even = {"repeats": max(1, round(others / pictures))}
            configs |= {name: configs[name].model_copy(update=even) for name in own}
    return configs


@dataclass(frozen=True)
class ToolOptions:
    """Every option of a tool, each in one of five tables. `captions` says how its caption files are
    read here.

    `config` and `reading`: option → field of SubsetConfig or Reading with the same meaning.
    `special`: option → field, for options whose value the tool's reader converts. `harmless`:
    option → why it has no effect here. `inactive`: option → the only value that is accepted.
    """

    tool: str
    captions: str
    config: Table
    reading: Table
    special: Mapping[str, str]
    harmless: Table
    inactive: Table

    def check(self, where: str, table: Table, notes: list[str]) -> None:
        """Add a note for each option without effect. Raises InputError for an option that is
        unknown or cannot be followed."""
        known = {*self.config, *self.reading, *self.special, *self.harmless, *self.inactive}
        unknown = [key for key in table if key not in known]
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            remedy = (
                f"did you mean {near[0]!r}?"
                if near
                else f"take it out, or see {self.tool}'s documents"
            )
            raise InputError(where, brief(", ".join(unknown)), f"unknown to onmodel; {remedy}")
        active = [
            f"{key} = {brief(repr(value))}"
            for key, value in table.items()
            if key in self.inactive and value not in (self.inactive[key], None, False, "", [], 0)
        ]
        if active:
            raise InputError(
                where,
                ", ".join(active[:SHOWN]),
                "onmodel does not do this; take it out to train without",
            )
        for key in table:
            if (
                key in self.harmless
                and (note := f"{key} has no effect: {self.harmless[key]}") not in notes
            ):
                notes.append(note)

    def subset(
        self, where: str, table: Table, base: Table, reading: Table
    ) -> tuple[SubsetConfig, Reading]:
        """Convert a subset's options. `base` and `reading` hold the values of special options.

        Raises InputError that names the tool's own option.
        """
        said = {self.config[key]: value for key, value in table.items() if key in self.config}
        read = {self.reading[key]: value for key, value in table.items() if key in self.reading}
        names = {own: key for key, own in (*self.config.items(), *self.reading.items())}
        try:
            return SubsetConfig.model_validate({**base, **said}), Reading.model_validate(
                {**read, **reading}
            )
        except ValidationError as error:
            first = error.errors()[0]
            own = str(first["loc"][0])
            message = re.sub(r"^(Value error, |Input )", "", first["msg"])
            raise InputError(
                f"{where}.{names.get(own, own)}", brief(first["input"]), message
            ) from error


def brief(value: Any) -> str:
    """A value as text for an error message, at most LONGEST_SHOWN characters."""
    text = "missing" if value is None else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def as_table(where: str, value: Any) -> Table:
    if not isinstance(value, dict):
        raise InputError(where, brief(value), "must be a table")
    if odd := [key for key in value if not isinstance(key, str)]:
        raise InputError(where, brief(odd[0]), "names of options are text; write it in quotes")
    return value


def as_tables(where: str, value: Any) -> list[Table]:
    if isinstance(value, dict):
        name = where.rpartition(" ")[2]
        raise InputError(where, "one table", f"must be a list of tables; in TOML write [[{name}]]")
    if not isinstance(value, list) or not value:
        raise InputError(where, brief(value), "must be one or more tables")
    return [as_table(f"{where}[{i}]", row) for i, row in enumerate(value)]


def existing_folder(where: str, value: Any, file: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise InputError(where, brief(value), "name the folder of the pictures")
    if cure := path_cure(value):
        raise InputError(where, brief(printable(value)), cure)
    folder = file.parent / value
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # said when it is read, so that a plan can come before the pictures
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(
            where, brief(value), f"cannot be a folder ({why}); name the folder of the pictures"
        ) from error
    return folder


def folder_name(folder: Path) -> str:
    """The name of a folder, also for "." and ".."."""
    return folder.resolve().name


def square_side(where: str, value: Any) -> int:
    """The side in pixels of the square with the area of `512`, "512", "832,1216" or [832, 1216]."""
    parts = (
        value.split(",")
        if isinstance(value, str)
        else value
        if isinstance(value, list)
        else [value]
    )
    try:
        sides = [int(part) for part in parts]
        if len(sides) not in (1, 2) or min(sides) < 1 or max(sides) > LARGEST_SIDE:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        remedy = f"write a number of pixels, at most {LARGEST_SIDE}, or [width, height]"
        raise InputError(where, brief(value), remedy) from error
    return round(math.sqrt(sides[0] * sides[-1]))


def merged_resolutions(subsets: Sequence[ForeignSubset]) -> list[ForeignSubset]:
    """Merge subsets that differ only in resolution: sd-scripts and musubi-tuner list one per
    resolution, onmodel lists the resolutions in one."""
    found: list[ForeignSubset] = []
    for subset in subsets:
        for i, other in enumerate(found):
            both = tuple(dict.fromkeys((*other.config.resolutions, *subset.config.resolutions)))
            shown = other.config.model_copy(update={"resolution": both})
            same = (other.folder, other.reading, other.heldout) == (
                subset.folder,
                subset.reading,
                subset.heldout,
            )
            alike = shown == subset.config.model_copy(update={"resolution": both})
            if same and alike and len(both) > len(other.config.resolutions):
                found[i] = ForeignSubset(
                    other.name, other.folder, other.reading, shown, other.heldout
                )
                break
        else:
            found.append(subset)
    return found


def add_note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)
