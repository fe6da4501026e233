"""Two axes of an evaluation against each other, and each over epochs and over LoRA weights. A point
leads to the pictures of its model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.records import Artifact
from onmodel.studio.compare import choices, read_once
from onmodel.studio.render import character_of, fragment
from onmodel.studio.workspace import CharacterFolder

if TYPE_CHECKING:
    from onmodel.evaluate.axes.base import Axis
    from onmodel.evaluate.evaluation import Evaluation

UP = "reproduction"  # axis that stands upright at first


@dataclass(frozen=True)
class Curve:
    """A small chart; `legend` names its lines in the order of their colours."""

    title: str
    svg: Markup
    legend: Sequence[str]


@dataclass(frozen=True)
class PlottedModel:
    """A model with its two values as texts; `address` shows its pictures."""

    label: str
    across: str
    up: str
    address: str


def show(request: Request) -> Response:
    """The charts. Query fields: `evaluation` its hash, `x` and `y` axes."""
    from onmodel.report import plots

    character, query = character_of(request), request.query_params
    artifacts = character.project.artifacts("evaluation") if character.started else []
    if not artifacts:
        return fragment(request, "tradeoff.html.j2", artifacts=[])
    wanted = query.get("evaluation", "")
    artifact = next((one for one in artifacts if one.hash == wanted), artifacts[-1])
    evaluation = read_once(artifact.path)
    axes = {
        id: axis
        for id, axis in evaluation.axes.items()
        if any(model.score(id) for model in evaluation.models)
    }
    if not axes:
        return fragment(request, "tradeoff.html.j2", artifacts=[])
    up = axes.get(query.get("y", UP)) or next(iter(axes.values()))
    others = [axis for axis in axes.values() if axis is not up] or [up]
    across = axes.get(query.get("x", "")) or others[0]
    models = _models(character, artifact, evaluation, across, up)
    links = {name: row.address for name, row in models.items()}
    return fragment(
        request,
        "tradeoff.html.j2",
        character=character,
        artifacts=choices(character, artifacts),
        artifact=artifact,
        axes=axes,
        x=across,
        y=up,
        plot=plots.scatter(across, up, evaluation, list(models), links),
        models=list(models.values()),
        curves=[*_epochs(evaluation, (up, across)), *_weights(character, (up, across))],
        size=plots.COLOURS,
    )


def _models(
    character: CharacterFolder,
    artifact: Artifact,
    evaluation: "Evaluation",
    across: "Axis",
    up: "Axis",
) -> dict[str, PlottedModel]:
    """The models that have both values, by name."""
    from onmodel.evaluate.headlines import label

    found = {}
    for model in evaluation.models:
        x, y = model.score(across.id), model.score(up.id)
        if x is None or y is None:
            continue
        query = urlencode({"evaluation": artifact.hash, "model": model.name, "axis": up.id})
        address = f"/c/{character.id}/compare?{query}"
        texts = across.text(x.value), up.text(y.value)
        found[model.name] = PlottedModel(label(model.name), *texts, address)
    return found


def _epochs(evaluation: "Evaluation", axes: Sequence["Axis"]) -> list[Curve]:
    """Each axis over the epochs of the trainings that have two checkpoints or more."""
    from onmodel.report import plots
    from onmodel.report.source import stage_of

    counts: dict[str, int] = {}
    for model in evaluation.models:
        if model.epoch is not None:
            stage = stage_of(model.name)
            counts[stage] = counts.get(stage, 0) + 1
    stages = [stage for stage, count in counts.items() if count > 1]
    drawn = {axis.title: plots.epochs(axis, evaluation, stages, ()) for axis in axes}
    return [Curve(title, svg, stages) for title, svg in drawn.items() if svg]


def _weights(character: CharacterFolder, axes: Sequence["Axis"]) -> list[Curve]:
    """Each axis over the LoRA weights of the newest tuning; none without a tuning."""
    from onmodel.evaluate.choice import CHOICE, read_choice
    from onmodel.report import plots

    for artifact in reversed(character.project.artifacts("selection")):
        rounds = read_choice(artifact.path / CHOICE).rounds
        if not rounds:
            continue
        rows = max((one.measured for one in rounds), key=lambda rows: len({r.weight for r in rows}))
        models = list(dict.fromkeys(row.model for row in rows))
        drawn = {axis.title: plots.dose(axis, rows, ()) for axis in axes}
        return [Curve(title, svg, models) for title, svg in drawn.items() if svg]
    return []


ROUTES = (Route("/c/{character}/results/plot", show),)
