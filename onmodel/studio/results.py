"""The results of a character: the pages that a run wrote, framed.

A page of a report holds its script and style in itself. It is shown in a sandbox without an origin,
so nothing in it can reach the studio.
"""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from onmodel.paths import inside
from onmodel.studio.gate import SANDBOXED
from onmodel.studio.render import character_of, page
from onmodel.studio.workspace import CharacterFolder

FIRST = "index.html"
KINDS = {".html": "text/html", ".csv": "text/csv"}


@dataclass(frozen=True)
class ReportFiles:
    """The pages and tables of a project's report by file name; the main page is the first."""

    pages: list[str]
    tables: list[str]


def report_files(character: CharacterFolder) -> ReportFiles:
    """What the last run wrote; both are empty before it."""
    folder = _folder(character)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    pages = sorted(
        (name for name in names if name.endswith(".html")), key=lambda name: name != FIRST
    )
    return ReportFiles(pages, [name for name in names if name.endswith(".csv")])


def show(request: Request) -> Response:
    """The page; query field `page` names the page of the report."""
    character = character_of(request)
    files = report_files(character)
    wanted = request.query_params.get("page", FIRST)
    shown = wanted if wanted in files.pages else (files.pages[0] if files.pages else "")
    return page(
        request, "results.html.j2", "results", character=character, files=files, shown=shown
    )


def file(request: Request) -> Response:
    """A page or a table of the report."""
    character, name = character_of(request), request.path_params["name"]
    path = inside(_folder(character), name, "report")
    if path.suffix not in KINDS or not path.is_file():
        raise HTTPException(
            HTTPStatus.NOT_FOUND, "the report has no such page; run the recipe again"
        )
    return FileResponse(path, media_type=KINDS[path.suffix], headers=SANDBOXED)


def _folder(character: CharacterFolder) -> Path:
    return character.project_folder / "report"


ROUTES = (
    Route("/c/{character}/results", show),
    Route("/c/{character}/report/{name}", file),
)
