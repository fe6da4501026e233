"""Merge LoRA files of a character: weights by slider, what the result would be, and the merge."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.lora.commands import Merge, plan_merge, run_merge
from onmodel.lora.methods import METHODS
from onmodel.lora.settings import MergeSettings, ResultSettings
from onmodel.paths import check_name, inside
from onmodel.studio.render import character_of, fragment, page
from onmodel.studio.uploads import receive
from onmodel.studio.workspace import CharacterFolder

KINDS = ("run", "merge", "model")  # artifacts that hold LoRA files
OWN = "loras"  # folder of a character: merges of this room, and files that were dropped here
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class MergeFile:
    """A LoRA file of a character; `id` is its place among them in words that never change."""

    id: str
    name: str
    path: Path
    size: int


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
                found.append(_file(f"{artifact.hash[:12]}-{path.stem}", name, path))
    own = character.folder / OWN
    if own.is_dir():
        paths = sorted(own.glob(f"*{SUFFIX}"))
        found += [_file(f"own-{path.stem}", path.stem, path) for path in paths]
    return found


def _file(id: str, name: str, path: Path) -> MergeFile:
    return MergeFile(id, name, path, path.stat().st_size)


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
    return fragment(request, "merge_plan.html.j2", found=found)


async def run(request: Request) -> Response:
    """Write the merge as NAME.safetensors into the character's folder of LoRAs: form field
    `name`."""
    character, form = character_of(request), await request.form()
    name = check_name(str(form.get("name", "")), "name")
    out = inside(character.folder / OWN, name + SUFFIX, "name")
    out.parent.mkdir(exist_ok=True)
    await run_in_threadpool(run_merge, out, _merge(character, form), name, Events())
    return Response(headers={"HX-Refresh": "true"})


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


def _merge(character: CharacterFolder, form: FormData) -> Merge:
    """The merge that a form describes. Raises InputError for an unknown file or a wrong number."""
    known = {file.id: file for file in files_of(character)}
    ids: Sequence[str] = [str(id) for id in form.getlist("file")]
    for id in ids:
        if id not in known:
            raise InputError("file", id, "is not there any more; reload the page")
    weights = ",".join(str(form.get(f"weight-{id}", "")) or "1" for id in ids)
    rank = str(form.get("rank", "")).strip()
    if rank and not (rank.isascii() and rank.isdecimal()):
        raise InputError("rank", rank, "must be a whole number; leave it empty for the exact sum")
    settings = MergeSettings(weights=weights, method=str(form.get("method", "")))
    result = ResultSettings(rank=int(rank) if rank else None)
    return Merge([known[id].path for id in ids], settings, result)


ROUTES = (
    Route("/c/{character}/merge", show),
    Route("/c/{character}/merge/plan", plan, methods=["POST"]),
    Route("/c/{character}/merge/run", run, methods=["POST"]),
    Route("/upload/{character}/lora", upload, methods=["POST"]),
)
