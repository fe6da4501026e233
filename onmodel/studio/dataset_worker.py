"""The process that looks at the pictures of a data set: `python -m onmodel.studio.dataset_worker`.

It reads a DatasetRequest as JSON. Each line of the output is a DatasetProgress as JSON, the last
one with `ended`. The models that look at pictures are loaded here, never by the server. When the
studio ends, nobody reads the lines and the process ends too; what was not finished is not recorded.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from onmodel.curate.masks import MaskSource
from onmodel.curate.settings import CaptionSettings, ObserverSettings
from onmodel.errors import OnmodelError
from onmodel.events import Event, Events, TaskAdvanced, TaskEnded, TaskStarted

SHOWN = 5  # pictures without a result that are named

DatasetWork = Literal["audit", "tag", "caption", "mask"]


@dataclass(frozen=True)
class DatasetRequest:
    """What is done, in which data set, with which character sheet. `tagger` is as for `onmodel
    dataset audit`, "" for the toon world's own. Without an `endpoint` sentences are built from the
    tags. Masks of the pictures `names` are made from `source`; `detector` is as `tagger`."""

    do: DatasetWork
    work: str
    sheet: str
    tagger: str = ""
    endpoint: str = ""
    model: str = ""
    names: tuple[str, ...] = ()
    source: MaskSource = "alpha"
    detector: str = ""

    @property
    def observers(self) -> ObserverSettings:
        return ObserverSettings(tagger=self.tagger or None)


@dataclass(frozen=True)
class DatasetProgress:
    """How far the work is: the task at hand with its units; at the end the number of results, or
    the one line that says why there are none. `notes` are further lines."""

    task: str = ""
    done: int = 0
    total: int = 0
    ended: bool = False
    count: int = 0
    notes: tuple[str, ...] = ()
    error: str = ""


REQUEST, PROGRESS = TypeAdapter(DatasetRequest), TypeAdapter(DatasetProgress)


@dataclass
class ProgressLines:
    """A listener that passes on the progress after every event of a task."""

    send: Callable[[DatasetProgress], None]
    now: DatasetProgress = field(default_factory=DatasetProgress)

    def __call__(self, event: Event) -> None:
        match event:
            case TaskStarted(name, total):
                self.now = DatasetProgress(name, 0, total)
            case TaskAdvanced(_, units):
                self.now = replace(self.now, done=self.now.done + units)
            case TaskEnded():
                self.now = replace(self.now, done=self.now.total)
            case _:
                return
        self.send(self.now)


def work(request: DatasetRequest, events: Events) -> DatasetProgress:
    """Do what is requested. Raises what the functions of onmodel/curate raise."""
    return _DO[request.do](request, events)


def _audit(request: DatasetRequest, events: Events) -> DatasetProgress:
    from onmodel.character import load_character
    from onmodel.curate.actions import audit_folder

    character = load_character(Path(request.sheet))
    audit, _ = audit_folder(Path(request.work), character, request.observers, events)
    return DatasetProgress(ended=True, count=len(audit.findings))


def _tag(request: DatasetRequest, events: Events) -> DatasetProgress:
    from onmodel.curate.tagging import tag_untagged
    from onmodel.evaluate.observers import load_observers

    observers = request.observers
    tagger = load_observers(observers.base_name, {"tagger": observers.tagger}, 1).tagger
    assert tagger is not None
    return DatasetProgress(ended=True, count=tag_untagged(Path(request.work), tagger, events))


def _caption(request: DatasetRequest, events: Events) -> DatasetProgress:
    from onmodel.character import load_character
    from onmodel.curate.captioning import write_sentences

    character = load_character(Path(request.sheet))
    settings = CaptionSettings(endpoint=request.endpoint, model=request.model)
    done = write_sentences(Path(request.work), character, settings, events)
    failed = [f"{name}: {why}" for name, why in done.answers.failed.items()]
    notes = [*([done.warning] if done.warning else []), *failed[:SHOWN]]
    return DatasetProgress(ended=True, count=len(done.answers.sentences), notes=tuple(notes))


def _mask(request: DatasetRequest, events: Events) -> DatasetProgress:
    from onmodel.curate.masks import make_masks
    from onmodel.evaluate.observers import load_observers

    detectors = None
    if request.source != "alpha":
        named, base = {"detectors": request.detector}, "" if request.detector else "toon"
        detectors = load_observers(base, named, 1).detectors
    count = make_masks(Path(request.work), request.names, request.source, detectors, events)
    return DatasetProgress(ended=True, count=count)


_DO: dict[DatasetWork, Callable[[DatasetRequest, Events], DatasetProgress]] = {
    "audit": _audit,
    "tag": _tag,
    "caption": _caption,
    "mask": _mask,
}


def answer(work: Callable[[Events], DatasetProgress]) -> None:
    """Do the work of this process, and print its progress line by line."""

    def send(progress: DatasetProgress) -> None:
        sys.stdout.write(json.dumps(asdict(progress)) + "\n")
        sys.stdout.flush()

    try:
        send(work(Events(ProgressLines(send))))
    except BrokenPipeError:  # the studio ended
        sys.exit(1)
    except (OnmodelError, OSError, RuntimeError) as error:
        send(DatasetProgress(ended=True, error=str(error)))


if __name__ == "__main__":
    request = REQUEST.validate_json(sys.stdin.read())
    answer(lambda events: work(request, events))
