"""Base models from the Hugging Face hub: each is downloaded into the workspace by a process of its
own, and new characters may begin on it."""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.errors import BusyError, InputError
from onmodel.families.licences import Licence
from onmodel.families.published import downloaded_rows, published_bases
from onmodel.families.registry import licence_rows
from onmodel.studio.base_worker import BaseRequest
from onmodel.studio.render import fragment, workspace_of
from onmodel.studio.worker_process import WorkerProcess, start_process
from onmodel.studio.workspace import Workspace

WORKER = "onmodel.studio.base_worker"


@dataclass(kw_only=True)
class BaseDownload(WorkerProcess):
    """The base that is downloaded, and the process that does it."""

    name: str


@dataclass
class BaseDownloads:
    """One download at a time. Every method may be called from any thread."""

    last: BaseDownload | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, request: BaseRequest) -> None:
        """Start a download; one that was stopped continues. Raises BusyError while one runs."""
        with self._lock:
            if self.last and self.last.runs:
                raise BusyError(f"wait for the end of the download of {self.last.name}")
            process = start_process(WORKER, json.dumps(asdict(request)))
            self.last = BaseDownload(process=process, name=request.name)
        self.last.follow()

    def stop(self) -> None:
        """End the download; what is here of it stays."""
        if self.last:
            self.last.stop()


@dataclass(frozen=True)
class OfferedBase:
    """A published base; `rows` are those of `--base`, none before it is here."""

    name: str
    title: str
    licence: Licence
    rows: Sequence[str]


def offered(workspace: Workspace) -> list[OfferedBase]:
    """Every published base."""
    licences = licence_rows()
    return [
        OfferedBase(name, base.title, licences[base.licence].licence, base_rows(workspace, name))
        for name, base in published_bases().items()
    ]


def base_rows(workspace: Workspace, name: str) -> list[str]:
    """The rows of `--base` for a base that was downloaded; none for any other."""
    return downloaded_rows(_folder(workspace, name)) if name in published_bases() else []


def show(request: Request) -> Response:
    """The bases with their licences, and the download that runs."""
    workspace, downloads = workspace_of(request), downloads_of(request)
    return fragment(request, "bases.html.j2", bases=offered(workspace), job=downloads.last)


async def get(request: Request) -> Response:
    """Download a base: form fields `base`, and `accepted` with its licence's name."""
    form = await request.form()
    name, accepted = str(form.get("base", "")), str(form.get("accepted", ""))

    def begin() -> Response:
        workspace = workspace_of(request)
        base = next((one for one in offered(workspace) if one.name == name), None)
        if base is None:
            raise InputError("base", name, "is not published; reload the page")
        if accepted != base.licence.name:
            raise InputError("licence", "not accepted", f"read {base.licence.link} and accept it")
        downloads_of(request).start(BaseRequest(name, str(_folder(workspace, name))))
        return show(request)

    return await run_in_threadpool(begin)


def stop(request: Request) -> Response:
    """Stop the download."""
    downloads_of(request).stop()
    return show(request)


def downloads_of(request: Request) -> BaseDownloads:
    """The downloads of this studio."""
    downloads: BaseDownloads = request.app.state.base_downloads
    return downloads


def _folder(workspace: Workspace, name: str) -> Path:
    return workspace.own / "bases" / name


ROUTES = (
    Route("/bases", show),
    Route("/bases", get, methods=["POST"]),
    Route("/bases/stop", stop, methods=["POST"]),
)
