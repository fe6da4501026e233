"""The recipe of a character as text and as a form, which are always the same; what would run is
shown before it does."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onmodel.engine.draft import (
    DraftStage,
    read_draft,
    save_recipe,
    settings_text,
    stages_of,
    with_setting,
)
from onmodel.errors import InputError
from onmodel.stages.catalogue import Setting, settings_of
from onmodel.studio.render import character_of, fragment, page
from onmodel.studio.workspace import CharacterFolder


@dataclass(frozen=True)
class StageForm:
    """A stage as a form: its settings with their meaning, the values that the text gives, and those
    that it gives to all stages of the verb."""

    stage: DraftStage
    settings: list[Setting]
    values: Mapping[str, str]
    defaults: Mapping[str, str]


@dataclass(frozen=True)
class RecipeView:
    """What the editor shows of a text. `fault` is the one line that says what is wrong."""

    forms: list[StageForm]
    fault: str


def view_of(character: CharacterFolder, text: str) -> RecipeView:
    """A text as forms; where it is wrong, the line that says why."""
    project = character.project if character.started else None
    try:
        stages = stages_of(read_draft(text, _path(character)), project)
    except InputError as error:
        return RecipeView([], str(error))
    values, defaults = settings_text(text), settings_text(text, "defaults")
    forms = [
        StageForm(
            stage,
            [row for row in settings_of(stage.verb) if not row.table],
            values.get(stage.name, {}),
            defaults.get(stage.verb, {}),
        )
        for stage in stages
    ]
    return RecipeView(forms, "")


def show(request: Request) -> Response:
    """The page."""
    character = character_of(request)
    text = _path(character).read_text(encoding="utf-8")
    view = view_of(character, text)
    return page(request, "recipe.html.j2", "run", character=character, text=text, view=view)


async def check(request: Request) -> Response:
    """The forms of a text that is not saved: form field `text`."""
    character, form = character_of(request), await request.form()
    view = await run_in_threadpool(view_of, character, _lines(form.get("text")))
    return fragment(request, "recipe_forms.html.j2", character=character, view=view)


async def set_one(request: Request) -> Response:
    """The text with one setting changed: form fields `text`, `stage`, `name`, `value`."""
    form = await request.form()
    stage, name, value = (str(form.get(key, "")) for key in ("stage", "name", "value"))
    return JSONResponse({"text": with_setting(_lines(form.get("text")), stage, name, value)})


async def save(request: Request) -> Response:
    """Save the text: form field `text`."""
    character, form = character_of(request), await request.form()
    text = _lines(form.get("text"))
    await run_in_threadpool(save_recipe, text, _path(character))
    view = await run_in_threadpool(view_of, character, text)
    return fragment(request, "recipe_forms.html.j2", character=character, view=view)


def _path(character: CharacterFolder) -> Path:
    if character.recipe is None:
        raise InputError("recipe", character.name, "its recipe is not in this workspace")
    return character.recipe


def _lines(text: object) -> str:
    """A text field as the file has it: browsers send CRLF."""
    return str(text or "").replace("\r\n", "\n")


ROUTES = (
    Route("/c/{character}/recipe", show),
    Route("/c/{character}/recipe/check", check, methods=["POST"]),
    Route("/c/{character}/recipe/set", set_one, methods=["POST"]),
    Route("/c/{character}/recipe/save", save, methods=["POST"]),
)
