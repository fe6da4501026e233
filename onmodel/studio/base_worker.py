"""The process that downloads a published base: `python -m onmodel.studio.base_worker`. It reads a
BaseRequest as JSON and prints its progress as dataset_worker.py does."""

import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from onmodel.events import Events
from onmodel.studio.dataset_worker import DatasetProgress, answer


@dataclass(frozen=True)
class BaseRequest:
    """Which published base comes into which folder. Its licence was accepted."""

    name: str
    into: str


REQUEST = TypeAdapter(BaseRequest)


def work(request: BaseRequest, events: Events) -> DatasetProgress:
    """Download it. Raises what `download` raises."""
    from onmodel.families.published import download, plan_download

    fields = download(plan_download(request.name, Path(request.into)), events)
    return DatasetProgress(ended=True, count=len(fields))


if __name__ == "__main__":
    request = REQUEST.validate_json(sys.stdin.read())
    answer(lambda events: work(request, events))
