"""Files that the browser sends, one per request, as the request's body."""

from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from onmodel.errors import InputError


async def receive(request: Request, target: Path) -> None:
    """Write the request's body to a new file, whole or not at all. Raises InputError when it
    exists."""
    if target.exists():
        raise InputError("name", target.name, "is here already; rename it")
    temporary = target.with_name(f".{target.name}.part")
    try:
        with temporary.open("wb") as file:
            async for piece in request.stream():
                await run_in_threadpool(file.write, piece)
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
