"""Jobs and workers that misbehave on purpose, once each. Workers import this file."""

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.engine.cluster.dispatch import JobOrder
from onmodel.engine.cluster.jobs import JobResult, Pack, WorkerJob, Workplace
from onmodel.engine.cluster.planner import JobPlanner
from onmodel.engine.cluster.reports import Reporter
from onmodel.engine.running import Attempt, Work


class _Killing:
    """The reporter of a job whose process is killed when it reports steps of a training, just after
    it saved its state. Before that it makes `marker`."""

    def __init__(self, reporter: Reporter, marker: Path) -> None:
        self.events, self._marker = reporter.events, marker

    def record(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class DyingJob:
    """A job whose worker is killed in the middle, once."""

    job: WorkerJob
    marker: Path

    @property
    def id(self) -> str:
        return self.job.id

    def work(self, place: Workplace, reporter: Reporter, pack: Pack) -> JobResult:
        once: Any = reporter if self.marker.exists() else _Killing(reporter, self.marker)
        return self.job.work(place, once, pack)


class KillingPlanner(JobPlanner):
    """The worker of the stage `name` is killed once, in the middle of its training."""

    def __init__(self, work: Work, name: str, marker: Path) -> None:
        super().__init__(work)
        self._name, self._marker = name, marker

    def stage(self, attempt: Attempt) -> JobOrder:
        order = super().stage(attempt)
        if attempt.cell.step.name != self._name:
            return order
        return JobOrder(DyingJob(order.job, self._marker), order.sources)
