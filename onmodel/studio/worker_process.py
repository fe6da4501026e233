"""A process that works for the studio: it is told once what to do, and prints its progress."""

import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field

from onmodel.studio.dataset_worker import PROGRESS, DatasetProgress


@dataclass(kw_only=True)
class WorkerProcess:
    """The process and its last progress. `stopped` by the user."""

    process: subprocess.Popen[str]
    progress: DatasetProgress = field(default_factory=DatasetProgress)
    stopped: bool = False

    @property
    def runs(self) -> bool:
        return not self.progress.ended

    def stop(self) -> None:
        """End it. What it did not finish is not recorded."""
        if self.runs:
            self.stopped = True
            self.process.terminate()

    def follow(self) -> None:
        """Note every progress, in a thread of its own, until the process ends."""
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.progress = PROGRESS.validate_json(line)
        self.process.wait()
        if self.runs:
            error = "" if self.stopped else "the process ended; the terminal of the studio says why"
            self.progress = DatasetProgress(ended=True, error=error)


def start_process(module: str, request: str) -> subprocess.Popen[str]:
    """Start `python -m module`, which reads the request."""
    command = (sys.executable, "-m", module)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:  # it ended; who follows it says so
        process.stdin.write(request)
    return process
