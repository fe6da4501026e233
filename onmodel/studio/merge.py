"""Merge LoRA files of a character: weights by slider, what the result would be, and the merge."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.engine.additions import AddedMerge, with_merge
from onmodel.engine.draft import save_recipe
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.lora.commands import Merge, plan_merge, run_merge
from onmodel.lora.methods import METHODS
from onmodel.lora.settings import MergeSettings, ResultSettings
from onmodel.paths import check_name, inside
from onmodel.studio.forms import whole_number
from onmodel.studio.render import character_of, fragment, page
from onmodel.studio.training_set import use_dataset
from onmodel.studio.uploads import receive
from onmodel.studio.workspace import CharacterFolder

KINDS = ("run", "merge", "model")  # artifacts that hold LoRA files
OWN = "loras"  # folder of a character: merges of this room, and files that were dropped here
SUFFIX = ".safetensors"
SHADES = 8  # of a heat map, as in studio.css


@dataclass(frozen=True)
class MergeFile:
    """A LoRA file of a character; `id` is its place among them in words that never change. `model`
    is its name in recipes, "" for a file of the character's own folder."""

    id: str
    name: str
    path: Path
    size: int
    model: str


@dataclass(frozen=True)
class ShadedCell:
    """A number as text; `shade` goes from 0 to SHADES."""

    text: str
    shade: int


@dataclass(frozen=True)
class BlockRow:
    """A block of the base: how much each file changes it, and the mean cosine of two files."""

    block: str
    strengths: Sequence[ShadedCell]
    cosine: ShadedCell


def files_of(character: CharacterFolder) -> list[MergeFile]:
    """Checkpoints, merges and imported files of the project, then the character's own folder."""
    found = []
    if character.started:
        project = character.project
        makers = project.ledger.makers()
        for artifact in [one for kind in KINDS for one in project.artifacts(kind)]:
            for path in sorted(artifact.path.glob(f"*{SUFFIX}")):
                epoch = path.stem.removeprefix("epoch-")
                stage = makers[artifact.hash]
                name = f"{stage}@{int(epoch)}" if epoch.isdecimal() else stage
                found.append(_file(f"{artifact.hash[:12]}-{path.stem}", name, path, name))
    own = character.folder / OWN
    if own.is_dir():
        paths = sorted(own.glob(f"*{SUFFIX}"))
        found += [_file(f"own-{path.stem}", path.stem, path) for path in paths]
    return found


def _file(id: str, name: str, path: Path, model: str = "") -> MergeFile:
    return MergeFile(id, name, path, path.stat().st_size, model)


def show(request: Request) -> Response:
    """The page."""
    character = character_of(request)
    return page(
        request,
        "merge.html.j2",
        "merge",
        character=character,
        files=files_of(character),
        methods=list(METHODS),
    )


async def plan(request: Request) -> Response:
    """What the merge would be: form fields `file` repeated, `weight-ID`, `method`, `rank`."""
    character, form = character_of(request), await request.form()
    if len(form.getlist("file")) < 2:
        return fragment(request, "merge_plan.html.j2", found=None)
    found = await run_in_threadpool(plan_merge, _merge(character, form), Events())
    names = [file.name for file in _chosen(character, form)]
    blocks = _heat(found["blocks"] or [])
    return fragment(request, "merge_plan.html.j2", found=found, names=names, blocks=blocks)


async def run(request: Request) -> Response:
    """Write the merge as NAME.safetensors into the character's folder of LoRAs: form field
    `name`."""
    character, form = character_of(request), await request.form()
    name = check_name(str(form.get("name", "")), "name")
    out = inside(character.folder / OWN, name + SUFFIX, "name")
    out.parent.mkdir(exist_ok=True)
    await run_in_threadpool(run_merge, out, _merge(character, form), name, Events())
    return Response(headers={"HX-Refresh": "true"})


