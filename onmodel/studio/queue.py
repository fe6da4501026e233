"""The queue over all characters: what runs and what waits, in order, and what can be continued."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.errors import InputError
from onmodel.studio.jobs import Jobs, RunJob
from onmodel.studio.render import character_of, fragment, page, workspace_of
from onmodel.studio.workspace import CharacterFolder

CONTINUED = ("paused", "failed", "killed")  # states of runs that can be queued again


@dataclass(frozen=True)
class QueuedJob:
    """A job and its character; `character` is None where the folder is gone."""

    job: RunJob
    character: CharacterFolder | None


@dataclass(frozen=True)
class QueueView:
    """Jobs in order, and characters whose last run stopped before its end."""

    jobs: Sequence[QueuedJob]
    stopped: Sequence[CharacterFolder]


def view_of(request: Request) -> QueueView:
    """The state of now."""
    jobs: Jobs = request.app.state.jobs
    characters = {found.id: found for found in workspace_of(request).characters()}
    rows = [QueuedJob(job, characters.get(job.character)) for job in jobs.open()]
    queued = {row.job.character for row in rows}
    stopped = [one for id, one in characters.items() if id not in queued and _stopped(one)]
    return QueueView(rows, stopped)


def _stopped(character: CharacterFolder) -> bool:
    if character.recipe is None or not character.started:
        return False
    runs = character.project.ledger.runs()
    return bool(runs) and runs[0].state in CONTINUED


def show(request: Request) -> Response:
    """The page."""
    return page(request, "queue.html.j2", "queue", view=view_of(request))


def rows(request: Request) -> Response:
    """The queue, anew."""
    return fragment(request, "jobs.html.j2", view=view_of(request))


def earlier(request: Request) -> Response:
    """Move a waiting job one place to the front."""
    return _moved(request, -1)


def later(request: Request) -> Response:
    """Move a waiting job one place to the end."""
    return _moved(request, 1)


def _moved(request: Request, by: int) -> Response:
    jobs: Jobs = request.app.state.jobs
    jobs.move(_job(request).id, by)
    return rows(request)


def stop(request: Request) -> Response:
    """Take a waiting job out of the queue, or ask a running one to save its state and end."""
    jobs: Jobs = request.app.state.jobs
    jobs.stop(_job(request).id)
    return rows(request)


def resume(request: Request) -> Response:
    """Queue a character's run again; it continues where it stopped."""
    jobs: Jobs = request.app.state.jobs
    jobs.add(character_of(request))
    return rows(request)


def _job(request: Request) -> RunJob:
    jobs: Jobs = request.app.state.jobs
    id = request.path_params["job"]
    for job in jobs.open():
        if job.id == id:
            return job
    raise InputError("job", id, "has ended already")


ROUTES = (
    Route("/queue", show),
    Route("/queue/rows", rows),
    Route("/queue/{job:int}/earlier", earlier, methods=["POST"]),
    Route("/queue/{job:int}/later", later, methods=["POST"]),
    Route("/queue/{job:int}/stop", stop, methods=["POST"]),
    Route("/queue/resume/{character}", resume, methods=["POST"]),
)
