"""The process that draws pictures for the pages: `python -m onmodel.studio.worker RECIPE FOLDER`.

It reads one request a line from its input and answers each with one line, so that the base stays
loaded and the server itself needs no torch. FOLDER is the project's cache of pictures. It ends when
its input ends.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from onmodel.engine.plan import base_of
from onmodel.errors import OnmodelError
from onmodel.events import Events
from onmodel.recipe import load_recipe
from onmodel.records import Model
from onmodel.sample.pictures import PictureRequest, render
from onmodel.sample.sampling import Sampling


@dataclass(frozen=True)
class DrawRequest:
    """A prompt, drawn once by each LoRA file; "" is the base alone."""

    prompt: str
    negative: str
    seed: int
    loras: tuple[str, ...]
    sampling: dict[str, float | int | str]  # fields of Sampling


@dataclass(frozen=True)
class DrawAnswer:
    """Where the pictures are, in the order of the LoRA files, or the one line that says why not."""

    paths: tuple[str, ...] = ()
    error: str = ""


REQUEST, ANSWER = TypeAdapter(DrawRequest), TypeAdapter(DrawAnswer)


def main() -> None:
    recipe, folder = load_recipe(Path(sys.argv[1])), Path(sys.argv[2])
    import torch

    torch.set_num_threads(recipe.threads)
    events = Events()
    family, sha256 = base_of(recipe, events)
    for line in sys.stdin:
        try:
            wanted = REQUEST.validate_json(line)
            requests = [
                PictureRequest(wanted.prompt, wanted.negative, wanted.seed, _model(path))
                for path in wanted.loras
            ]
            sampling = Sampling(**wanted.sampling)  # type: ignore[arg-type]
            with events.task("draw", len(requests)) as task:
                made = render(family, sha256, requests, sampling, folder, task)
            answer = DrawAnswer(tuple(map(str, made)))
        except (OnmodelError, ValidationError, OSError, RuntimeError) as error:
            answer = DrawAnswer(error=str(error))
        sys.stdout.write(json.dumps(asdict(answer)) + "\n")
        sys.stdout.flush()


def _model(path: str) -> Model | None:
    return Model.of(Path(path).stem, Path(path)) if path else None


if __name__ == "__main__":
    main()
