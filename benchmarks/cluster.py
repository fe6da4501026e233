"""The engine `ray`: results after kills, the driver's cost of a cell, busy workers, a simulation.

matrix      40 cells of the toon base on two nodes; a worker, a node and the driver are killed
driver      the driver's time for a cell of no work
busy        64 workers of this machine that only sleep
simulation  10,000 cells that only sleep on 1 to 256 workers, with a clock of its own: the real
            scheduler and ledger run, their time counts, and each cell costs the driver's measured
            time on top

The last line is JSON.
"""

import argparse
import heapq
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from onmodel.engine import local
from onmodel.engine.cluster import dispatch
from onmodel.engine.cluster.dispatch import Dispatcher, Ended, JobOrder, Joined, News
from onmodel.engine.cluster.engine import connected
from onmodel.engine.cluster.jobs import JobResult, Pack, WorkerJob, Workplace
from onmodel.engine.cluster.reports import Reporter
from onmodel.engine.plan import Step, make_plan
from onmodel.engine.project import Project
from onmodel.engine.running import Attempt, Work, run_steps
from onmodel.events import Events
from onmodel.hashing import hash_json, sha256_bytes
from onmodel.ledger.store import Ledger
from onmodel.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]
LOOPBACK = "127.0.0.2"
HEAD = """
[recipe]
name = "matrix"
character = "toon:backgwa"
date = "2026-11-22"
threads = 1
[defaults.train]
rank = 2
resolution = 96
precision = "fp32"
learning_rate = 2e-3
validation = false
[defaults.sample]
steps = 2
[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 2 }]
"""
TRAINED = """
[stages.t{0}]
do = "train"
dataset = "data"
epochs = 1
seed = {0}
[stages.a{0}]
do = "sample"
model = "t{0}"
count = 2
[stages.b{0}]
do = "sample"
model = "t{0}"
count = 2
seed = 7
"""
ONE = '[stages.t0]\ndo = "train"\ndataset = "data"\nepochs = 1\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=13, help="trainings of the matrix")
    parser.add_argument("--sleeping", type=int, default=64, help="workers that sleep")
    parser.add_argument("--cells", type=int, default=10_000, help="cells of the simulation")
    parser.add_argument("--seconds", type=float, default=30.0, help="that a sleeping cell takes")
    parser.add_argument("--only", choices=["matrix", "driver", "busy", "simulation"])
    given = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ |= {"RAY_AUTH_TOKEN": os.urandom(32).hex(), "PYTHONPATH": str(ROOT)}
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ["ONMODEL_WORKER_FOLDER"] = str(place / "worker")
        if given.only in (None, "matrix"):
            found |= matrix(place, given.rows)
        if given.only in (None, "driver"):
            seconds, processor = driver_seconds(place, 400)
            found["driver_ms_per_cell"] = round(1000 * seconds, 1)
            found["driver_cpu_ms_per_cell"] = round(1000 * processor, 1)
        if given.only in (None, "busy"):
            busy = busy_share(place, given.sleeping, given.seconds)
            found[f"busy_{given.sleeping}"] = round(busy, 3)
        if given.only in (None, "simulation"):
            cost = float(str(found.get("driver_ms_per_cell", 20.0))) / 1000
            memory = Path("/dev/shm")  # the disk's time is in the measured cost
            disk = memory if memory.is_dir() else None
            for workers in (1, 4, 16, 64, 256):
                with tempfile.TemporaryDirectory(dir=disk) as fast:
                    share = simulated(Path(fast), workers, given.cells, cost)
                print(f"simulation: {workers} workers, {share:.1%} busy", flush=True)
                found[f"simulated_{workers}"] = round(share, 3)
    print(json.dumps(found))


# --- A matrix, with kills -------------------------------------------------------------------------


