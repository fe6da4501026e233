"""Files that the browser sends, one per request, as the request's body.

WORKSPACE/.studio/uploads/PROCESS-*/   what is being received; removed at the next start of a studio
                                       when its process was killed
"""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from onmodel.errors import InputError
from onmodel.studio.render import workspace_of
from onmodel.studio.workspace import Workspace

UPLOADS = "uploads"


async def receive(request: Request, target: Path) -> None:
    """Write the request's body to a new file, whole or not at all. Raises InputError when it
    exists."""
    if target.exists():
        raise InputError("name", target.name, "is here already; rename it")
    async with received(request, target.name) as file:
        file.rename(target)


@asynccontextmanager
async def received(request: Request, name: str) -> AsyncIterator[Path]:
    """The request's body as a whole file of this name, in a folder of its own that is removed when
    the block ends."""
    uploads = workspace_of(request).own / UPLOADS
    uploads.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=uploads))
    try:
        with (folder / name).open("wb") as file:
            async for piece in request.stream():
                await run_in_threadpool(file.write, piece)
        yield folder / name
    finally:
        await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)


def remove_unfinished(workspace: Workspace) -> None:
    """Remove what killed studios were receiving. Call before this process receives anything."""
    uploads = workspace.own / UPLOADS
    for folder in uploads.iterdir() if uploads.is_dir() else ():
        process = int(folder.name.partition("-")[0])
        if process == os.getpid() or not psutil.pid_exists(process):
            shutil.rmtree(folder, ignore_errors=True)
