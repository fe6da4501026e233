"""The run of a character: its recipe as a graph with live state, the queue, curves and the log."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from onmodel.engine.plan import make_plan
from onmodel.ledger.store import RunRecord
from onmodel.recipe import Recipe, load_recipe
from onmodel.studio.jobs import Jobs, RunJob, log_of
from onmodel.studio.render import character_of, fragment, page, text
from onmodel.studio.workspace import CharacterFolder

EVERY = 0.5  # seconds between two looks at the ledger


@dataclass(frozen=True)
class StageBox:
    """A stage of the recipe, in order: its `state` is that of the newest run of its name, "new"
    where there is none; `line` says why it stopped."""

    name: str
    verb: str
    needs: tuple[str, ...]
    state: str
    seconds: float | None
    line: str


def boxes(recipe: Recipe, runs: Iterable[RunRecord]) -> list[StageBox]:
    """The recipe's stages with the state of each."""
    newest: dict[str, RunRecord] = {}
    for run in runs:
        newest.setdefault(run.stage, run)
    found = []
    for step in make_plan(recipe):
        latest = newest.get(step.name)
        found.append(
            StageBox(
                step.name,
                step.verb,
                tuple(step.needs),
                latest.state if latest else "new",
                latest.seconds if latest else None,
                latest.line if latest else "",
            )
        )
    return found


@dataclass(frozen=True)
class RunView:
    """What the page of a run shows."""

    boxes: list[StageBox]
    job: RunJob | None
    log: str


def view_of(request: Request, character: CharacterFolder) -> RunView:
    """The state of now."""
    jobs: Jobs = request.app.state.jobs
    job = next((job for job in jobs.open() if job.character == character.id), None)
    runs = character.project.ledger.runs() if character.started else []
    stages = boxes(load_recipe(character.recipe), runs) if character.recipe else []
    return RunView(stages, job, log_of(character))


def show(request: Request) -> Response:
    """The page."""
    character = character_of(request)
    view = view_of(request, character)
    return page(request, "run.html.j2", "run", character=character, view=view)


def start(request: Request) -> Response:
    """Queue a run."""
    character = character_of(request)
    request.app.state.jobs.add(character)
    return fragment(
        request, "stages.html.j2", character=character, view=view_of(request, character)
    )


def stop(request: Request) -> Response:
    """Stop the run of a character, or take it out of the queue."""
    character = character_of(request)
    view = view_of(request, character)
    if view.job:
        request.app.state.jobs.stop(view.job.id)
    return fragment(
        request, "stages.html.j2", character=character, view=view_of(request, character)
    )


def curves(request: Request) -> Response:
    """The recorded steps of every training of the recipe, as columns for the chart."""
    character = character_of(request)
    found: dict[str, list[list[float | None]]] = {}
    if character.started:
        for path in sorted((character.project_folder / "logs").glob("*.jsonl")):
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            names = ("step", "loss", "learning_rate")
            found[path.stem] = [[row.get(name) for row in rows] for name in names]
    return JSONResponse(found)


async def events(request: Request) -> Response:
    """Server-sent events: the stages as HTML whenever they change."""
    character = character_of(request)

    async def stream() -> AsyncIterator[str]:
        last = ""
        while not await request.is_disconnected():
            view = await run_in_threadpool(view_of, request, character)
            now = text("stages.html.j2", character=character, view=view)
            if now != last:
                last = now
                lines = "".join(f"data: {line}\n" for line in now.splitlines())
                yield f"event: stages\n{lines}\n"
            await asyncio.sleep(EVERY)

    return StreamingResponse(stream(), media_type="text/event-stream")


ROUTES = (
    Route("/c/{character}/run", show),
    Route("/c/{character}/run/start", start, methods=["POST"]),
    Route("/c/{character}/run/stop", stop, methods=["POST"]),
    Route("/c/{character}/run/curves", curves),
    Route("/c/{character}/run/events", events),
)
