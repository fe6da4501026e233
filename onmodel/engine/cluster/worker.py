"""The process on a worker's machine: a Ray actor that does one job at a time and keeps the base in
memory. It loads torch with its first job."""

import os
import platform
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from onmodel.devices import facts_of, find_device, limit_memory
from onmodel.engine.cluster.jobs import JobResult, Lacking, WorkerJob, Workplace
from onmodel.engine.cluster.reports import Report, Reporter
from onmodel.errors import InputError, StateError
from onmodel.failures import outcome
from onmodel.hashing import hash_json
from onmodel.ledger import versions
from onmodel.ledger.environment import environment
from onmodel.text import without_secrets
from onmodel.version import __version__

FOLDER = "ONMODEL_WORKER_FOLDER"  # environment variable of a worker's machine
PIECE = 64 * 2**20  # bytes of a file in one Ray object
MOST = 200 * 2**30  # bytes of files that a machine keeps, at most half of what is free
OLD = 14 * 24 * 3600.0  # seconds after which a scratch folder is removed

Parcel = list[Any]  # a file as references to its pieces


@dataclass(frozen=True)
class WorkerFacts:
    """`made_by` names onmodel and the libraries that compute; another one may give other bytes, so
    it must be the same on every machine. `card`: bytes of the card's memory, 0 without one."""

    machine: str
    onmodel: str
    made_by: str
    card: int = 0

    @classmethod
    def here(cls) -> "WorkerFacts":
        """Those of this machine, without its card."""
        made_by = hash_json([environment(), versions.VERBS, versions.AXES])
        return cls(platform.node(), __version__, made_by)


@dataclass(frozen=True)
class Failure:
    """An error of a job, as the head raises it again. `field`, `value` and `remedy` of an
    InputError, else a line with its exit code. `log` is the traceback of an unexpected error."""

    line: str
    exit_code: int
    mistake: tuple[str, str, str] | None = None
    log: str = ""


Reply = JobResult | Failure | Sequence[str]  # hashes of files that the worker lacks


def folder_here() -> Path:
    """Where a worker keeps its files."""
    named = os.environ.get(FOLDER)
    return Path(named).absolute() if named else Path.home() / ".cache" / "onmodel" / "worker"


class Worker:
    """The actor. `share`: of a card's memory, None without a card."""

    def __init__(self, share: float | None) -> None:
        folder = folder_here()
        folder.mkdir(parents=True, exist_ok=True)
        most = min(MOST, shutil.disk_usage(folder).free // 2)
        self._place, self._share = Workplace(folder, most), share
        _remove_old(folder / "scratch")
        self._place.store.trim()

    def facts(self) -> WorkerFacts:
        """For the head, which compares them with its own."""
        facts = WorkerFacts.here()
        if self._share is None:
            return facts
        return replace(facts, card=facts_of(find_device("auto", "base.device")).memory)

    def run(self, job: WorkerJob, parcels: Mapping[str, Parcel], mailbox: Any) -> Reply:
        """Do a job, after taking the files that were sent with it."""
        for sha256, parcel in parcels.items():
            self._place.store.add(sha256, map(ray.get, parcel))
        if parcels:
            self._place.store.trim()
        if self._share is not None:
            limit_memory(self._share)

        def send(reports: list[Report]) -> None:
            # Waits, so that the head has the reports of a job before its result.
            with suppress(ray.exceptions.RayError):  # only the progress that is shown is lost
                ray.get(mailbox.put.remote(job.id, reports))

        try:
            with Reporter(send) as reporter:
                return job.work(self._place, reporter, pack)
        except Lacking as error:
            return error.hashes
        except Exception as error:  # the boundary of this process
            return _failure(error)


class Mailbox:
    """The actor that keeps reports until the head takes them."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, list[Report]]] = []

    def put(self, job: str, reports: list[Report]) -> None:
        self._waiting.append((job, reports))

    def take(self) -> list[tuple[str, list[Report]]]:
        taken, self._waiting = self._waiting, []
        return taken


def pack(path: Path) -> Parcel:
    """A file in Ray's object store."""
    return [ray.put(piece) for piece in _pieces(path)]


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _failure(error: Exception) -> Failure:
    if isinstance(error, InputError):
        return Failure(str(error), error.exit_code, (error.field, str(error.value), error.remedy))
    line, code = outcome(error)
    log = "" if isinstance(error, StateError) else "".join(traceback.format_exception(error))
    return Failure(line, code, log=without_secrets(log))


def _remove_old(folder: Path) -> None:
    """Remove the scratch folders of jobs that were never finished here."""
    now = time.time()
    for path in folder.glob("*"):
        if path.is_dir() and now - path.stat().st_mtime > OLD:
            shutil.rmtree(path, ignore_errors=True)
