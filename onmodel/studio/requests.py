"""What scripts of the page Data send: JSON objects, and the pictures that they are about."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from onmodel.curate.query import search
from onmodel.curate.workshop import Piece
from onmodel.errors import InputError
from onmodel.studio.datasets import OpenDataset


async def json_body(request: Request) -> Mapping[str, Any]:
    """The JSON object that a script sent. Raises InputError for anything else."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise InputError("body", "no JSON object", "reload the page")
    names = body.get("names")
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise InputError("names", "no list of names", "reload the page")
    return body


def text_field(body: Mapping[str, Any], key: str) -> str:
    """A field that is text, "" without it."""
    value = body.get(key, "")
    if not isinstance(value, str):
        raise InputError(key, value, "must be text")
    return value


def found(opened: OpenDataset, query: str) -> list[Piece]:
    """The pictures that a query finds."""
    return search(opened.workshop.pieces.values(), query, opened.facts(query))


def selected(opened: OpenDataset, body: Mapping[str, Any]) -> list[Piece]:
    """The pictures of `names`, else all for which the query `q` holds."""
    names = body.get("names")
    if names is None:
        return found(opened, text_field(body, "q"))
    unknown = [name for name in names if name not in opened.workshop.pieces]
    if unknown:
        raise InputError("picture", unknown[0], "is not in this data set; names are subset/file")
    return [opened.workshop.pieces[name] for name in names]
