"""Work on data sets that takes a while, in processes of its own (dataset_worker.py)."""

import json
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass

from onmodel.errors import BusyError
from onmodel.studio.dataset_worker import PROGRESS, DatasetProgress, DatasetRequest
from onmodel.studio.workspace import CharacterFolder


@dataclass
class DatasetJob:
    """What is done, the process that does it, and its last progress. `stopped` by the user."""

    request: DatasetRequest
    process: subprocess.Popen[str]
    progress: DatasetProgress
    stopped: bool = False

    @property
    def runs(self) -> bool:
        return not self.progress.ended


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
            process = subprocess.Popen(
                _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:  # it ended; _follow says so
                process.stdin.write(json.dumps(asdict(request)))
            job = DatasetJob(request, process, DatasetProgress())
            self._jobs[character.id] = job
        threading.Thread(target=_follow, args=(job,), daemon=True).start()

    def of(self, character: CharacterFolder) -> DatasetJob | None:
        """The last job of a character since the studio was started."""
        return self._jobs.get(character.id)

    def stop(self, character: CharacterFolder) -> None:
        """End the job that runs. What it did not finish is not recorded."""
        job = self.of(character)
        if job and job.runs:
            job.stopped = True
            job.process.terminate()


def _follow(job: DatasetJob) -> None:
    """Note every progress until the process ends."""
    assert job.process.stdout is not None
    for line in job.process.stdout:
        job.progress = PROGRESS.validate_json(line)
    job.process.wait()
    if job.runs:
        error = "" if job.stopped else "the process ended; the terminal of the studio says why"
        job.progress = DatasetProgress(ended=True, error=error)


_COMMAND = (sys.executable, "-m", "onmodel.studio.dataset_worker")
