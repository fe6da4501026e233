"""Pages and fragments from templates. All English stands in english.toml."""

import tomllib
from functools import cache
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from onmodel.report.pages import environment
from onmodel.studio.workspace import CharacterFolder, Workspace

ROOMS = ("data", "run", "compare", "results", "merge", "release")  # of one character


def workspace_of(request: Request) -> Workspace:
    """The workspace that the server was started for."""
    workspace: Workspace = request.app.state.workspace
    return workspace


def character_of(request: Request) -> CharacterFolder:
    """The character that the address names. Raises InputError for an unknown id."""
    return workspace_of(request).character(request.path_params["character"])


def page(request: Request, template: str, room: str, **values: Any) -> HTMLResponse:
    """A whole page of a room."""
    return _answer(request, template, room=room, **values)


def fragment(request: Request, template: str, **values: Any) -> HTMLResponse:
    """A part of a page, which htmx puts in place."""
    return _answer(request, template, **values)


def text(template: str, **values: Any) -> str:
    """A template as text, for an event."""
    return templates().get_template(template).render(w=words(), **values)


def _answer(request: Request, template: str, **values: Any) -> HTMLResponse:
    values = {"character": None, "rooms": ROOMS, "path": request.url.path} | values
    return HTMLResponse(text(template, **values))


@cache
def words() -> SimpleNamespace:
    """The strings of the pages: `words().room.key`. A dictionary would hide keys such as "clear"
    behind its own methods."""
    text = (files("onmodel.studio") / "english.toml").read_text(encoding="utf-8")
    rooms = {name: SimpleNamespace(**rows) for name, rows in tomllib.loads(text).items()}
    return SimpleNamespace(**rooms)


@cache
def templates() -> jinja2.Environment:
    """The studio's own templates; `size` prints bytes, `count` a number."""
    made = environment("onmodel.studio")
    made.filters.update(size=size, count=count)
    return made


def size(number: float) -> str:
    """Bytes as people read them: 1.5 GB."""
    unit = "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 1000:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if number >= 100 or unit == "bytes" else f"{number:.1f} {unit}"


def count(number: int, one: str, many: str) -> str:
    """1 picture, 2,000 pictures."""
    return f"{number:,} {one if number == 1 else many}"
