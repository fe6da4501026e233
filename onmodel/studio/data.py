"""The data set of a character: a grid of its pictures, filters, decisions, edits, undo and redo."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onmodel.curate.bulk import Changed, changes, edit_tags, parse_edit
from onmodel.curate.decisions import decide_by_hand, fix_findings, merged_tags
from onmodel.curate.findings import AuditFinding
from onmodel.curate.query import complete, complete_tag
from onmodel.curate.workshop import PICTURES, Piece
from onmodel.dataset.captions import split_tags
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.studio.datasets import OpenDataset, opened_dataset
from onmodel.studio.pictures import crop_row, mask_key
from onmodel.studio.render import character_of, page, workspace_of
from onmodel.studio.requests import found as found_by
from onmodel.studio.requests import json_body, selected, text_field
from onmodel.studio.roots import folders

MOST_ROWS = 500  # of one answer
TEXTS = ("tags", "sentence")
PREVIEW = 50  # changed pictures that a preview lists


def show(request: Request) -> Response:
    """The page; without a data set it offers to import the pictures."""
    character = character_of(request)
    there = (character.data / PICTURES).is_file()
    found = folders(workspace_of(request).roots)
    taggers = [row for row in found if row.tagger]
    detectors = [row for row in found if row.detector]
    values = {"there": there, "taggers": taggers, "detectors": detectors}
    return page(request, "data.html.j2", "data", character=character, **values)


def rows(request: Request) -> Response:
    """Pictures for which the query `q` holds: their number, and `count` of them from `from` on."""
    opened = opened_dataset(request)
    found = found_by(opened, request.query_params.get("q", ""))
    start = _number(request, "from", 0)
    wanted = found[start : start + min(_number(request, "count", 100), MOST_ROWS)]
    return JSONResponse({"total": len(found), "rows": [_row(opened, piece) for piece in wanted]})


def completions(request: Request) -> Response:
    """Ways to complete the last word of a query."""
    opened = opened_dataset(request)
    word = request.query_params.get("word", "")
    return JSONResponse(complete(opened.workshop.pieces.values(), opened.facts(word), word))


def tag_options(request: Request) -> Response:
    """Tags that the `word` may become, with their numbers of pictures."""
    workshop = opened_dataset(request).workshop
    word = request.query_params.get("word", "")
    options = complete_tag(workshop.pieces.values(), workshop.aliases, word)
    return JSONResponse([asdict(option) for option in options])


async def edit(request: Request) -> Response:
    """Edit tags of the selection together: JSON with `names` or a query `q`, the fields of
    parse_edit, and `preview`. Answers how many pictures change, and the first of them."""
    body = await json_body(request)
    return JSONResponse(await run_in_threadpool(_edit, request, body))


def _edit(request: Request, body: Mapping[str, Any]) -> dict[str, object]:
    opened = opened_dataset(request)
    fields = {key: text_field(body, key) for key in ("remove", "replace", "add", "front")}
    edited = parse_edit(**fields, place=text_field(body, "place") or "last")
    changed = changes(selected(opened, body), edited)
    if changed and not body.get("preview"):
        edit_tags(opened.workshop, changed)
    return {"changed": len(changed), "rows": [_change(row) for row in changed[:PREVIEW]]}


async def decide(request: Request) -> Response:
    """A decision by hand about the selection: JSON with `names` or `q`, and one of `keep` (true or
    false), `tags`, `sentence`; `why` is the reason. `seen` is the text that the page showed of the
    tags or the sentence of the one picture: what was changed meanwhile is not lost."""
    body = await json_body(request)

    def work() -> int:
        opened = opened_dataset(request)
        pieces = selected(opened, body)
        keep = body.get("keep") is not False
        tags, sentence = (text_field(body, key) if key in body else None for key in TEXTS)
        if "seen" in body and len(pieces) == 1:
            seen = text_field(body, "seen")
            if sentence is not None and pieces[0].sentence != seen:
                raise InputError("sentence", pieces[0].name, "was changed meanwhile; open it again")
            if tags is not None:
                lists = (pieces[0].words, split_tags(seen), split_tags(tags))
                tags = ", ".join(merged_tags(*lists))
        names = [piece.name for piece in pieces]
        why = text_field(body, "why")
        return decide_by_hand(opened.workshop, names, keep, tags, sentence, why)

    return JSONResponse({"decided": await run_in_threadpool(work)})


async def fix(request: Request) -> Response:
    """Apply fixes of the last audit: JSON with `ids` of findings."""
    body = await json_body(request)
    ids = [str(id) for id in body.get("ids", [])]
    fixed = await run_in_threadpool(fix_findings, character_of(request).data, ids, [])
    return JSONResponse(
        {"fixed": len(fixed.decisions), "outdated": fixed.outdated, "by_hand": fixed.by_hand}
    )


def _follow(request: Request, step: int, back: bool) -> None:
    """Bring the recipe's repeats to what the data set says after an undo or a redo."""
    from onmodel.studio.planner import follow  # recipes take long to import

    follow(opened_dataset(request), step, back)


def undo(request: Request) -> Response:
    """Take the last step back."""
    _, step = opened_dataset(request).workshop.undo()
    _follow(request, step, back=True)
    return JSONResponse({"step": step})


def redo(request: Request) -> Response:
    """Do again what was taken back last."""
    _, step = opened_dataset(request).workshop.redo()
    _follow(request, step, back=False)
    return JSONResponse({"step": step})


def import_pictures(request: Request) -> Response:
    """Make the data set from the character's pictures."""
    from onmodel.curate.gather import gather  # with its observers; no other page needs them
    from onmodel.curate.settings import ImportSettings

    character = character_of(request)
    settings = ImportSettings()
    gather([character.pictures], character.data, settings.origin, settings.rights, Events())
    return Response(headers={"HX-Refresh": "true"})


def _row(opened: OpenDataset, piece: Piece) -> dict[str, object]:
    """A picture as the grid shows it."""
    found = opened.findings.get(piece.name, ())
    return {
        "name": piece.name,
        "content": piece.content,
        "crop": crop_row(piece),
        "mask": mask_key(opened, piece),
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
)
