"""The run of a character: its recipe as a graph with live state, curves, previews and the log."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from onmodel.engine.plan import Step
from onmodel.engine.previews import PreviewPicture, previews
from onmodel.engine.progress import TrainingProgress, curves, progress, quartiles, recorded_steps
from onmodel.errors import InputError
from onmodel.hashing import sha256_bytes
from onmodel.ledger.store import RunRecord
from onmodel.studio.checks import Checks
from onmodel.studio.jobs import Jobs, RunJob, log_of
from onmodel.studio.plans import planned
from onmodel.studio.render import character_of, fragment, page, text, workspace_of
from onmodel.studio.training_set import use_dataset
from onmodel.studio.workspace import CharacterFolder
from onmodel.train.steps import StepRow

EVERY = 0.5  # seconds between two looks at the ledger
PARTS = ("stages", "log")  # of the page, that change while it is shown
CURVES = ("loss", "heldout", "learning_rate")  # names of recorded values


@dataclass(frozen=True)
class StageBox:
    """A stage of the recipe, in order: its `state` is that of the newest run of its name, "new"
    where there is none; `line` says why it stopped. `steps`, `pictures` and `planned` seconds are
    those of the plan, `planned_bytes` the memory that a check forecast, 0 without one; `progress`
    that of a training which runs."""

    name: str
    verb: str
    needs: tuple[str, ...]
    state: str
    seconds: float | None
    line: str
    steps: int
    pictures: int
    planned: float | None
    progress: TrainingProgress | None
    planned_bytes: int = 0


def boxes(
    steps: Sequence[Step],
    runs: Iterable[RunRecord],
    recorded: Mapping[str, Sequence[StepRow]],
    planned_bytes: Mapping[str, int],
) -> list[StageBox]:
    """The planned stages with the state of each; `recorded` are the steps of its trainings,
    `planned_bytes` their forecast memory."""
    newest: dict[str, RunRecord] = {}
    for run in runs:
        newest.setdefault(run.stage, run)
    found = []
    for step in steps:
        latest = newest.get(step.name)
        rows = recorded.get(step.name, ())
        running = bool(rows) and latest is not None and latest.state == "running"
        found.append(
            StageBox(
                step.name,
                step.verb,
                tuple(step.needs),
                latest.state if latest else "new",
                latest.seconds if latest else None,
                latest.line if latest else "",
                step.plan.steps,
                step.plan.pictures,
                step.seconds,
                progress(rows, step.plan.steps) if running else None,
                planned_bytes.get(step.name, 0),
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
    recorded = recorded_steps(character.project_folder, tail=True)
    steps: Sequence[Step] = ()
    if character.recipe:
        steps = planned(character.recipe)
    checks: Checks = request.app.state.checks
    forecast = checks.planned_bytes(character)
    return RunView(boxes(steps, runs, recorded, forecast), job, log_of(character))


@dataclass(frozen=True)
class OtherTraining:
    """A training of the workspace that can be laid over the curves of another."""

    id: str
    character: str
    stage: str


def show(request: Request) -> Response:
    """The page."""
    character = character_of(request)
    view = view_of(request, character)
    return page(
        request,
        "run.html.j2",
        "run",
        character=character,
        view=view,
        seen=urlencode({name: _digest(_part(name, character, view)) for name in PARTS}),
        previews=_previews(character),
        others=[
            OtherTraining(other.id, other.name, stage)
            for other in workspace_of(request).characters()
            for stage in recorded_steps(other.project_folder, tail=True)
        ],
    )


def start(request: Request) -> Response:
    """Queue a run. It trains on the data set of the page Data as it is now."""
    character, jobs = character_of(request), request.app.state.jobs
    jobs.check_free(character)
    use_dataset(character)
    jobs.add(character)
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


def chart(request: Request) -> Response:
    """The curves of every training of the character, as columns, and its held-out losses by
    quartile. Query fields `over` and `stage`:
    the id of a character and the training of it that is laid over each."""
    recorded = recorded_steps(character_of(request).project_folder)
    query = request.query_params
    laid: dict[str, Sequence[StepRow]] = {}
    if query.get("over"):
        other = workspace_of(request).character(query["over"])
        stage, steps = query.get("stage", ""), recorded_steps(other.project_folder)
        if stage not in steps:
            raise InputError("stage", stage, f"{other.name} has no such training; reload the page")
        laid[f"{other.name}: {stage}"] = steps[stage]
    found = {}
    for stage, rows in recorded.items():
        shown = {stage: rows, **laid}
        found[stage] = {**asdict(curves(shown, CURVES)), "quartiles": asdict(quartiles(shown))}
    return JSONResponse(found)


def strip(request: Request) -> Response:
    """The previews, anew."""
    character = character_of(request)
    return fragment(request, "previews.html.j2", character=character, previews=_previews(character))


def preview(request: Request) -> Response:
    """A preview, by its id."""
    for found in _previews(character_of(request)):
        if found.id == request.path_params["id"]:
            headers = {"Cache-Control": "private, max-age=31536000, immutable"}
            return FileResponse(found.path, media_type="image/png", headers=headers)
    raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such preview; reload the page")


def _previews(character: CharacterFolder) -> list[PreviewPicture]:
    return previews(character.project) if character.started else []


async def check(request: Request) -> Response:
    """What the doctor finds in the recipe; POST asks it anew."""
    character, checks = character_of(request), request.app.state.checks
    findings = await run_in_threadpool(checks.findings, character, request.method == "POST")
    return fragment(request, "findings.html.j2", findings=findings)


def _part(name: str, character: CharacterFolder, view: RunView) -> str:
    """A part of the page that changes while it is shown."""
    return text(f"{name}.html.j2", character=character, view=view)


def _digest(part: str) -> str:
    return sha256_bytes(part.encode())[:16]


async def events(request: Request) -> Response:
    """Server-sent events, as HTML whenever they change: the stages, and the log. Query fields have
    the digests of what the page shows already, so that no button is replaced for nothing."""
    character = character_of(request)

    async def stream() -> AsyncIterator[str]:
        last = {name: request.query_params.get(name, "") for name in PARTS}
        while not await request.is_disconnected():
            view = await run_in_threadpool(view_of, request, character)
            for name, before in last.items():
                now = _part(name, character, view)
                if _digest(now) != before:
                    last[name] = _digest(now)
                    lines = "".join(f"data: {line}\n" for line in now.split("\n"))
                    yield f"event: {name}\n{lines}\n"
            await asyncio.sleep(EVERY)

    return StreamingResponse(stream(), media_type="text/event-stream")


ROUTES = (
    Route("/c/{character}/run", show),
    Route("/c/{character}/run/start", start, methods=["POST"]),
    Route("/c/{character}/run/stop", stop, methods=["POST"]),
    Route("/c/{character}/run/curves", chart),
    Route("/c/{character}/run/previews", strip),
    Route("/c/{character}/run/check", check, methods=["GET", "POST"]),
    Route("/c/{character}/preview/{id}", preview),
    Route("/c/{character}/run/events", events),
)
