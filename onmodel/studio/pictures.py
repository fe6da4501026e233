"""Single pictures of a data set: small and large, turned, cropped and masked."""

import io
from dataclasses import replace

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onmodel.curate.crop import TURNS, checked_crop, turned_further
from onmodel.curate.masks import LEARNT, NONE, keep_mask, shown_mask
from onmodel.curate.workshop import Decision, Piece
from onmodel.dataset.decoding import Refused, pixels
from onmodel.errors import InputError
from onmodel.studio.datasets import OpenDataset, opened_dataset
from onmodel.studio.render import workspace_of
from onmodel.studio.requests import json_body, selected, text_field
from onmodel.studio.thumbnails import LARGE, LONGEST, MEDIA_TYPE, thumbnail

UNLEARNT = (214, 40, 40)  # colour of an overlay where a mask is black
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # the address names the bytes


def thumb(request: Request) -> Response:
    """A small picture by the hash of what it shows."""
    return _encoded(request, _piece(request), LONGEST)


def picture(request: Request) -> Response:
    """A picture, large enough to look at by itself. Query field `turn`: the whole picture, turned
    by so many degrees, to choose a crop."""
    piece, turn = _piece(request), request.query_params.get("turn")
    if turn is not None:
        if turn not in map(str, TURNS):
            raise InputError("turn", turn, "use 0, 90, 180 or 270 degrees")
        piece = replace(piece, turn=int(turn), box=())
    return _encoded(request, piece, LARGE)


def _encoded(request: Request, piece: Piece, longest: int) -> Response:
    data = thumbnail(workspace_of(request).own / "thumbnails", piece, longest)
    return Response(data, media_type=MEDIA_TYPE, headers=FOREVER)


async def turn(request: Request) -> Response:
    """Turn the selection: JSON with `names` or `q`, and `by`, degrees clockwise."""
    body = await json_body(request)

    def work() -> int:
        opened = opened_dataset(request)
        degrees = body.get("by")
        if degrees not in TURNS[1:]:
            raise InputError("by", degrees, "use 90, 180 or 270 degrees")
        rows = []
        for piece in selected(opened, body):
            size = (piece.width, piece.height)
            turned, box = turned_further(*size, piece.turn, piece.box, degrees)
            rows.append(Decision(0, "crop", "person", piece.name, turn=turned, box=box))
        opened.workshop.decide(rows)
        return len(rows)

    return JSONResponse({"turned": await run_in_threadpool(work)})


async def crop(request: Request) -> Response:
    """Turn and crop a picture: JSON with `name`, `turn` and `box`, [] for the whole picture."""
    body = await json_body(request)

    def work() -> None:
        opened = opened_dataset(request)
        piece = _named(opened, text_field(body, "name"))
        turned, box = body.get("turn"), body.get("box")
        sides = box if isinstance(box, list) else [None]
        numbers = [side for side in sides if isinstance(side, int)]
        if not isinstance(turned, int) or len(numbers) != len(sides):
            raise InputError("box", box, "give left, top, right and bottom in pixels, or none")
        part = checked_crop(piece.width, piece.height, turned, tuple(numbers))
        opened.workshop.decide([Decision(0, "crop", "person", piece.name, turn=turned, box=part)])

    await run_in_threadpool(work)
    return JSONResponse({})


def mask(request: Request) -> Response:
    """The mask of what is shown of a picture, as a PNG to lay over it: coloured where nothing is
    learnt, else transparent. Query field `small`: for a grid; `mask` only tells
    the browser that it is another one."""
    opened, piece = opened_dataset(request), _piece(request)
    path = opened.mask_file(piece)
    size = piece.size
    found = shown_mask(path, piece) if path else Image.new("L", size, LEARNT)
    longest = LONGEST if "small" in request.query_params else LARGE
    found.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    overlay = Image.new("RGBA", found.size, UNLEARNT)
    overlay.putalpha(found.point([LEARNT - value for value in range(256)]))
    buffer = io.BytesIO()
    overlay.save(buffer, "PNG")
    return Response(
        buffer.getvalue(), media_type="image/png", headers={"Cache-Control": "no-store"}
    )


async def set_mask(request: Request) -> Response:
    """Set the mask of a picture by an overlay as mask() gives it, any size: the request's body is
    the PNG, the query field `name` the picture. An empty body: the picture has no mask."""
    data, name = await request.body(), request.query_params.get("name", "")

    def work() -> None:
        opened = opened_dataset(request)
        piece = _named(opened, name)
        if not data:
            opened.workshop.decide([Decision(0, "mask", "person", name, mask=NONE)])
            return
        try:
            overlay, _ = pixels(data)
        except Refused as reason:
            raise InputError("mask", name, str(reason)) from reason
        painted = overlay.convert("RGBA").getchannel("A")
        painted = painted.point([LEARNT - value for value in range(256)])
        folder, known = opened.workshop.folder, opened.mask_file(piece)
        opened.workshop.decide([keep_mask(folder, piece, painted, known, "person")])

    await run_in_threadpool(work)
    return JSONResponse({})


def mask_key(opened: OpenDataset, piece: Piece) -> str:
    """What changes when a picture's mask does; "" without one."""
    return (piece.mask or "beside") if opened.mask_file(piece) else ""


def crop_row(piece: Piece) -> dict[str, object]:
    """A picture's crop: `turn` in degrees clockwise, `box` in pixels of the turned picture, and the
    size of its file upright."""
    return {"turn": piece.turn, "box": piece.box, "whole": [piece.width, piece.height]}


def _piece(request: Request) -> Piece:
    content = request.path_params["content"]
    piece = opened_dataset(request).by_hash.get(content)
    if piece is None:
        raise InputError("picture", content, "is not in this data set")
    return piece


def _named(opened: OpenDataset, name: str) -> Piece:
    piece = opened.workshop.pieces.get(name)
    if piece is None:
        raise InputError("picture", name, "is not in this data set; names are subset/file")
    return piece


ROUTES = (
    Route("/c/{character}/thumb/{content}", thumb),
    Route("/c/{character}/picture/{content}", picture),
    Route("/c/{character}/mask/{content}", mask),
    Route("/c/{character}/data/turn", turn, methods=["POST"]),
    Route("/c/{character}/data/crop", crop, methods=["POST"]),
    Route("/c/{character}/data/mask", set_mask, methods=["POST"]),
)
