"""The data set of a character: a grid of its pictures, filters, decisions, edits, undo and redo."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onmodel.curate.bulk import Changed, changes, edit_tags, parse_edit
from onmodel.curate.decisions import decide_by_hand, fix_findings, merged_tags
from onmodel.curate.findings import AuditFinding
from onmodel.curate.query import complete, complete_tag, search
from onmodel.curate.workshop import PICTURES, Piece
from onmodel.dataset.captions import split_tags
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.studio.datasets import OpenDataset, opened_dataset
from onmodel.studio.render import character_of, page, workspace_of
from onmodel.studio.roots import folders
from onmodel.studio.thumbnails import LARGE, LONGEST, MEDIA_TYPE, thumbnail

MOST_ROWS = 500  # of one answer
PREVIEW = 50  # changed pictures that a preview lists


def show(request: Request) -> Response:
    """The page; without a data set it offers to import the pictures."""
    character = character_of(request)
    there = (character.data / PICTURES).is_file()
    taggers = [row for row in folders(workspace_of(request).roots) if row.tagger]
    values = {"there": there, "taggers": taggers}
    return page(request, "data.html.j2", "data", character=character, **values)


def rows(request: Request) -> Response:
    """Pictures for which the query `q` holds: their number, and `count` of them from `from` on."""
    opened = opened_dataset(request)
    found = _found(opened, request.query_params.get("q", ""))
    start = _number(request, "from", 0)
    wanted = found[start : start + min(_number(request, "count", 100), MOST_ROWS)]
    return JSONResponse({"total": len(found), "rows": [_row(opened, piece) for piece in wanted]})


def thumb(request: Request) -> Response:
    """A small picture by its SHA-256. Its bytes never change, so the browser keeps it."""
    return _picture(request, LONGEST)


def picture(request: Request) -> Response:
    """A picture by its SHA-256, large enough to look at by itself."""
    return _picture(request, LARGE)


def _picture(request: Request, longest: int) -> Response:
    opened = opened_dataset(request)
    piece = opened.by_hash.get(request.path_params["sha256"])
    if piece is None:
        raise InputError("picture", request.path_params["sha256"], "is not in this data set")
    cache = workspace_of(request).own / "thumbnails"
    data = thumbnail(cache, piece.path, piece.sha256, piece.paper, longest)
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(data, media_type=MEDIA_TYPE, headers=headers)


def completions(request: Request) -> Response:
    """Ways to complete the last word of a query."""
    opened = opened_dataset(request)
    kinds = sorted({row.kind for row in opened.all_findings})
    word = request.query_params.get("word", "")
    return JSONResponse(complete(opened.workshop.pieces.values(), kinds, word))


def tag_options(request: Request) -> Response:
    """Tags that the `word` may become, with their numbers of pictures."""
    workshop = opened_dataset(request).workshop
    word = request.query_params.get("word", "")
    options = complete_tag(workshop.pieces.values(), workshop.aliases, word)
    return JSONResponse([asdict(option) for option in options])


async def edit(request: Request) -> Response:
    """Edit tags of the selection together: JSON with `names` or a query `q`, the fields of
    parse_edit, and `preview`. Answers how many pictures change, and the first of them."""
    body = await _body(request)
    return JSONResponse(await run_in_threadpool(_edit, request, body))


def _edit(request: Request, body: Mapping[str, Any]) -> dict[str, object]:
    opened = opened_dataset(request)
    fields = {key: _text(body, key) for key in ("remove", "replace", "add", "front")}
    edited = parse_edit(**fields, place=_text(body, "place") or "last")
    changed = changes(_selected(opened, body), edited)
    if changed and not body.get("preview"):
        edit_tags(opened.workshop, changed)
    return {"changed": len(changed), "rows": [_change(row) for row in changed[:PREVIEW]]}


async def decide(request: Request) -> Response:
    """A decision by hand about the selection: JSON with `names` or `q`, and one of `keep` (true or
    false), `tags`, `sentence`; `why` is the reason. `seen` is the text that the page showed of the
    tags or the sentence of the one picture: what was changed meanwhile is not lost."""
    body = await _body(request)

    def work() -> int:
        opened = opened_dataset(request)
        pieces = _selected(opened, body)
        keep = body.get("keep") is not False
        tags, sentence, why = (_text(body, key) for key in ("tags", "sentence", "why"))
        if "seen" in body and len(pieces) == 1:
            seen = _text(body, "seen")
            if sentence and pieces[0].sentence != seen:
                raise InputError("sentence", pieces[0].name, "was changed meanwhile; open it again")
            if tags:
                lists = (pieces[0].words, split_tags(seen), split_tags(tags))
                tags = ", ".join(merged_tags(*lists))
        names = [piece.name for piece in pieces]
        return decide_by_hand(opened.workshop, names, keep, tags, sentence, why)

    return JSONResponse({"decided": await run_in_threadpool(work)})


async def fix(request: Request) -> Response:
    """Apply fixes of the last audit: JSON with `ids` of findings."""
    body = await _body(request)
    ids = [str(id) for id in body.get("ids", [])]
    fixed = await run_in_threadpool(fix_findings, character_of(request).data, ids, [])
    return JSONResponse(
        {"fixed": len(fixed.decisions), "outdated": fixed.outdated, "by_hand": fixed.by_hand}
    )


def undo(request: Request) -> Response:
    """Take the last step back."""
    _, step = opened_dataset(request).workshop.undo()
    return JSONResponse({"step": step})


def redo(request: Request) -> Response:
    """Do again what was taken back last."""
    _, step = opened_dataset(request).workshop.redo()
    return JSONResponse({"step": step})


def import_pictures(request: Request) -> Response:
    """Make the data set from the character's pictures."""
    from onmodel.curate.gather import gather  # with its observers; no other page needs them
    from onmodel.curate.settings import ImportSettings

    character = character_of(request)
    settings = ImportSettings()
    gather([character.pictures], character.data, settings.origin, settings.rights, Events())
    return Response(headers={"HX-Refresh": "true"})