async def add(request: Request) -> Response:
    """Add the merge to the recipe, measured beside its parents, and queue the run: form fields as
    for plan(), and `name`. Answers where to go."""
    character, form = character_of(request), await request.form()
    name = check_name(str(form.get("name", "")), "name")
    await run_in_threadpool(_add, request, character, form, name)
    return Response(headers={"HX-Redirect": f"/c/{character.id}/run"})


def _add(request: Request, character: CharacterFolder, form: FormData, name: str) -> None:
    if character.recipe is None:
        raise InputError("merge", character.name, "its recipe is not in this workspace")
    wanted = _merge(character, form)
    models: dict[str, float] = {}
    imports: dict[str, str] = {}
    for file in _chosen(character, form):
        model = file.model or re.sub(r"\W", "_", file.name, flags=re.ASCII)
        if not file.model:
            imports[model] = f"{OWN}/{file.path.name}"
        models[model] = _weight(form, file)
    added = AddedMerge(name, models, imports, wanted.settings.method, wanted.result.rank)
    text = character.recipe.read_text(encoding="utf-8")
    save_recipe(with_merge(text, added, character.recipe), character.recipe)
    use_dataset(character)
    request.app.state.jobs.add(character)


async def upload(request: Request) -> Response:
    """A LoRA file of someone else: query field `name`; the body is the file."""
    character = character_of(request)
    name = check_name(request.query_params.get("name", ""), "name")
    if not name.endswith(SUFFIX):
        raise InputError("file", name, f"must be a {SUFFIX} file")
    folder = character.folder / OWN
    folder.mkdir(exist_ok=True)
    await receive(request, inside(folder, name, "name"))
    return Response(headers={"HX-Refresh": "true"})


def _chosen(character: CharacterFolder, form: FormData) -> list[MergeFile]:
    """The chosen files. Raises InputError for one that is not there."""
    known = {file.id: file for file in files_of(character)}
    ids = [str(id) for id in form.getlist("file")]
    for id in ids:
        if id not in known:
            raise InputError("file", id, "is not there any more; reload the page")
    return [known[id] for id in ids]


def _weight(form: FormData, file: MergeFile) -> float:
    text = str(form.get(f"weight-{file.id}", "")) or "1"
    try:
        return float(text)
    except ValueError:
        raise InputError("weight", text, "must be a number") from None


def _merge(character: CharacterFolder, form: FormData) -> Merge:
    """The merge that a form describes. Raises InputError for an unknown file or a wrong number."""
    files, method = _chosen(character, form), str(form.get("method", ""))
    reads = "weights" in METHODS[method].takes if method in METHODS else True
    weights = ",".join(str(_weight(form, file)) for file in files) if reads else ""
    rank = str(form.get("rank", "")).strip()
    settings = MergeSettings(weights=weights, method=method)
    result = ResultSettings(rank=whole_number(rank, "rank") if rank else None)
    return Merge([file.path for file in files], settings, result)


def _heat(rows: Sequence[dict[str, Any]]) -> list[BlockRow]:
    """The blocks' strengths, shaded by their share of the file's largest, and the cosines."""
    columns = list(zip(*(row["strengths"] for row in rows), strict=True))
    most = [max(column) or 1.0 for column in columns]
    return [
        BlockRow(
            row["block"],
            [
                ShadedCell(f"{value:.3g}", _shade(value / top))
                for value, top in zip(row["strengths"], most, strict=True)
            ],
            ShadedCell(f"{row['cosine']:.2f}", _shade(abs(row["cosine"]))),
        )
        for row in rows
    ]


def _shade(share: float) -> int:
    return round(SHADES * min(1.0, share))


ROUTES = (
    Route("/c/{character}/merge", show),
    Route("/c/{character}/merge/plan", plan, methods=["POST"]),
    Route("/c/{character}/merge/run", run, methods=["POST"]),
    Route("/c/{character}/merge/add", add, methods=["POST"]),
    Route("/upload/{character}/lora", upload, methods=["POST"]),
)
