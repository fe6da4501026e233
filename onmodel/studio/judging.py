"""Blind judging: pairs of pictures, one after the other, without the names of their models.

Until the end of a session its page receives pixels and the prompt alone: files and errors name
models, so the terminal has them.
"""

import io
import logging
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onmodel.engine.project import Project
from onmodel.errors import InputError, StateError
from onmodel.judge.votes import Votes, voting
from onmodel.studio.forms import whole_number
from onmodel.studio.render import character_of, page, text

if TYPE_CHECKING:
    from onmodel.judge.result import SessionResult
    from onmodel.judge.session import Session

# A session reads its evaluation, which takes scipy: imported when the first one is opened.
SIDES = ("left", "right")
LOG = logging.getLogger(__name__)


async def start(request: Request) -> Response:
    """Open a session: form fields `evaluation` its hash, `model` repeated, `pairs`, `question`.
    Answers where it is shown."""
    from onmodel.judge.session import QUESTION, open_session

    character, form = character_of(request), await request.form()
    models = [str(name) for name in form.getlist("model")]
    pairs = str(form.get("pairs", "")).strip()
    question = str(form.get("question", "")).strip() or QUESTION
    count = whole_number(pairs, "pairs") if pairs else None
    hash = str(form.get("evaluation", ""))

    def work() -> str:
        session = open_session(character.project, models, count, 0, question, hash)
        session.save()
        return session.id

    id = await run_in_threadpool(work)
    return Response(headers={"HX-Redirect": f"/c/{character.id}/judge/{id}"})


def show(request: Request) -> Response:
    """The page of a session: the pair that is to be judged, or the result."""
    from onmodel.judge.result import result

    session = _session(request)
    votes = Votes(session.votes, len(session.pairs))
    return page(
        request,
        "judge.html.j2",
        "compare",
        character=character_of(request),
        session=session,
        result=_result_html(result(session, votes.answers)) if votes.ended else "",
    )


def state(request: Request) -> Response:
    """What the page shows next."""
    session = _session(request)
    return JSONResponse(_state(session, Votes(session.votes, len(session.pairs))))


def picture(request: Request) -> Response:
    """PNG of pixels alone: a side of the pair that is shown, or of the next."""
    session, side = _session(request), request.path_params["side"]
    at = _place(request.path_params["pair"])
    answered = len(Votes(session.votes, len(session.pairs)).answers)
    if side not in SIDES or at not in range(min(answered + 2, len(session.pairs))):
        raise HTTPException(HTTPStatus.NOT_FOUND, "this picture is not shown yet")
    try:
        file = session.picture(session.pairs[at], side == "right")
        return Response(_pixels(file), media_type="image/png")
    except (StateError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        LOG.error("pair %d: %s", at, error)
    sentence = (
        "A picture is missing or damaged. The terminal names it. Restore it and reload this page."
    )
    raise HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)


async def answer(request: Request) -> Response:
    """Answer a pair: form fields `pair`, and `answer`: left, right or tie."""

    def change(session: "Session", votes: Votes, form: FormData) -> dict[str, object]:
        votes.vote(_place(form.get("pair")), str(form.get("answer")))
        return _state(session, votes)

    return await _changed(request, change)


async def undo(request: Request) -> Response:
    """Take the last answer back: form field `pair`."""

    def change(session: "Session", votes: Votes, form: FormData) -> dict[str, object]:
        votes.undo(_place(form.get("pair")))
        return _state(session, votes)

    return await _changed(request, change)


async def end(request: Request) -> Response:
    """Close the votes and answer the result as HTML."""
    from onmodel.judge.result import end_session

    def change(session: "Session", votes: Votes, form: FormData) -> dict[str, object]:
        return {"result": _result_html(end_session(session, votes))}

    return await _changed(request, change)


Change = Callable[["Session", Votes, FormData], dict[str, object]]


async def _changed(request: Request, change: Change) -> Response:
    """A change of the votes. One that does not follow from the last, as from a second tab, is
    refused with the state of now."""
    form = await request.form()

    def work() -> Response:
        session = _session(request)
        with voting(session.votes, len(session.pairs)) as votes:
            try:
                return JSONResponse(change(session, votes, form))
            except ValueError as error:
                refused = {"error": str(error)} | _state(session, votes)
                return JSONResponse(refused, HTTPStatus.CONFLICT)

    return await run_in_threadpool(work)


def _state(session: "Session", votes: Votes) -> dict[str, object]:
    """`prompt` is None when every pair was answered."""
    at, pairs = len(votes.answers), session.pairs
    prompt = session.shown.texts[pairs[at].prompt] if at < len(pairs) else None
    return {"pair": at, "of": len(pairs), "prompt": prompt}


def _result_html(found: "SessionResult") -> str:
    from onmodel.judge.result import judge_rows, spelt

    return text("judge_result.html.j2", found=found, rows=judge_rows(found), spelt=spelt)


def _place(said: object) -> int:
    """The number of a pair; -1, which is none, for anything else."""
    try:
        return whole_number(str(said), "pair")
    except InputError:
        return -1


def _session(request: Request) -> "Session":
    """The session that the address names. Raises InputError."""
    character, id = character_of(request), request.path_params["session"]
    if not character.started:
        raise InputError("session", id, "is not in this project; start another one")
    try:
        return _opened(character.project_folder, id)
    except StateError as error:
        LOG.error("%s", error)
    sentence = "The session or its evaluation is damaged. The terminal says where."
    raise HTTPException(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)


@lru_cache(maxsize=4)
def _opened(project: Path, id: str) -> "Session":
    """A session; every picture of its evaluation is hashed once."""
    from onmodel.judge.session import saved_session

    return saved_session(Project(project), id)


def _pixels(file: bytes) -> bytes:
    """A picture file as PNG without anything but its pixels."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(file), formats=["PNG"]) as image:
        plain = Image.new("RGB", image.size)
        plain.paste(image.convert("RGB"))
    plain.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


_ADDRESS = "/c/{character}/judge/{session}"
ROUTES = (
    Route("/c/{character}/judge", start, methods=["POST"]),
    Route(_ADDRESS, show),
    Route(f"{_ADDRESS}/state", state),
    Route(f"{_ADDRESS}/picture/{{pair}}/{{side}}", picture),
    Route(f"{_ADDRESS}/answer", answer, methods=["POST"]),
    Route(f"{_ADDRESS}/undo", undo, methods=["POST"]),
    Route(f"{_ADDRESS}/end", end, methods=["POST"]),
)
