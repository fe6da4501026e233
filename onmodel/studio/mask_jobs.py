"""Masks for many pictures at once, made by a job of the data set."""

from typing import get_args

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onmodel.curate.masks import NONE, MaskSource
from onmodel.curate.workshop import Decision
from onmodel.errors import InputError
from onmodel.studio.audits import jobs_of, observer_named
from onmodel.studio.dataset_worker import DatasetRequest
from onmodel.studio.datasets import opened_dataset
from onmodel.studio.render import character_of
from onmodel.studio.requests import json_body, selected, text_field


async def start(request: Request) -> Response:
    """Make masks for the selection: JSON with `names` or `q`, `source`, and for a detector the id
    of its folder (`detector`) or its place on the hub (`hub`). Source "none" takes masks away."""
    body = await json_body(request)

    def begin() -> None:
        character, opened = character_of(request), opened_dataset(request)
        names = tuple(piece.name for piece in selected(opened, body))
        kind = text_field(body, "source")
        if kind == NONE:
            opened.workshop.decide(
                [Decision(0, "mask", "person", name, mask=NONE) for name in names]
            )
            return
        source: MaskSource | None = next((k for k in get_args(MaskSource) if k == kind), None)
        if source is None:
            raise InputError("source", kind, f"use {', '.join(get_args(MaskSource))}, {NONE}")
        place = ""
        if source != "alpha":
            chosen = (text_field(body, key).strip() for key in ("detector", "hub"))
            place = observer_named(request, "detector", *chosen)
        asked = DatasetRequest(
            "mask",
            str(character.data),
            str(character.sheet),
            names=names,
            source=source,
            detector=place,
        )
        jobs_of(request).start(character, asked)

    await run_in_threadpool(begin)
    return JSONResponse({})


ROUTES = (Route("/c/{character}/data/masks", start, methods=["POST"]),)
