"""What a worker is sent, what it does, and what it gives back. A job names files by their hash; no
path of the head is in it."""

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from filelock import FileLock

from onmodel.character import Character
from onmodel.engine.cluster.reports import Reporter
from onmodel.engine.cluster.store import Store
from onmodel.engine.plan import Cell, Step
from onmodel.engine.project import KEY_DIGITS
from onmodel.engine.running import make, use_threads
from onmodel.errors import InputError
from onmodel.families.modes import Modes
from onmodel.families.protocol import BaseSettings
from onmodel.hashing import file_hashes, hash_json, sha256_file, write_json
from onmodel.ledger.lineage import Lineage
from onmodel.records import Artifact, Model
from onmodel.sample.pictures import PictureOrder, PictureRequest, picture_path, render
from onmodel.stages.base import Context, Inputs
from onmodel.validation import StrictTable

if TYPE_CHECKING:
    from onmodel.families.protocol import Family

Files = Mapping[str, str]  # path in a folder → SHA-256
Pack = Callable[[Path], Any]  # a file as it goes to the head
Settings = TypeVar("Settings", bound=StrictTable)


@dataclass(frozen=True)
class SentArtifact:
    """An artifact that a stage reads."""

    kind: str
    hash: str
    files: Files


@dataclass(frozen=True)
class SentBase:
    """The base of the recipe. `files` are those of its single files and folders, none where every
    machine has the base itself: with the package, or from the hub."""

    settings: BaseSettings
    sha256: str
    name: str
    files: Files


@dataclass(frozen=True)
class JobResult:
    """What a job made. `pictures`: file name in the cache → SHA-256. `new` are the files that the
    head does not have, by hash, packed for the way."""

    kind: str = ""
    hash: str = ""
    files: Files = field(default_factory=dict)
    pictures: Files = field(default_factory=dict)
    new: Mapping[str, Any] = field(default_factory=dict)


class Lacking(Exception):
    """The worker's machine does not have these files."""

    def __init__(self, hashes: Sequence[str]) -> None:
        self.hashes = list(hashes)
        super().__init__(f"{len(self.hashes)} files are not here")


class WorkerJob(Protocol):
    """Work for one worker. `id` is the same whenever it is the same work."""

    @property
    def id(self) -> str: ...

    def work(self, place: "Workplace", reporter: Reporter, pack: Pack) -> JobResult:
        """Do it. Raises Lacking before anything else when files are not here."""


