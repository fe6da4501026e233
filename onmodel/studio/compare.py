"""Models side by side: a row for each prompt of an evaluation, the same noise in a row, measured
values under each picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from onmodel.paths import inside
from onmodel.records import Artifact
from onmodel.studio.render import character_of, page

if TYPE_CHECKING:
    from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation

# Reading an evaluation takes scipy, which the other pages do without: imported when it is read.
ARM = "L"  # pictures of the LoRA, prompted with its trigger
MOST_MODELS = 8  # columns at first


@dataclass(frozen=True)
class ComparedPicture:
    """A picture with what was measured of it: `values` as texts, `missed` what it does not show."""

    address: str
    values: Sequence[str]
    missed: str


@dataclass(frozen=True)
class PromptRow:
    """A prompt, and the pictures of each model in the order of the columns; "" for none."""

    id: str
    text: str
    pictures: Sequence[ComparedPicture | None]


@dataclass(frozen=True)
class EvaluationChoice:
    """An evaluation of the project: its hash, and the names of its models."""

    hash: str
    models: Sequence[str]


def show(request: Request) -> Response:
    """The page. Query fields: `evaluation` its hash, `model` repeated, `axis` that sorts the
    prompts, `seed` the picture of each prompt."""
    from onmodel.report.source import label

    character = character_of(request)
    artifacts = character.project.artifacts("evaluation") if character.started else []
    if not artifacts:
        return page(request, "compare.html.j2", "compare", character=character, artifacts=[])
    wanted = request.query_params.get("evaluation", "")
    artifact = next((one for one in artifacts if one.hash == wanted), artifacts[-1])
    evaluation = _read(artifact)
    chosen = [name for name in request.query_params.getlist("model") if name in evaluation.names]
    names = chosen or evaluation.names[:MOST_MODELS]
    axis = request.query_params.get("axis", "")
    axis = axis if axis in evaluation.axes else next(iter(evaluation.axes))
    seed = _seed(request, evaluation)
    return page(
        request,
        "compare.html.j2",
        "compare",
        character=character,
        artifacts=[_choice(one) for one in artifacts],
        artifact=artifact,
        evaluation=evaluation,
        names=names,
        labels=[label(name) for name in names],
        axis=axis,
        seed=seed,
        rows=rows(evaluation, names, axis, seed, f"/c/{character.id}/picture/{artifact.hash}"),
    )


def rows(
    evaluation: "Evaluation", names: Sequence[str], axis: str, seed: int, address: str
) -> list[PromptRow]:
    """A row for each prompt, the worst of the last model on the axis first. `address` is that of
    the evaluation's pictures."""
    from onmodel.report.grid import badness

    models = [evaluation.model(name) for name in names]
    worst = badness(evaluation.axes[axis], models[-1].values(axis))
    prompts = sorted(
        evaluation.plan.prompts, key=lambda prompt: worst.get(prompt.id, -1.0), reverse=True
    )
    return [
        PromptRow(
            prompt.id,
            prompt.text[ARM],
            [_picture(evaluation, model, prompt.id, axis, seed, address) for model in models],
        )
        for prompt in prompts
    ]


def _picture(
    evaluation: "Evaluation",
    model: "EvaluatedModel",
    prompt: str,
    axis: str,
    seed: int,
    address: str,
) -> ComparedPicture | None:
    from onmodel.report.grid import missed

    files = model.pictures.get(ARM, {}).get(prompt, ())
    if seed >= len(files):
        return None
    planned = next(one for one in evaluation.plan.prompts if one.id == prompt)
    value = model.values(axis).get(prompt)
    shown = evaluation.axes[axis]
    values = [] if value is None else [f"{shown.short} {shown.text(value)}"]
    return ComparedPicture(
        f"{address}/{files[seed]}", values, ", ".join(missed(model, planned, seed))
    )


def picture(request: Request) -> Response:
    """A picture of an evaluation. Its bytes never change."""
    character = character_of(request)
    artifact = _artifact(request)
    path = inside(artifact.path, request.path_params["file"], "picture")
    if path.suffix != ".png" or not path.is_file():
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{character.name} has no such picture")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(path, media_type="image/png", headers=headers)


def _artifact(request: Request) -> Artifact:
    character, hash = character_of(request), request.path_params["hash"]
    if character.started and hash in character.project.ledger.artifacts("evaluation"):
        return character.project.object("evaluation", hash)
    raise HTTPException(HTTPStatus.NOT_FOUND, "this project has no such evaluation")


def _read(artifact: Artifact) -> "Evaluation":
    from onmodel.evaluate.evaluation import FILE, read_evaluation

    return read_evaluation(artifact.path / FILE)


def _choice(artifact: Artifact) -> EvaluationChoice:
    return EvaluationChoice(artifact.hash, _read(artifact).names)


def _seed(request: Request, evaluation: "Evaluation") -> int:
    text = request.query_params.get("seed", "0")
    known = {str(i): i for i in range(len(evaluation.plan.seeds))}
    return known.get(text, 0)


ROUTES = (
    Route("/c/{character}/compare", show),
    Route("/c/{character}/picture/{hash}/{file:path}", picture),
)
