"""Which pictures of an evaluation a release shows as its samples, chosen by hand."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.engine.draft import save_recipe, with_setting
from onmodel.errors import InputError
from onmodel.records import Artifact
from onmodel.stages.base import Inputs
from onmodel.stages.release import Settings
from onmodel.studio.compare import ARM, read_once
from onmodel.studio.plans import planned
from onmodel.studio.render import character_of, fragment
from onmodel.studio.training_set import use_dataset
from onmodel.studio.workspace import CharacterFolder


@dataclass(frozen=True)
class SampleChoice:
    """A prompt of the evaluation with the first picture of the released model; `chosen`: the
    recipe names it."""

    prompt: str
    text: str
    address: str
    chosen: bool


def show(request: Request) -> Response:
    """The pictures to choose from."""
    character, name = character_of(request), request.path_params["name"]
    stage, settings = _stage(character, name)
    return fragment(
        request,
        "samples.html.j2",
        character=character,
        name=name,
        stage=stage,
        choices=_choices(character, settings),
    )


async def choose(request: Request) -> Response:
    """Write the chosen prompts, form field `prompt` repeated, into the recipe and queue the run.
    Answers where to go."""
    character, form = character_of(request), await request.form()
    wanted = [str(id) for id in form.getlist("prompt")]

    def work() -> None:
        jobs = request.app.state.jobs
        jobs.check_free(character)
        stage, settings = _stage(character, request.path_params["name"])
        known = [row.prompt for row in _choices(character, settings)]
        for id in wanted:
            if id not in known:
                raise InputError("prompt", id, "is not in the evaluation; reload the page")
        assert character.recipe is not None
        text = character.recipe.read_text(encoding="utf-8")
        value = json.dumps(wanted) if wanted else ""
        save_recipe(with_setting(text, stage, "sample_prompts", value), character.recipe)
        use_dataset(character)
        jobs.add(character)

    await run_in_threadpool(work)
    return Response(headers={"HX-Redirect": f"/c/{character.id}/run"})


def _stage(character: CharacterFolder, name: str) -> tuple[str, Settings]:
    """The release stage that wrote a folder of this name."""
    if character.recipe is None:
        raise InputError("release", name, "its recipe is not in this workspace")
    for step in planned(character.recipe):
        if isinstance(step.settings, Settings) and step.settings.file_name == name:
            return step.name, step.settings
    raise InputError("release", name, "no release stage of the recipe has this file_name any more")


def _choices(character: CharacterFolder, settings: Settings) -> Sequence[SampleChoice]:
    artifact, stage = _made_by(character, settings.evaluation), settings.model.partition("@")[0]
    evaluation = read_once(artifact.path)
    released = Inputs({stage: _made_by(character, stage)}).model(settings.model)
    shown = next((row for row in evaluation.models if row.sha256 == released.sha256), None)
    if shown is None:
        raise InputError(
            "model", released.name, "was not measured as it is now; run the recipe first"
        )
    pictures, found = shown.pictures.get(ARM, {}), []
    for prompt in evaluation.plan.prompts:
        if files := pictures.get(prompt.id):
            address = f"/c/{character.id}/picture/{artifact.hash}/{files[0]}"
            chosen = prompt.id in settings.sample_prompts
            found.append(SampleChoice(prompt.id, prompt.text[ARM], address, chosen))
    return found


def _made_by(character: CharacterFolder, stage: str) -> Artifact:
    """What a stage made last."""
    if character.started:
        project, makers = character.project, character.project.ledger.makers()
        for hash, kind in reversed(project.ledger.made().items()):
            if makers.get(hash) == stage and project.place(hash).is_dir():
                return project.object(kind, hash)
    raise HTTPException(HTTPStatus.NOT_FOUND, f"what stage {stage} makes is not there yet")


ROUTES = (
    Route("/c/{character}/release/{name}/samples", show),
    Route("/c/{character}/release/{name}/samples", choose, methods=["POST"]),
)
