"""The releases of a character: samples, card and licence as they will look, the lineage, what the
check finds, and what would go to the hub. Nothing is uploaded from here."""

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

from onmodel.errors import InputError, VerifyError
from onmodel.events import Finding
from onmodel.paths import inside, name_fault
from onmodel.reading import parse_yaml_in
from onmodel.release.folder import CHECKSUMS, read_checksums
from onmodel.studio.gate import SANDBOXED
from onmodel.studio.render import character_of, fragment, page
from onmodel.studio.workspace import CharacterFolder

GALLERY = "<Gallery />"  # where the hub shows the samples
PICTURES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class ReleaseFile:
    """A file of a release; its SHA-256 as checksums.txt has it, "" where it is not listed."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ReleaseSample:
    """A sample picture with its prompt."""

    address: str
    text: str


@dataclass(frozen=True)
class ReleaseText:
    """README.md: its front matter as text, the samples that this names, and the card."""

    front: str
    samples: Sequence[ReleaseSample]
    card: Markup


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
        text=_text(character, folder) if folder else None,
        licence=_markdown(_read(folder / "LICENSE.md")) if folder else Markup(),
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


def dry_run(request: Request) -> Response:
    """What would go to the hub: query field `repository`. The release is checked and verified."""
    from onmodel.release.push import plan_push

    folder = _named(request)
    plan = plan_push(folder, request.query_params.get("repository", "").strip())
    files = {file.name: file for file in _files(folder)}
    return fragment(
        request,
        "push.html.j2",
        plan=plan,
        name=folder.name,
        files=[files[name] for name, _ in plan.files],
        total=sum(size for _, size in plan.files),
    )


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
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return [name for name in names if name_fault(name) is None]  # others cannot be asked for


def _folder(character: CharacterFolder, name: str) -> Path:
    folder = inside(character.project_folder / "release", name, "release")
    if not folder.is_dir():
        raise HTTPException(HTTPStatus.NOT_FOUND, "this character has no such release")
    return folder


def _named(request: Request) -> Path:
    return _folder(character_of(request), request.path_params["name"])


def _text(character: CharacterFolder, folder: Path) -> ReleaseText:
    text, front = _read(folder / "README.md"), ""
    if text.startswith("---\n"):
        front, _, text = text.removeprefix("---\n").partition("\n---\n")
    address = f"/c/{character.id}/release/{folder.name}/file"
    card = _markdown(text.replace(GALLERY, ""), address)
    return ReleaseText(front, _samples(front, address), card)


def _samples(front: str, address: str) -> list[ReleaseSample]:
    """The samples of a card's front matter; none where it is damaged, which the check tells."""
    try:
        rows = parse_yaml_in(front, Path("README.md"), "file")["widget"]
        return [ReleaseSample(f"{address}/{row['output']['url']}", row["text"]) for row in rows]
    except (InputError, TypeError, LookupError):
        return []


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _markdown(text: str, address: str = "") -> Markup:
    """Markdown as HTML; HTML in it stays text. Its pictures lie below `address`."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        for inner in token.children or []:
            source = inner.attrs.get("src")
            if isinstance(source, str) and "://" not in source:
                inner.attrs["src"] = f"{address}/{source}"
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def _files(folder: Path) -> list[ReleaseFile]:
    known = read_checksums(_read(folder / CHECKSUMS).encode())
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        found.append(ReleaseFile(name, path.stat().st_size, known.get(name, "")))
    return found


ROUTES = (
    Route("/c/{character}/release", show),
    Route("/c/{character}/release/{name}/check", checked),
    Route("/c/{character}/release/{name}/push", dry_run),
    Route("/c/{character}/release/{name}/lineage", lineage),
    Route("/c/{character}/release/{name}/file/{file:path}", file),
)
