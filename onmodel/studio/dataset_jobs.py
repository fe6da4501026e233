"""Work on data sets that takes a while, in processes of its own (dataset_worker.py)."""

import json
import threading
from dataclasses import asdict, dataclass

from onmodel.errors import BusyError
from onmodel.studio.dataset_worker import DatasetRequest
from onmodel.studio.worker_process import WorkerProcess, start_process
from onmodel.studio.workspace import CharacterFolder

WORKER = "onmodel.studio.dataset_worker"


@dataclass(kw_only=True)
class DatasetJob(WorkerProcess):
    """What is done, and the process that does it."""

    request: DatasetRequest


class DatasetJobs:
    """At most one job per character. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._jobs: dict[str, DatasetJob] = {}
        self._lock = threading.Lock()

    def start(self, character: CharacterFolder, request: DatasetRequest) -> None:
        """Start a job. Raises BusyError while another one of the character runs."""
        with self._lock:
            known = self._jobs.get(character.id)
            if known and known.runs:
                raise BusyError(f"{character.name}: wait for the end of {known.request.do}")
            process = start_process(WORKER, json.dumps(asdict(request)))
            job = self._jobs[character.id] = DatasetJob(process=process, request=request)
        job.follow()

    def of(self, character: CharacterFolder) -> DatasetJob | None:
        """The last job of a character since the studio was started."""
        return self._jobs.get(character.id)

    def stop(self, character: CharacterFolder) -> None:
        """End the job that runs."""
        if job := self.of(character):
            job.stop()
