"""What every stage is given and gives back: settings from the recipe, inputs from the ledger, a
context to work in."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic_core import to_jsonable_python

from onmodel.character import Character
from onmodel.errors import InputError, StateError
from onmodel.events import Events
from onmodel.hashing import read_json, sha256_bytes, sha256_file, tree_hash, write_json
from onmodel.ledger.environment import code, environment
from onmodel.ledger.lineage import Lineage, add
from onmodel.processes import ALONE, Processes
from onmodel.reading import read_bytes
from onmodel.records import Artifact, Model
from onmodel.sample.sampling import DrawnBatch
from onmodel.train.options import Options
from onmodel.validation import StrictTable
from onmodel.weights import weights_sha256

if TYPE_CHECKING:
    from onmodel.families.protocol import BaseSettings, Family

Kind = Literal["dataset", "scenes", "models", "pictures", "evaluation", "selection", "release"]


@dataclass(frozen=True)
class NamedStage:
    """A place in a stage's table that names an earlier stage: `stage`, `stage@epoch` or `stage@*`.

    `field`: where it stands; `wants`: what that stage must make, "model" where only one will do;
    `subset`: of the data set that is named, None where none is.
    """

    field: str
    value: str
    wants: Literal["dataset", "scenes", "pictures", "evaluation", "model", "models"]
    subset: str | None = None

    @property
    def stage(self) -> str:
        return self.value.partition("@")[0]

    @property
    def which(self) -> str:
        """An epoch, "*" for all, "" where nothing is said."""
        return self.value.partition("@")[2]


class StageSettings(StrictTable):
    """A stage's table in the recipe. Unknown keys are refused; `do` names the verb."""

    # The setting with the folder's name under which a person finds the result.
    PUBLISHED_AS: ClassVar[str | None] = None

    def named_stages(self) -> list[NamedStage]:
        """Every place that names another stage."""
        return []

    def needs(self) -> list[str]:
        """What this stage reads of others, each once, e.g. `["release_2@*", "five"]`."""
        return list(dict.fromkeys(named.value for named in self.named_stages()))

    def check(self, base_name: str, character: Character) -> None:
        """What the plan checks beyond the settings themselves, before anything runs. Raises
        InputError."""

    def check_base(self, base: "BaseSettings") -> None:
        """The same for what depends on where the base's weights lie."""

    def contents(self) -> dict[str, object]:
        """Setting → hash of what the stage reads from the files that it names. A stage that reads a
        part of a folder says which; without that it is the whole file or folder."""
        return {name: content_of(value) for name, value in self if isinstance(value, Path)}

    def keyed(self) -> dict[str, object]:
        """The settings as the stage's key takes them: contents in place of paths. So files that are
        replaced make another stage, and files that are moved do not."""
        return self.model_dump(mode="json", round_trip=True) | self.contents()

    def told(self) -> dict[str, object]:
        """The settings as a history tells them, complete but for the folders of the machine: a path
        is its last part.

        The same settings can be read from it again.
        """
        told: dict[str, object] = _without_folders(self.model_dump(round_trip=True))
        return told