class Workplace:
    """A worker's folder and the base that it has loaded."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.store = folder, Store(folder, most)
        self._families: dict[str, Family] = {}

    def unpack(self, files: Files, folder: Path) -> None:
        """Put files into a folder. Raises Lacking."""
        lacking = [sha256 for sha256 in set(files.values()) if not self.store.has(sha256)]
        if lacking:
            raise Lacking(lacking)
        for name, sha256 in files.items():
            if not self.store.put(sha256, folder / name):
                raise Lacking([sha256])

    def family(self, base: SentBase) -> "Family":
        """The base, loaded once and kept. Raises Lacking, or InputError when the base is another
        one here."""
        if base.sha256 not in self._families:
            from onmodel.families.registry import base_sha256, load_base

            settings = base.settings
            if base.files:
                folder = self.folder / "bases" / base.sha256[:KEY_DIGITS]
                with FileLock(f"{folder}.lock"):
                    if file_hashes(folder) != base.files:
                        self.unpack(base.files, folder)
                settings = with_folder(settings, folder)
            here = base_sha256(settings)
            if here != base.sha256:
                raise InputError(
                    "base",
                    f"{base.name} is {here[:12]} on this machine, {base.sha256[:12]} on the head",
                    "install the same onmodel, or name the base's revision",
                )
            self._families[base.sha256] = load_base(settings, base.sha256)
        return self._families[base.sha256]

    def check_base(self, base: SentBase) -> None:
        """Raises Lacking unless the base is loaded or its files are here."""
        if base.sha256 not in self._families:
            lacking = [sha256 for sha256 in base.files.values() if not self.store.has(sha256)]
            folder = self.folder / "bases" / base.sha256[:KEY_DIGITS]
            if lacking and file_hashes(folder) != base.files:
                raise Lacking(lacking)

    @contextmanager
    def scratch(self, id: str) -> Iterator[Path]:
        """The private folder of a job, held against other workers of the machine. It stays when the
        job fails, so that a training is resumed from it."""
        folder = self.folder / "scratch" / id[:KEY_DIGITS]
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            yield folder
            shutil.rmtree(folder)


@dataclass(frozen=True)
class StageJob:
    """A stage. `settings_files` are files that its settings name, by their path in the settings of
    the job; `pictures` of the cache that the stage will request."""

    key: str
    step: Step
    inputs: Mapping[str, SentArtifact]
    settings_files: Files
    pictures: Files
    base: SentBase
    seed: int
    date: str
    threads: int
    character: Character

    @property
    def id(self) -> str:
        return self.key

    def work(self, place: Workplace, reporter: Reporter, pack: Pack) -> JobResult:
        place.check_base(self.base)
        with place.scratch(self.key) as scratch:
            artifacts = self._unpack(place, scratch)
            given = scratch / "given"
            cache = scratch / "pictures"
            settings = with_folder(self.step.settings, given / "settings")
            made: list[JobResult] = []

            def commit(kind: str, lineage: Lineage) -> Artifact:
                out = scratch / "out"
                write_json(out / "lineage.json", lineage)
                files = file_hashes(out)
                made.append(JobResult(kind, hash_json(files), files))
                return Artifact(kind, made[0].hash, out)

            context = Context(
                name=self.step.name,
                seed=self.seed,
                date=self.date,
                character=self.character,
                family=functools.partial(place.family, self.base),
                base_name=self.base.name,
                base_sha256=self.base.sha256,
                threads=self.threads,
                scratch=scratch,
                pictures=cache,
                events=reporter.events,
                commit=commit,
                record=reporter.record,
            )
            step = replace(self.step, settings=settings)
            make(Cell(step, Inputs(artifacts), self.key), context)
            return self._told(made[0], place, scratch, pack)

    def _unpack(self, place: Workplace, scratch: Path) -> dict[str, Artifact]:
        """Put everything that was given into the scratch folder, anew."""
        given, cache = scratch / "given", scratch / "pictures"
        for folder in (given, cache):
            shutil.rmtree(folder, ignore_errors=True)
        paths = {picture_path(cache, Path(n).stem).as_posix(): s for n, s in self.pictures.items()}
        wanted = dict(paths)
        artifacts = {}
        for stage, sent in self.inputs.items():
            folder = given / "inputs" / stage
            wanted |= {f"{folder}/{name}": sha256 for name, sha256 in sent.files.items()}
            artifacts[stage] = Artifact(sent.kind, sent.hash, folder)
        files = self.settings_files
        wanted |= {f"{given}/settings/{name}": sha256 for name, sha256 in files.items()}
        place.unpack(wanted, Path())
        return artifacts

    def _told(self, made: JobResult, place: Workplace, scratch: Path, pack: Pack) -> JobResult:
        """The result with the files that the head does not have, which are kept here too."""
        known = {*self.pictures.values(), *self.settings_files.values()}
        for sent in self.inputs.values():
            known |= set(sent.files.values())
        pictures = {
            path.name: sha256_file(path)
            for path in sorted((scratch / "pictures").glob("??/*.png"))
            if path.name not in self.pictures
        }
        places = {sha256: scratch / "out" / name for name, sha256 in made.files.items()}
        for name, sha256 in pictures.items():
            places.setdefault(sha256, picture_path(scratch / "pictures", Path(name).stem))
        new = {}
        for sha256, path in places.items():
            if sha256 not in known:
                place.store.adopt(sha256, path)
                new[sha256] = pack(path)
        return replace(made, pictures=pictures, new=new)


@dataclass(frozen=True)
class DrawJob:
    """Some batches of the pictures that a stage will request. `loras`: SHA-256 of a LoRA file →
    the file in a folder of its own."""

    id: str
    drawing: PictureOrder
    base: SentBase
    threads: int

    def work(self, place: Workplace, reporter: Reporter, pack: Pack) -> JobResult:
        place.check_base(self.base)
        with place.scratch(self.id) as scratch:
            requests = self._requests(place, scratch)
            use_threads(self.threads)
            drawing, cache = self.drawing, scratch / "pictures"
            shutil.rmtree(cache, ignore_errors=True)

            def family() -> "Family":
                return place.family(self.base)

            modes = drawing.modes
            count = len(requests)
            with (
                nullcontext() if modes == Modes() else family().computing(modes),
                reporter.events.task("pictures", total=count) as task,
            ):
                sha256, sampling = self.base.sha256, drawing.sampling
                paths = render(family, sha256, requests, sampling, cache, task)
            pictures = {path.name: sha256_file(path) for path in paths}
            new = {}
            for path in paths:
                place.store.adopt(pictures[path.name], path)
                new[pictures[path.name]] = pack(path)
            return JobResult(pictures=pictures, new=new)

    def _requests(self, place: Workplace, scratch: Path) -> list[PictureRequest]:
        """The requests with the LoRA files where they lie here."""
        loras = {one.lora.sha256: one.lora for one in self.drawing.requests if one.lora}
        folder = scratch / "given"
        place.unpack({f"{sha256}.safetensors": sha256 for sha256 in loras}, folder)
        here: dict[str, Model] = {
            sha256: replace(lora, path=folder / f"{sha256}.safetensors")
            for sha256, lora in loras.items()
        }
        return [
            one if one.lora is None else replace(one, lora=here[one.lora.sha256])
            for one in self.drawing.requests
        ]


def without_folders(settings: Settings) -> tuple[Settings, dict[str, Path]]:
    """The settings with relative names in place of paths, and the paths by these names."""
    found: dict[str, Path] = {}

    def named(field: str, value: object) -> object:
        if isinstance(value, Path):
            name = f"{field}/{value.name}"
            found[name] = value
            return Path(name)
        if isinstance(value, tuple):
            return tuple(named(f"{field}/{place}", one) for place, one in enumerate(value))
        return value

    values = {field: named(field, value) for field, value in settings}
    return settings.model_copy(update=values), found


def with_folder(settings: Settings, folder: Path) -> Settings:
    """The settings with paths in `folder` in place of the names."""

    def placed(value: object) -> object:
        if isinstance(value, Path):
            return folder / value
        return tuple(map(placed, value)) if isinstance(value, tuple) else value

    return settings.model_copy(update={field: placed(value) for field, value in settings})
