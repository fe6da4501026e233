"""Start the studio and serve it until Ctrl-C."""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.resources import files

import uvicorn

from onmodel.errors import InputError
from onmodel.freed_memory import share_memory_among_threads
from onmodel.studio.app import Services, make_app
from onmodel.studio.datasets import Datasets
from onmodel.studio.drawing import Drawing
from onmodel.studio.gate import HOST, Key
from onmodel.studio.jobs import Jobs
from onmodel.studio.uploads import remove_unfinished
from onmodel.studio.workspace import Workspace


def serve(
    workspace: Workspace,
    port: int,
    ready: Callable[[str], None],
    page: str = "/",
    until: Callable[[], bool] | None = None,
    cards: Sequence[int] = (),
) -> None:
    """Serve a workspace; its runs work one at a time, or one on each of `cards`. `ready` is called
    with the address to open, which leads to `page`. `port` 0 takes a free one. Returns when `until`
    is true, which is asked twice a second. Raises InputError for a port that cannot be used, and
    KeyboardInterrupt."""
    if not (files("onmodel.studio") / "static" / "vendor").is_dir():
        raise InputError(
            "studio", "scripts of the pages", "are missing; run tools/studio_assets.py (needs npm)"
        )
    share_memory_among_threads()
    remove_unfinished(workspace)
    listener = listen(port)
    key = Key(listener.getsockname()[1], page)
    jobs, drawing = Jobs(workspace, cards), Drawing()
    config = uvicorn.Config(
        make_app(workspace, Services(jobs, drawing, Datasets()), key),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,  # event streams stay open for ever
    )
    server = uvicorn.Server(config)
    with jobs.working(), closing(drawing), listener:
        ready(key.url)
        if until:
            threading.Thread(target=_end_when, args=(until, server), daemon=True).start()
        server.run(sockets=[listener])


def _end_when(done: Callable[[], bool], server: uvicorn.Server) -> None:
    """End the server once `done` is true."""
    while not done():
        time.sleep(0.5)
    server.should_exit = True


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1; `port` 0 takes a free one. Raises InputError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # else a port stays taken for a minute after the studio has ended
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # so that the address answers from the moment it is printed
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or "a port is a number from 0 to 65535"
        raise InputError(
            "--port", port, f"cannot be used ({reason}); leave it out for a free one"
        ) from error
    return listener
