"""The releases of a character: the card as it will look, what the check finds, the lineage."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from onmodel.errors import VerifyError
from onmodel.events import Finding
from onmodel.paths import inside
from onmodel.studio.gate import SANDBOXED
from onmodel.studio.render import character_of, fragment, page
from onmodel.studio.workspace import CharacterFolder

PICTURES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class ReleaseFile:
    """A file of a release folder."""

    name: str
    size: int


@dataclass(frozen=True)
class CheckedRelease:
    """What the checks say: findings, errors first; `passed` are those of verify, `failed` is the
    first that does not hold."""

    findings: Sequence[Finding]
    passed: Sequence[str]
    failed: str


def show(request: Request) -> Response:
    """The page; query field `name` names the release."""
    character = character_of(request)
    names = _names(character)
    shown = request.query_params.get("name", "")
    shown = shown if shown in names else (names[0] if names else "")
    folder = _folder(character, shown) if shown else None
    return page(
        request,
        "release.html.j2",
        "release",
        character=character,
        names=names,
        shown=shown,
        card=_card(character, folder) if folder else Markup(),
        files=_files(folder) if folder else [],
    )


def checked(request: Request) -> Response:
    """Check and verify a release."""
    from onmodel.release.check import check  # reads weights: torch
    from onmodel.release.verify import verify

    folder = _named(request)
    failed, passed = "", []
    try:
        passed = verify(folder)
    except VerifyError as error:
        failed = str(error)
    found = CheckedRelease(check(folder), passed, failed)
    return fragment(request, "checked.html.j2", found=found)


def lineage(request: Request) -> Response:
    """The drawn history of a release."""
    from onmodel.release.provenance import read_provenance
    from onmodel.report.lineage_page import lineage_page

    return HTMLResponse(lineage_page(read_provenance(_named(request))), headers=SANDBOXED)


def file(request: Request) -> Response:
    """A picture of a release, for its card."""
    path = inside(_named(request), request.path_params["file"], "file")
    if path.suffix not in PICTURES or not path.is_file():
        raise HTTPException(HTTPStatus.NOT_FOUND, "the release has no such picture")
    return FileResponse(path, media_type=PICTURES[path.suffix])


def _names(character: CharacterFolder) -> list[str]:
    folder = character.project_folder / "release"
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _folder(character: CharacterFolder, name: str) -> Path:
    folder = inside(character.project_folder / "release", name, "release")
    if not folder.is_dir():
        raise HTTPException(HTTPStatus.NOT_FOUND, "this character has no such release")
    return folder


def _named(request: Request) -> Path:
    return _folder(character_of(request), request.path_params["name"])


def _card(character: CharacterFolder, folder: Path) -> Markup:
    """README.md without its front matter, as HTML; HTML in it stays text."""
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if text.startswith("---\n"):
        text = text.partition("\n---\n")[2]
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        for inner in token.children or []:
            source = inner.attrs.get("src")
            if isinstance(source, str) and "://" not in source:
                inner.attrs["src"] = f"/c/{character.id}/release/{folder.name}/file/{source}"
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def _files(folder: Path) -> list[ReleaseFile]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [ReleaseFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]


ROUTES = (
    Route("/c/{character}/release", show),
    Route("/c/{character}/release/{name}/check", checked),
    Route("/c/{character}/release/{name}/lineage", lineage),
    Route("/c/{character}/release/{name}/file/{file:path}", file),
)
