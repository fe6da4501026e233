"""The character's design in the model sheet: her traits, proposed from the tags that most pictures
have, and her description."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.character import Character, load_character
from onmodel.curate.workshop import Workshop
from onmodel.sample.suites import DANBOORU
from onmodel.sheet_draft import save_design
from onmodel.starter import design_of
from onmodel.studio.datasets import opened_dataset
from onmodel.studio.render import character_of, fragment
from onmodel.toon.attributes import VOCABULARY


@dataclass(frozen=True)
class DesignTrait:
    """A tag that the sheet has, or that most of the pictures have: on which share (0–1)."""

    tag: str
    in_sheet: bool
    share: float


def traits_of(workshop: Workshop, sheet: Character) -> list[DesignTrait]:
    """The sheet's tags, then those that are proposed. A tag of what the sheet leaves free, such as
    an expression, is no trait."""
    captions = [[said.tag for said in piece.tags] for piece in workshop.kept]
    common, _ = design_of([row for row in captions if row], sheet.trigger)
    free = {
        tag
        for vocabulary in (VOCABULARY, DANBOORU)
        for name in sheet.free
        for tag in vocabulary.get(name, {}).values()
    }
    found = dict.fromkeys([*sheet.tags, *(tag for tag in common if tag not in free)])
    count = max(1, len(captions))
    return [
        DesignTrait(tag, tag in sheet.tags, sum(tag in row for row in captions) / count)
        for tag in found
    ]


def show(request: Request) -> Response:
    """The form."""
    return _form(request, saved=False)


async def save(request: Request) -> Response:
    """Write the sheet: form fields `tag` repeated, `more` (tags with commas), `description`."""
    form = await request.form()
    chosen = [str(tag) for tag in form.getlist("tag")]
    more = [tag.strip() for tag in str(form.get("more", "")).split(",")]
    tags: Sequence[str] = list(dict.fromkeys(filter(None, [*chosen, *more])))
    sheet, description = character_of(request).sheet, str(form.get("description", "")).strip()
    await run_in_threadpool(save_design, sheet, tags, description)
    return await run_in_threadpool(_form, request, saved=True)


def _form(request: Request, saved: bool) -> Response:
    character = character_of(request)
    sheet = load_character(character.sheet) if character.sheet.is_file() else None
    return fragment(
        request,
        "design.html.j2",
        character=character,
        sheet=sheet,
        traits=traits_of(opened_dataset(request).workshop, sheet) if sheet else [],
        saved=saved,
    )


ROUTES = (
    Route("/c/{character}/data/design", show),
    Route("/c/{character}/data/design", save, methods=["POST"]),
)
