"""The studio as one ASGI application: the rooms' routes behind the gate."""

from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from onmodel.errors import BusyError, InputError, OnmodelError, SpaceError
from onmodel.studio import audits, bases, data, home, mask_jobs, pictures, queue
from onmodel.studio.bases import BaseDownloads
from onmodel.studio.checks import Checks
from onmodel.studio.dataset_jobs import DatasetJobs
from onmodel.studio.datasets import Datasets
from onmodel.studio.drawing import Drawing
from onmodel.studio.gate import Gate, Key, TooLargeError
from onmodel.studio.jobs import Jobs
from onmodel.studio.render import fragment
from onmodel.studio.workspace import Workspace


def first_routes() -> list[Route]:
    """Of the pages that a session begins with."""
    return [
        route
        for room in (home, bases, queue, data, pictures, mask_jobs, audits)
        for route in room.ROUTES
    ]


def later_routes() -> list[Route]:
    """Of the rooms that need recipes and LoRA files: importing them takes as long as the others."""
    from onmodel.studio import (
        charts,
        compare,
        design,
        judging,
        merge,
        picks,
        planner,
        recipe,
        release,
        results,
        run,
        samples,
        tradeoff,
    )

    data_rooms = (charts, design, planner)
    rooms = (run, recipe, compare, judging, picks, results, tradeoff, merge, release, samples)
    return [route for room in (*data_rooms, *rooms) for route in room.ROUTES]


class LaterRooms:
    """ASGI app of the later routes, which are imported when one of them is first asked for."""

    def __init__(self) -> None:
        self._router: Router | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._router is None:
            self._router = Router(await run_in_threadpool(later_routes))
        await self._router(scope, receive, send)


STATUSES: dict[type[Exception], HTTPStatus] = {
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    BusyError: HTTPStatus.CONFLICT,
    SpaceError: HTTPStatus.INSUFFICIENT_STORAGE,
}


@dataclass(frozen=True)
class Services:
    """What the rooms share, each safe for every thread."""

    jobs: Jobs
    drawing: Drawing
    datasets: Datasets


def make_app(workspace: Workspace, services: Services, key: Key) -> Gate:
    """The studio of a workspace; `key` opens it."""
    static = StaticFiles(directory=str(files("onmodel.studio") / "static"))
    app = Starlette(
        routes=[*first_routes(), Mount("/static", static)],
        exception_handlers={
            OnmodelError: _mistake,
            HTTPException: _http_error,
            TooLargeError: _too_large,
            ClientDisconnect: _cut_off,
            Exception: _failure,
        },
    )
    app.router.default = LaterRooms()
    app.state.workspace = workspace
    app.state.jobs, app.state.drawing = services.jobs, services.drawing
    app.state.datasets = services.datasets
    app.state.checks = Checks()
    app.state.dataset_jobs = DatasetJobs()
    app.state.base_downloads = BaseDownloads()
    return Gate(app, key)


def _mistake(request: Request, error: Exception) -> Response:
    """A user's mistake is one line, as at the terminal."""
    kinds = (kind for kind in STATUSES if isinstance(error, kind))
    status = STATUSES.get(next(kinds, OnmodelError), HTTPStatus.INTERNAL_SERVER_ERROR)
    return _told(request, str(error), status)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _told(request, str(error.detail), HTTPStatus(error.status_code))


def _too_large(request: Request, error: Exception) -> Response:
    return _told(request, "the body is too large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def _cut_off(request: Request, error: Exception) -> Response:
    """The browser went away while it sent; nobody reads the answer."""
    return _told(request, "the body is not whole", HTTPStatus.BAD_REQUEST)


def _failure(request: Request, error: Exception) -> Response:
    sentence = f"onmodel failed ({type(error).__name__}: {error}); its terminal says more"
    return _told(request, sentence, HTTPStatus.INTERNAL_SERVER_ERROR)


def _told(request: Request, sentence: str, status: HTTPStatus) -> Response:
    """One line: as JSON for a script, else as HTML."""
    if "text/html" not in request.headers.get("accept", "") and "hx-request" not in request.headers:
        return JSONResponse({"error": sentence}, status)
    answer = fragment(
        request,
        "mistake.html.j2" if "hx-request" in request.headers else "error.html.j2",
        sentence=sentence,
    )
    answer.status_code = status
    return answer