class Head(Protocol):
    """Recipe or context: the head of a recipe."""

    @property
    def seed(self) -> int: ...
    @property
    def date(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def character(self) -> Character: ...


@dataclass(frozen=True)
class Reads:
    """What the stages of a verb read beside their settings and inputs. Their key and their history
    hold exactly this, so an edit of anything else runs none of them again.

    `sheet`: fields of the model sheet; `head`: of the recipe's head; `base`: the base's name and
    weights; `axes`: the versions of all axes, because the verb measures.
    """

    verb: str
    sheet: tuple[str, ...] = ()
    head: tuple[Literal["seed", "date", "threads"], ...] = ()
    base: bool = True
    axes: bool = False

    def head_of(self, head: Head) -> dict[str, object]:
        """The values that are read of a recipe's head."""
        return {name: getattr(head, name) for name in self.head}

    def sheet_of(self, character: Character) -> dict[str, object]:
        """The values that are read of the model sheet, as JSON."""
        found: dict[str, object] = to_jsonable_python(
            {name: getattr(character, name) for name in self.sheet}
        )
        return found


# Settings that change memory and speed only: no key and no history holds them, since a history is
# part of the files.
SAME_BYTES = frozenset({"memory", "swap_blocks", "vae_tiles"})


def of_bytes(settings: dict[str, object]) -> dict[str, object]:
    """The settings that change bytes. `gradient_checkpointing` stays as it is unset, and `quantize`
    goes where nothing is quantised, so that what was made before these settings existed is
    found."""
    found = {name: value for name, value in settings.items() if name not in SAME_BYTES}
    if "gradient_checkpointing" in found:
        found["gradient_checkpointing"] = "auto"
    if found.get("quantize", ...) is None:
        del found["quantize"]
    return found


class TrainingSettings(StageSettings, Options):
    """Settings of a verb that trains: several processes share a run of it, its steps are recorded,
    and its memory is forecast."""

    def keyed(self) -> dict[str, object]:
        return of_bytes(super().keyed())

    def told(self) -> dict[str, object]:
        return of_bytes(super().told())

    def sides(self, before: Mapping[str, "Plan"]) -> set[int]:
        """The resolutions of the pictures, in pixels."""
        raise NotImplementedError

    def shapes(self) -> dict[str, object]:
        """The settings that memory and files follow from, beside the pictures."""
        raise NotImplementedError


@dataclass(frozen=True)
class Plan:
    """What a stage will cost and make, for the plan that is printed first.

    `steps` of training, `pictures` to generate, `exposures`: subset → times that each of its
    pictures is seen; `counts`: subset → pictures in the data set it makes; `shown`: subset → what
    the data set says of how it is shown; `heldout`: subsets that are never trained on.

    `models`: LoRA files it makes or measures, at most; `epochs`: checkpoints that a training keeps
    for sure; `sentences`: subset → pictures with a sentence after their tags; `names`: of the
    models, None where they are known only when they are made.

    `drawn`: the largest batch that is generated at once, None where none is.

    `notes`: what of the user's files has no effect, or another one than elsewhere; `missing`: files
    that the recipe names and that are not there. The plan was made without them, a run is refused.
    """

    steps: int = 0
    pictures: int = 0
    exposures: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    shown: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    heldout: Sequence[str] = ()
    models: int = 0
    epochs: Sequence[int] = ()
    names: Sequence[str] | None = None
    drawn: DrawnBatch | None = None
    sentences: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    missing: tuple[InputError, ...] = ()


@dataclass(frozen=True)
class Inputs:
    """The artifacts of the stages that were referred to, by stage name."""

    artifacts: Mapping[str, Artifact]

    def artifact(self, reference: str) -> Artifact:
        """The artifact of `stage` or `stage@…`."""
        return self.artifacts[reference.partition("@")[0]]

    def lineage(self, reference: str) -> Lineage:
        """The history of the artifact that `reference` names."""
        lineage: Lineage = read_json(self.artifact(reference).path / "lineage.json")
        return lineage

    def models(self, references: Sequence[str]) -> list[Model]:
        """The LoRA files that the references name, in order, each once.

        `stage@*` are all, `stage@30` one epoch, `stage` alone the last checkpoint, or all that a
        select stage chose.
        """
        found: dict[str, Model] = {}
        for reference in references:
            for model in self._models(reference):
                found.setdefault(model.name, model)
        return list(found.values())

    def model(self, reference: str) -> Model:
        """The one LoRA file that `reference` names. Raises InputError when it names several."""
        models = self._models(reference)
        if len(models) != 1:
            raise InputError(
                "model", reference, f"names {len(models)} models; name one, e.g. {models[0].name!r}"
            )
        return models[0]

    def _models(self, reference: str) -> list[Model]:
        stage, _, which = reference.partition("@")
        artifact = self.artifact(reference)
        rows = read_models(artifact)
        if which == "*" or (not which and artifact.kind == "selection"):
            return rows
        if not which:
            return rows[-1:]
        chosen = [row for row in rows if str(row.epoch) == which]
        if not chosen:
            epochs = ", ".join(str(row.epoch) for row in rows)
            raise InputError(
                "model", reference, f"stage {stage!r} has no epoch {which}; it has {epochs}"
            )
        return chosen


@dataclass(frozen=True)
class Context:
    """Where a stage works and what it may use. Nothing here may put a clock or a path of the
    machine into bytes.

    `base_name` is that of a shipped base or the family's name. `scratch` belongs to this stage and
    these settings and survives a kill: what lies there is resumed from. `family()` loads the base
    model once per process. `commit(kind, lineage)` moves `out` into the object store. `processes`
    share a training; only the first of them may write. `record` takes the steps of one as they
    happen.
    """

    name: str
    seed: int
    date: str
    character: Character
    family: "Callable[[], Family]"
    base_name: str
    base_sha256: str
    threads: int
    scratch: Path
    pictures: Path
    events: Events
    commit: Callable[[str, Lineage], Artifact]
    processes: Processes = ALONE
    record: Callable[[Sequence[Mapping[str, Any]]], None] = lambda rows: None

    @property
    def base(self) -> Lineage:
        """The base's weights as a node."""
        return add([], "base", name=self.base_name, sha256=self.base_sha256)

    def recipe(self, reads: Reads) -> Lineage:
        """What the stage reads of the recipe's head as a node, on what it reads of the character's
        sheet, the base, the code and the environment."""
        parents = [code(reads.verb), environment()]
        if reads.sheet:
            named = {"name": self.character.name} if "name" in reads.sheet else {}
            sheet = reads.sheet_of(self.character)
            parents.append(add([], "character", **named, sheet=sheet))
        if reads.base:
            parents.append(self.base)
        return add(parents, "recipe", **reads.head_of(self))

    @property
    def out(self) -> Path:
        """The folder that becomes the artifact."""
        folder = self.scratch / "out"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def content_of(path: Path) -> str | None:
    """Hash of a file's or folder's content; None while there is none. Raises InputError when it
    cannot be read."""
    try:
        if path.is_dir():
            return tree_hash(path)
        if not path.is_file():
            return None
        if (
            path.stat().st_size == 0
        ):  # so are the files of /proc, of which some wait to be written to
            return sha256_bytes(read_bytes(path, "path"))
        return sha256_file(path)
    except OSError as error:
        raise InputError(
            "path", path, f"cannot be read ({error.strerror}); check its permissions"
        ) from error


def _without_folders(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(inner) for inner in value]
    return value


def write_models(folder: Path, rows: Sequence[tuple[str, int | None, str]]) -> None:
    """Write `models.json` for (name, epoch, file in `folder`) rows."""
    table = [
        {
            "name": name,
            "epoch": epoch,
            "file": file,
            "sha256": sha256_file(folder / file),
            "weights": weights_sha256(folder / file),
        }
        for name, epoch, file in rows
    ]
    write_json(folder / "models.json", table)


def keep_models(folder: Path, models: Sequence[Model]) -> None:
    """Put models of other artifacts into `folder` as they are, each file named by its hash, and
    write `models.json`."""
    rows = [(model.name, model.epoch, f"{model.sha256}.safetensors") for model in models]
    for model, (_, _, file) in zip(models, rows, strict=True):
        keep_file(model.path, folder / file)
    write_models(folder, rows)


def read_models(artifact: Artifact) -> list[Model]:
    """The LoRA files of an artifact, in order. Raises StateError when it holds none."""
    index = artifact.path / "models.json"
    if not index.exists():
        raise StateError(
            artifact.path,
            f"a {artifact.kind} holds no models; refer to a train, select or merge stage",
        )
    return [
        Model(row["name"], artifact.path / row["file"], row["sha256"], row["weights"], row["epoch"])
        for row in read_json(index)
    ]


def keep_file(source: Path, target: Path) -> None:
    """Put a file of one artifact into another without copying its bytes where the file system
    allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another device, or a file system without links
        import shutil

        shutil.copyfile(source, target)