def matrix(place: Path, rows: int) -> dict[str, object]:
    """Run the matrix here, then on two nodes of which everything is killed once."""
    path = place / "matrix.toml"
    path.write_text(HEAD + "".join(TRAINED.format(row) for row in range(rows)))
    cells = 1 + 3 * rows
    started = time.monotonic()
    here = Project(place / "local")
    with here.writing():
        local.run(load_recipe(path), here, Events())
    print(f"matrix: {cells} cells here in {time.monotonic() - started:.0f} s", flush=True)
    started = time.monotonic()
    with two_nodes(place) as (cluster, second):
        command = [sys.executable, "-m", "onmodel", "run", str(path), "--engine", "ray"]
        command += ["--address", cluster.address, "--project", str(place / "cluster")]
        with (place / "driver.log").open("wb") as log:
            driver = subprocess.Popen(command, stdout=log, stderr=log)
            wait_for(place, driver, cells // 5)
            kill_worker()
            wait_for(place, driver, 2 * cells // 5)
            cluster.remove_node(second, allow_graceful=False)
            print("matrix: a node was killed", flush=True)
            wait_for(place, driver, 3 * cells // 5)
            driver.kill()
            driver.wait()
            print("matrix: the driver was killed", flush=True)
            add_node(cluster, place, "third")
            code = subprocess.run(command, stdout=log, stderr=log).returncode
        if code:
            print((place / "driver.log").read_text(), file=sys.stderr)
    print(f"matrix: on two nodes in {time.monotonic() - started:.0f} s", flush=True)
    done = [run.stage for run in here_runs(place / "cluster") if run.state == "done"]
    objects = Project(place / "cluster").objects()
    return {
        "cells": cells,
        "results": len(set(done)),
        "duplicates": len(done) - len(set(done)),
        "equal_bytes": sorted(objects) == sorted(here.objects()),
    }


@dataclass
class two_nodes:
    """A cluster of two nodes on the loopback device, each with a folder of its own."""

    place: Path

    def __enter__(self) -> tuple[Any, Any]:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "node_ip_address": LOOPBACK, "include_dashboard": False}
        head["env_vars"] = {"ONMODEL_WORKER_FOLDER": str(self.place / "first")}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        return self.cluster, add_node(self.cluster, self.place, "second")

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()


def add_node(cluster: Any, place: Path, name: str) -> Any:
    folder = {"ONMODEL_WORKER_FOLDER": str(place / name)}
    return cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK, env_vars=folder)


def here_runs(folder: Path) -> list[Any]:
    ledger = Ledger(folder / "onmodel.db")
    try:
        return ledger.runs()
    finally:
        ledger.close()


def wait_for(place: Path, driver: subprocess.Popen[bytes], results: int) -> None:
    """Until the ledger has so many results."""
    while not (place / "cluster" / "onmodel.db").exists() or results > sum(
        run.state == "done" for run in here_runs(place / "cluster")
    ):
        if driver.poll() is not None:
            print((place / "driver.log").read_text(), file=sys.stderr)
            raise SystemExit("the driver ended early")
        time.sleep(0.2)


def kill_worker() -> None:
    """Kill one worker of this benchmark in the middle of a job."""
    while True:
        for process in psutil.Process().children(recursive=True):
            try:
                if process.cmdline()[:1] == ["ray::Worker.run"]:
                    process.kill()
                    print("matrix: a worker was killed", flush=True)
                    return
            except psutil.Error:
                continue
        time.sleep(0.05)


# --- Cells that sleep -----------------------------------------------------------------------------


@dataclass(frozen=True)
class SleepJob:
    """A job that only takes time."""

    id: str
    seconds: float

    def work(self, place: Workplace, reporter: Reporter, pack: Pack) -> JobResult:
        time.sleep(self.seconds)
        path = place.folder / self.id
        path.write_bytes(content(self.id))
        made = result(self.id)
        new = {sha256: pack(path) for sha256 in made.files.values()}
        path.unlink()
        return replace(made, new=new)


def content(id: str) -> bytes:
    return json.dumps([id]).encode()


def result(id: str) -> JobResult:
    files = {"lineage.json": sha256_bytes(content(id))}
    return JobResult("run", hash_json(files), files)


@dataclass
class SleepPlanner:
    """Every stage sleeps for a time between `least` and `most` seconds."""

    least: float
    most: float

    def __post_init__(self) -> None:
        self.slept = 0.0
        self._random = random.Random(7)

    def drawings(self, attempt: Attempt, workers: int) -> list[JobOrder]:
        return []

    def stage(self, attempt: Attempt) -> JobOrder:
        seconds = self._random.uniform(self.least, self.most)
        self.slept += seconds
        return JobOrder(SleepJob(attempt.cell.key, seconds), {})


def sleeping(place: Path, name: str, cells: int) -> tuple[list[Step], Work]:
    """So many trainings on one data set, in a new project."""
    path = place / f"{name}.toml"
    path.write_text(HEAD + ONE)
    recipe: Recipe = load_recipe(path)
    data, first = make_plan(recipe)
    steps = [data]
    for number in range(cells - 1):
        settings = first.settings.model_copy(update={"seed": number})
        steps.append(replace(first, name=f"t{number}", settings=settings))
    dispatch.ON_HEAD = frozenset()
    project = Project(place / name)
    return steps, Work(recipe, project, Events(), _no_base, "b" * 64)


def _no_base() -> Any:
    raise AssertionError("nothing is computed")


class Together:
    """A fleet whose workers are told of when all of them joined and did a job of no work, so that
    they have loaded what they need; `began` is when."""

    def __init__(self, fleet: Any, workers: int) -> None:
        self._fleet, self._left, self._joined = fleet, workers, list[News]()
        self.began = 0.0

    def send(self, worker: str, job: WorkerJob, sources: Mapping[str, Path]) -> None:
        self._fleet.send(worker, job, sources)

    def receive(self, seconds: float) -> list[News]:
        while self._left:
            for news in self._fleet.receive(seconds):
                self._joined.append(news)
                self._left -= isinstance(news, Joined)
            if not self._left:
                self._warm_up()
                self.began = time.monotonic()
                return self._joined
        found: list[News] = self._fleet.receive(seconds)
        return found

    def _warm_up(self) -> None:
        workers = [news.worker for news in self._joined if isinstance(news, Joined)]
        for worker in workers:
            self._fleet.send(worker, SleepJob(f"warm-{worker}".replace(" ", "-"), 0.0), {})
        left = len(workers)
        while left:
            left -= sum(isinstance(news, Ended) for news in self._fleet.receive(1.0))


def on_ray(
    place: Path, name: str, workers: int, cells: int, planner: SleepPlanner
) -> tuple[float, float]:
    """Seconds that sleeping cells take on workers of this machine, and those of them in which the
    driver waited."""
    import ray

    steps, work = sleeping(place, name, cells)
    waited = [0.0]
    real = ray.wait

    def timed(*given: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return real(*given, **named)
        finally:
            waited[0] += time.monotonic() - began

    with Head(workers) as address, connected(address):
        from onmodel.engine.cluster.fleet import RayFleet

        fleet = RayFleet(1, 1, cards=False)
        together = Together(fleet, workers)
        ray.wait = timed
        try:
            with work.project.writing():
                began = time.monotonic()
                run_steps(steps, work, Dispatcher(work, together, planner))
                ended = time.monotonic()
        finally:
            ray.wait = real
            fleet.close()
    before = together.began - began
    print(f"{name}: {workers} workers began in {before:.0f} s", flush=True)
    return ended - together.began, max(0.0, waited[0] - before)


@dataclass
class Head:
    """A cluster of one node with so many processors, whether it has them or not."""

    workers: int

    def __enter__(self) -> str:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": self.workers, "node_ip_address": LOOPBACK, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        address: str = self.cluster.address
        return address

    def __exit__(self, *_: object) -> None:
        self.cluster.shutdown()


def driver_seconds(place: Path, cells: int) -> float:
    """The driver's time for a cell of no work, apart from waiting for workers."""
    seconds, waited = on_ray(place, "driver", 2, cells, SleepPlanner(0.0, 0.0))
    print(
        f"driver: {cells} cells in {seconds:.1f} s, of which it waited {waited:.1f} s", flush=True
    )
    return (seconds - waited) / cells


def busy_share(place: Path, workers: int, seconds: float) -> float:
    """Which share of their time workers sleep, over three rounds of cells."""
    planner = SleepPlanner(seconds, seconds)
    took, _ = on_ray(place, "busy", workers, 3 * workers, planner)
    print(f"busy: {3 * workers} cells of {seconds:g} s in {took:.1f} s", flush=True)
    return planner.slept / (workers * took)


# --- A simulation ---------------------------------------------------------------------------------


class SimulatedFleet:
    """Workers with a clock of their own, in seconds. The time that the driver takes counts, and
    `cost` for every cell."""

    def __init__(self, workers: int, cost: float) -> None:
        self.now, self._cost = 0.0, cost
        self._asleep: list[tuple[float, str, str]] = []
        self._new: list[News] = [Joined(f"w{one}", f"n{one}", "here") for one in range(workers)]
        self._left = time.perf_counter()

    def send(self, worker: str, job: WorkerJob, sources: Mapping[str, Path]) -> None:
        assert isinstance(job, SleepJob)
        self._tick()
        self.now += self._cost
        heapq.heappush(self._asleep, (self.now + job.seconds, worker, job.id))

    def receive(self, seconds: float) -> list[News]:
        self._tick()
        news, self._new = self._new, []
        if seconds and not news and self._asleep:
            self.now = max(self.now, self._asleep[0][0])
        while self._asleep and self._asleep[0][0] <= self.now:
            _, worker, job = heapq.heappop(self._asleep)
            news.append(Ended(worker, job, result(job), _fetch(job)))
        self._left = time.perf_counter()
        return news

    def _tick(self) -> None:
        now = time.perf_counter()
        self.now, self._left = self.now + now - self._left, now


def _fetch(job: str) -> Any:
    def fetch(sha256: str) -> Iterator[bytes]:
        yield content(job)

    return fetch


def simulated(place: Path, workers: int, cells: int, cost: float) -> float:
    """Which share of their time workers sleep over cells of 30 to 90 s."""
    steps, work = sleeping(place, f"simulated-{workers}", cells)
    planner, fleet = SleepPlanner(30.0, 90.0), SimulatedFleet(workers, cost)
    with work.project.writing():
        run_steps(steps, work, Dispatcher(work, fleet, planner))
    return planner.slept / (workers * fleet.now)


if __name__ == "__main__":
    main()
