"""The workers of a Ray cluster as actors: one for every card, or for every `threads` processors of
a cluster without cards. Machines may join and leave at any time."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from onmodel.engine.cluster.dispatch import Ended, Joined, Left, Lost, News, Reported
from onmodel.engine.cluster.jobs import JobResult, WorkerJob
from onmodel.engine.cluster.worker import Failure, Mailbox, Parcel, Worker, WorkerFacts, pack
from onmodel.errors import InputError
from onmodel.text import one_line, shown, without_secrets

LOOK = 5.0  # seconds between two looks at the machines of the cluster
MAIL = 1.0  # seconds between two looks into the mailbox
MOST_SENDS = 3  # of the files of a job
MOST_STARTS = 3  # of a worker that does not start


@dataclass
class _Sent:
    """A job on its way or at work, with the files of the head that it may need."""

    worker: str
    job: WorkerJob
    sources: Mapping[str, Path]
    times: int = 0


class RayFleet:
    """The actors of one run. `per_card` workers share a card; `cards` is False where the base
    computes on the processor. `check` is called with the bytes of a worker's share of a card, and
    raises InputError when they do not suffice."""

    def __init__(
        self,
        threads: int,
        per_card: int = 1,
        cards: bool = False,
        check: Callable[[int], None] = lambda share: None,
    ) -> None:
        self._threads, self._per_card, self._cards = threads, per_card, cards
        self._check = check
        self._actors: dict[str, Any] = {}
        self._nodes: dict[str, str] = {}  # worker → its machine
        self._slots: dict[str, int] = {}  # machine → workers that it has, or had refused
        self._failures: Counter[str] = Counter()  # machine → workers that did not start
        self._joining: dict[Any, str] = {}
        self._working: dict[Any, _Sent] = {}
        self._mailbox: Any = None
        self._mail: Any = None
        self._looked = self._read = float("-inf")
        self._count = 0
        self._here = WorkerFacts.here()

    def send(self, worker: str, job: WorkerJob, sources: Mapping[str, Path]) -> None:
        """Give a job to a free worker. Its machine asks for the files that it lacks."""
        self._submit(_Sent(worker, job, sources), {})

    def receive(self, seconds: float) -> list[News]:
        """What happened, after waiting for at most so long."""
        news: list[News] = []
        self._grow()
        self._ask_mailbox()
        waiting = [*self._joining, *self._working, *([self._mail] if self._mail else [])]
        if not waiting:
            time.sleep(min(seconds, 0.2))
            return []
        ready, _ = ray.wait(waiting, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        if any(ref in self._working for ref in ready):
            news += self._take_mail()
        for ref in ready:
            if ref in self._joining:
                news += self._joined(self._joining.pop(ref), ref)
            elif ref in self._working:
                news += self._answered(self._working.pop(ref), ref)
            elif ref == self._mail:
                news += self._take_mail()
        return news

    def close(self) -> None:
        """End the workers."""
        for actor in (*self._actors.values(), *([self._mailbox] if self._mailbox else [])):
            ray.kill(actor)

    def _submit(self, sent: _Sent, parcels: Mapping[str, Parcel]) -> None:
        if self._mailbox is None:
            kind: Any = ray.remote(Mailbox)
            self._mailbox = kind.options(num_cpus=0).remote()
        actor = self._actors[sent.worker]
        self._working[actor.run.remote(sent.job, parcels, self._mailbox)] = sent

    def _answered(self, sent: _Sent, ref: Any) -> list[News]:
        id, worker = sent.job.id, sent.worker
        try:
            reply = ray.get(ref)
        except RayError as error:
            self._drop(worker)
            return [Left(worker), Ended(worker, id, Lost(_reason(error)))]
        if isinstance(reply, JobResult):
            return [Ended(worker, id, reply, _unpacker(reply))]
        if isinstance(reply, Failure):
            return [Ended(worker, id, reply)]
        sent.times += 1
        if sent.times > MOST_SENDS:
            return [Ended(worker, id, Lost("its machine does not keep the files it was sent"))]
        self._submit(sent, {sha256: pack(sent.sources[sha256]) for sha256 in reply})
        return []

    def _joined(self, worker: str, ref: Any) -> list[News]:
        try:
            facts = ray.get(ref)
        except RayError as error:
            self._did_not_start(worker, error)
            return []
        if facts.made_by == self._here.made_by:
            if facts.card:
                self._check(facts.card // self._per_card)
            return [Joined(worker, self._nodes[worker], facts.machine)]
        ray.kill(self._actors.pop(worker))  # its slot stays taken: it is not asked again
        if not self._actors and not self._joining:
            remedy = (
                f"has onmodel {facts.onmodel} with other versions of its libraries than this"
                f" machine ({self._here.onmodel}), which may give other bytes; install the same"
                " requirements.lock on all machines"
            )
            raise InputError("--engine ray", facts.machine, remedy)
        return []

    def _did_not_start(self, worker: str, error: RayError) -> None:
        """Try again on its machine, but not for ever."""
        node = self._nodes[worker]
        self._failures[node] += 1
        self._drop(worker)
        if self._failures[node] >= MOST_STARTS:
            self._slots[node] += 1  # its slot stays taken
            if not self._actors:
                last = str(error).strip().rpartition("\n")[2]
                said = shown(one_line(without_secrets(last)), 300)
                remedy = "its workers do not start; set ONMODEL_WORKER_FOLDER to a folder of it"
                raise InputError("--engine ray", said, remedy)

    def _drop(self, worker: str) -> None:
        actor = self._actors.pop(worker, None)
        if actor is not None:
            ray.kill(actor)
            self._slots[self._nodes[worker]] -= 1
        self._looked = min(self._looked, time.monotonic() - LOOK + 0.5)  # look soon, not at once

    def _grow(self) -> None:
        """Start actors on machines that have room for more."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        alive = [node for node in ray.nodes() if node["Alive"]]
        cards = self._cards and any(node["Resources"].get("GPU") for node in alive)
        for node in alive:
            there, id = node["Resources"], node["NodeID"]
            processors = int(there.get("CPU", 0))
            threads = min(self._threads, processors)
            slots, options = processors // max(1, threads), {"num_cpus": float(threads)}
            if cards:
                slots = int(there.get("GPU", 0)) * self._per_card
                options = {"num_cpus": 0, "num_gpus": 1 / self._per_card}
            while self._slots.get(id, 0) < slots:
                self._start(id, options, 1 / self._per_card if cards else None)

    def _start(self, node: str, options: Mapping[str, float], share: float | None) -> None:
        self._slots[node] = self._slots.get(node, 0) + 1
        self._count += 1
        worker = f"worker {self._count}"
        place = NodeAffinitySchedulingStrategy(node, soft=False)
        kind: Any = ray.remote(Worker)
        actor = kind.options(scheduling_strategy=place, **options).remote(share)
        self._actors[worker], self._nodes[worker] = actor, node
        self._joining[actor.facts.remote()] = worker

    def _ask_mailbox(self) -> None:
        now = time.monotonic()
        if self._mailbox is not None and self._mail is None and now - self._read > MAIL:
            self._read, self._mail = now, self._mailbox.take.remote()

    def _take_mail(self) -> list[News]:
        """Everything that was reported until now."""
        if self._mailbox is None:
            return []
        asked = [self._mail] if self._mail is not None else []
        self._mail = None
        try:
            batches = ray.get([*asked, self._mailbox.take.remote()])
        except RayError:  # its machine left; the progress that it held is lost
            self._mailbox = None
            return []
        return [Reported(job, reports) for batch in batches for job, reports in batch]


def _unpacker(made: JobResult) -> Callable[[str], Iterator[bytes]]:
    """Fetches a new file from the worker. Raises Lost when its machine left."""

    def fetch(sha256: str) -> Iterator[bytes]:
        try:
            yield from map(ray.get, made.new[sha256])
        except RayError as error:
            raise Lost(_reason(error)) from error

    return fetch


def _reason(error: RayError) -> str:
    return type(error).__name__