def _found(opened: OpenDataset, query: str) -> list[Piece]:
    return search(opened.workshop.pieces.values(), query, opened.kinds)


def _selected(opened: OpenDataset, body: Mapping[str, Any]) -> list[Piece]:
    """The pictures of `names`, else all for which the query `q` holds."""
    names = body.get("names")
    if names is None:
        return _found(opened, _text(body, "q"))
    unknown = [name for name in names if name not in opened.workshop.pieces]
    if unknown:
        raise InputError("picture", unknown[0], "is not in this data set; names are subset/file")
    return [opened.workshop.pieces[name] for name in names]


def _row(opened: OpenDataset, piece: Piece) -> dict[str, object]:
    """A picture as the grid shows it."""
    found = opened.findings.get(piece.name, ())
    return {
        "name": piece.name,
        "sha256": piece.sha256,
        "size": [piece.width, piece.height],
        "excluded": piece.aside,
        "tags": [[said.tag, said.by] for said in piece.tags],
        "sentence": piece.sentence,
        "findings": [_finding(row) for row in found],
    }


def _finding(row: AuditFinding) -> dict[str, object]:
    fixable = row.fix is not None
    return {"id": row.id, "kind": row.kind, "evidence": row.evidence, "fixable": fixable}


def _change(row: Changed) -> dict[str, object]:
    return {"name": row.picture, "before": row.before, "after": row.after}


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object that a script sent. Raises InputError for anything else."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise InputError("body", "no JSON object", "reload the page")
    names: Sequence[object] | None = body.get("names")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise InputError("names", "no list of names", "reload the page")
    return body


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str):
        raise InputError(key, value, "must be text")
    return value


def _number(request: Request, key: str, default: int) -> int:
    text = request.query_params.get(key, str(default))
    if not text.isascii() or not text.isdecimal():
        raise InputError(key, text, "must be a whole number")
    return int(text)


ROUTES = (
    Route("/c/{character}/data", show),
    Route("/c/{character}/data/rows", rows),
    Route("/c/{character}/data/complete", completions),
    Route("/c/{character}/data/edit", edit, methods=["POST"]),
    Route("/c/{character}/data/decide", decide, methods=["POST"]),
    Route("/c/{character}/data/fix", fix, methods=["POST"]),
    Route("/c/{character}/data/undo", undo, methods=["POST"]),
    Route("/c/{character}/data/redo", redo, methods=["POST"]),
    Route("/c/{character}/data/import", import_pictures, methods=["POST"]),
    Route("/c/{character}/data/tags", tag_options),
    Route("/c/{character}/thumb/{sha256}", thumb),
    Route("/c/{character}/picture/{sha256}", picture),
)
