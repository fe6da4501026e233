"""Models side by side: a row for each prompt of an evaluation, the same noise in a row, measured
values under each picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from onmodel.errors import InputError
from onmodel.paths import inside
from onmodel.records import Artifact
from onmodel.studio.drawing import Drawing
from onmodel.studio.forms import whole_number
from onmodel.studio.merge import files_of
from onmodel.studio.render import character_of, fragment, page, workspace_of
from onmodel.studio.workspace import CharacterFolder

if TYPE_CHECKING:
    from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation

# Reading an evaluation takes scipy, which the other pages do without: imported when it is read.
ARM = "L"  # pictures of the LoRA, prompted with its trigger
MOST_MODELS = 8  # columns at first
NAMED = 3  # models that the name of an evaluation lists
DRAWN = "drawn"  # folder of the studio's own cache
BASE = "base"  # instead of a LoRA file


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
class DrawnPicture:
    """A picture that was drawn now; `model` is "" for the base alone."""

    model: str
    address: str


@dataclass(frozen=True)
class EvaluationChoice:
    """An evaluation of the project: its hash, and its stage with the first of its models."""

    hash: str
    label: str


def show(request: Request) -> Response:
    """The page. Query fields: `evaluation` its hash, `model` repeated, `axis` that sorts the
    prompts, `seed` the picture of each prompt."""
    from onmodel.evaluate.headlines import label
    from onmodel.judge.session import summaries

    character = character_of(request)
    artifacts = character.project.artifacts("evaluation") if character.started else []
    if not artifacts:
        return page(
            request,
            "compare.html.j2",
            "compare",
            character=character,
            artifacts=[],
            files=files_of(character),
        )
    wanted = request.query_params.get("evaluation", "")
    artifact = next((one for one in artifacts if one.hash == wanted), artifacts[-1])
    evaluation = read_once(artifact.path)
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
        files=files_of(character),
        artifacts=choices(character, artifacts),
        artifact=artifact,
        sessions=summaries(character.project),
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
    """A picture of an evaluation."""
    return _png(inside(artifact_of(request).path, request.path_params["file"], "picture"))


async def draw(request: Request) -> Response:
    """A prompt drawn now: form fields `prompt`, `negative`, `seed`, `weight`, and `file` repeated,
    ids of LoRA files; "base" is the base alone."""
    character, form = character_of(request), await request.form()
    files = {file.id: file for file in files_of(character)}
    chosen = [str(id) for id in form.getlist("file")]
    for id in chosen:
        if id != BASE and id not in files:
            raise InputError("file", id, "is not there any more; reload the page")
    if not chosen:
        raise InputError("file", "none", "choose one LoRA file or more")
    wanted = {
        "prompt": str(form.get("prompt", "")),
        "negative": str(form.get("negative", "")),
        "seed": whole_number(str(form.get("seed", "0")), "seed"),
        "loras": ["" if id == BASE else str(files[id].path) for id in chosen],
        "sampling": _sampling(character, str(form.get("weight", "1"))),
    }
    drawing: Drawing = request.app.state.drawing
    folder = workspace_of(request).own / DRAWN
    answer = json.loads(
        await run_in_threadpool(drawing.draw, character, folder, json.dumps(wanted))
    )
    if answer["error"]:
        raise InputError("draw", wanted["prompt"], answer["error"])
    drawn = [
        DrawnPicture(
            "" if id == BASE else files[id].name,
            f"/c/{character.id}/drawn/{Path(path).relative_to(folder).as_posix()}",
        )
        for id, path in zip(chosen, answer["paths"], strict=True)
    ]
    return fragment(request, "drawn.html.j2", drawn=drawn, prompt=wanted["prompt"])


def drawn(request: Request) -> Response:
    """A picture that was drawn now."""
    folder = workspace_of(request).own / DRAWN
    return _png(inside(folder, request.path_params["file"], "picture"))


def _sampling(character: CharacterFolder, weight: str) -> dict[str, object]:
    """The sampling of the recipe's first evaluate stage, at this LoRA weight."""
    from onmodel.families.settings import SamplingSettings
    from onmodel.recipe import load_recipe

    try:
        number = float(weight)
    except ValueError:
        raise InputError("weight", weight, "must be a number") from None
    stages = load_recipe(character.recipe).stages.values() if character.recipe else ()
    table = next((table for table in stages if table["do"] == "evaluate"), {})
    names = tuple(SamplingSettings.model_fields)
    known: dict[str, object] = {name: table[name] for name in names if name in table}
    size = table.get("size")
    if isinstance(size, int):
        known |= {"width": size, "height": size}
    return {**known, "weight": number, "batch": 1}


def _png(path: Path) -> Response:
    """A picture that never changes."""
    if path.suffix != ".png" or not path.is_file():
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such picture")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return FileResponse(path, media_type="image/png", headers=headers)


def artifact_of(request: Request) -> Artifact:
    """The evaluation whose hash is in the address."""
    character, hash = character_of(request), request.path_params["hash"]
    if character.started and hash in character.project.ledger.artifacts("evaluation"):
        return character.project.object("evaluation", hash)
    raise HTTPException(HTTPStatus.NOT_FOUND, "this project has no such evaluation")


@lru_cache(maxsize=4)
def read_once(folder: Path) -> "Evaluation":
    """An evaluation by the folder of its artifact, whose name is the hash of its content."""
    from onmodel.evaluate.evaluation import FILE, read_evaluation

    return read_evaluation(folder / FILE)


def choices(character: CharacterFolder, artifacts: Sequence[Artifact]) -> list[EvaluationChoice]:
    """Evaluations to choose from."""
    makers, found = character.project.ledger.makers(), []
    for artifact in artifacts:
        names = read_once(artifact.path).names
        more = f", … ({len(names)})" if len(names) > NAMED else ""
        label = f"{makers[artifact.hash]}: {', '.join(names[:NAMED])}{more}"
        found.append(EvaluationChoice(artifact.hash, label))
    return found


def _seed(request: Request, evaluation: "Evaluation") -> int:
    text = request.query_params.get("seed", "0")
    known = {str(i): i for i in range(len(evaluation.plan.seeds))}
    return known.get(text, 0)


ROUTES = (
    Route("/c/{character}/compare", show),
    Route("/c/{character}/draw", draw, methods=["POST"]),
    Route("/c/{character}/drawn/{file:path}", drawn),
    Route("/c/{character}/picture/{hash}/{file:path}", picture),
)
