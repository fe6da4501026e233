"""What a person says of compared models: a pick by hand with its reason, and which prompt a picture
was drawn for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.engine.additions import AddedPick, with_pick
from onmodel.engine.draft import save_recipe
from onmodel.errors import InputError
from onmodel.paths import check_name
from onmodel.randomness import generator
from onmodel.studio.compare import ARM, artifact_of, read_once
from onmodel.studio.forms import whole_number
from onmodel.studio.render import character_of, fragment
from onmodel.studio.training_set import use_dataset

if TYPE_CHECKING:
    from onmodel.evaluate.evaluation import Evaluation

OPTIONS = 4  # prompts to choose from


@dataclass(frozen=True)
class Question:
    """A picture, its place among the questions, and the prompts that it may be drawn for; `right`
    is the place of the right one."""

    number: int
    file: str
    prompts: Sequence[str]
    right: int


async def pick(request: Request) -> Response:
    """Add a pick to the recipe and queue the run: form fields `model`, `reason` and `name` of the
    stage. Answers where to go."""
    character, form = character_of(request), await request.form()
    name = check_name(str(form.get("name", "")), "name")
    model, reason = (str(form.get(key, "")).strip() for key in ("model", "reason"))

    def work() -> None:
        recipe = character.recipe
        if recipe is None:
            raise InputError("pick", character.name, "its recipe is not in this workspace")
        artifact = artifact_of(request)
        read_once(artifact.path).model(model)
        stage = character.project.ledger.makers()[artifact.hash]
        added = AddedPick(name, stage, model, reason)
        save_recipe(with_pick(recipe.read_text(encoding="utf-8"), added, recipe), recipe)
        use_dataset(character)
        request.app.state.jobs.add(character)

    await run_in_threadpool(work)
    return Response(headers={"HX-Redirect": f"/c/{character.id}/run"})


def guess(request: Request) -> Response:
    """A question: which prompt is this picture drawn for? Query fields `model`, the `number` of the
    question; of the question before it `answer`, its place, and `right`, how many were right."""
    character, query = character_of(request), request.query_params
    artifact = artifact_of(request)
    evaluation = read_once(artifact.path)
    model = query.get("model", "")
    number, right = (whole_number(query.get(key, "0"), key) for key in ("number", "right"))
    before = None
    if "answer" in query and number:
        before = question(evaluation, model, number - 1)
        right += whole_number(query["answer"], "answer") == before.right
    return fragment(
        request,
        "guess.html.j2",
        character=character,
        address=f"/c/{character.id}/guess/{artifact.hash}",
        picture=f"/c/{character.id}/picture/{artifact.hash}",
        model=model,
        asked=question(evaluation, model, number),
        before=before,
        said=query.get("answer", ""),
        right=right,
    )


def question(evaluation: "Evaluation", model: str, number: int) -> Question:
    """The question with this number: the same every time, each prompt once before any comes again.
    Raises InputError for an unknown model, and where there are fewer than two prompts."""
    files = evaluation.model(model).pictures.get(ARM, {})
    texts = {row.id: row.text[ARM] for row in evaluation.plan.prompts if files.get(row.id)}
    if len(set(texts.values())) < 2:
        raise InputError("model", model, "has pictures of one prompt only; choose another")
    turn, place = divmod(number, len(texts))
    order = generator(0, "guess order", model, turn).permutation(list(texts))
    shown = str(order[place])
    rng = generator(0, "guess options", model, number)
    others = sorted(set(texts.values()) - {texts[shown]})
    wrong = rng.choice(others, min(OPTIONS - 1, len(others)), replace=False)
    prompts = [str(text) for text in rng.permutation(np.append(wrong, texts[shown]))]
    pictures = files[shown]
    return Question(number, pictures[turn % len(pictures)], prompts, prompts.index(texts[shown]))


ROUTES = (
    Route("/c/{character}/pick/{hash}", pick, methods=["POST"]),
    Route("/c/{character}/guess/{hash}", guess),
)
