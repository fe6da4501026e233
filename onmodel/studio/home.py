"""The first page: every character of the workspace, and a new one from pictures."""

import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from onmodel.curate.unpack import unpack
from onmodel.errors import InputError
from onmodel.families.registry import DEFAULT_FAMILY, FAMILIES
from onmodel.paths import inside
from onmodel.starter import StarterSettings, write_starter
from onmodel.studio.bases import base_rows, offered
from onmodel.studio.jobs import Jobs, RunJob
from onmodel.studio.render import character_of, fragment, page, workspace_of
from onmodel.studio.roots import copy_pictures, folder_of, folders, fullest_folder
from onmodel.studio.uploads import receive, received
from onmodel.studio.workspace import CharacterFolder
from onmodel.toon.base import TOON_BASES

HUB = "hub"  # begins the value of a base that was downloaded
DEMO = Path(__file__).parents[2] / "recipes" / "demo.toml"  # in a clone, not in a wheel


@dataclass(frozen=True)
class CharacterCard:
    """A character on the first page. `state` and `stage` are those of its newest run, "" without
    one; `job` is its place in the queue."""

    character: CharacterFolder
    state: str
    stage: str
    job: RunJob | None
    disk_bytes: int


def cards(request: Request) -> list[CharacterCard]:
    """Every character of the workspace with its state."""
    jobs: Jobs = request.app.state.jobs
    by_character = {job.character: job for job in jobs.open()}
    return [
        _card(character, by_character.get(character.id))
        for character in workspace_of(request).characters()
    ]


def _card(character: CharacterFolder, job: RunJob | None) -> CharacterCard:
    state = stage = ""
    if character.started:
        runs = character.project.ledger.runs()
        if runs:
            state, stage = runs[0].state, runs[0].stage
    counted = _disk_bytes(character.folder, f"{state} {stage} {job and job.state}")
    return CharacterCard(character, state, stage, job, counted)


@lru_cache(maxsize=256)
def _disk_bytes(folder: Path, state: str) -> int:
    """Bytes of all files in a folder; links are not followed. Counted anew when the state of its
    run changes: the list of characters is asked for every few seconds."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:  # it was removed meanwhile
                continue
    return total


def home(request: Request) -> Response:
    """The page. Once it is sent, the data set that was changed last is opened."""
    workspace, datasets = workspace_of(request), request.app.state.datasets
    found = folders(workspace.roots)
    answer = page(
        request,
        "home.html.j2",
        "home",
        cards=cards(request),
        demo=DEMO.is_file(),
        toons=list(TOON_BASES),
        here=[base for base in offered(workspace) if base.rows],
        bases=[(row, family) for row in found if row.comfyui for family in FAMILIES],
        sources=[row for row in found if row.pictures],
    )
    answer.background = BackgroundTask(datasets.open_last, workspace.characters())
    return answer


def demo(request: Request) -> Response:
    """A new character from the recipe of the demo. Answers where to go."""
    if not DEMO.is_file():
        raise InputError("demo", "its recipe", "is not installed; use a clone of the repository")
    made = workspace_of(request).new("demo")
    shutil.copyfile(DEMO, made.folder / "recipe.toml")
    return Response(headers={"HX-Redirect": f"/c/{made.id}/run"})


def list_fragment(request: Request) -> Response:
    """The list of characters, anew."""
    return fragment(request, "cards.html.j2", cards=cards(request))


async def new(request: Request) -> Response:
    """Make the folder of a new character: form field `name`. Answers its id."""
    form = await request.form()
    made = workspace_of(request).new(str(form.get("name", "")))
    made.pictures.mkdir()
    return JSONResponse({"character": made.id})


async def upload(request: Request) -> Response:
    """One file of a new character's pictures: query field `name`, its path in the dropped folder;
    the body is the file. A zip becomes a folder."""
    character = character_of(request)
    name = request.query_params.get("name", "")
    target = inside(character.pictures, name, "name")
    await run_in_threadpool(target.parent.mkdir, parents=True, exist_ok=True)
    if target.suffix.lower() != ".zip":
        await receive(request, target)
        return JSONResponse({"left": []})
    folder = target.with_suffix("")
    if folder.exists():
        raise InputError("name", name, "its folder is here already; rename the zip")
    async with received(request, target.name) as file:
        unpacked = file.with_suffix("")
        try:
            left = await run_in_threadpool(unpack, file, unpacked)
        except InputError as error:  # its value is the path of the received file
            raise InputError("name", name, error.remedy) from error
        unpacked.rename(folder)
    return JSONResponse({"left": [f"{entry}: {reason}" for entry, reason in left]})


async def finish(request: Request) -> Response:
    """Write recipe and sheet of a new character: form fields `trigger`, and ids of folders below
    the roots: `source` of pictures that are copied, `base` of a ComfyUI with its family, as
    `id:family`, the name of a toon base, or `hub:name` of a downloaded one. Answers where to go."""
    character, roots = character_of(request), workspace_of(request).roots
    form = await request.form()
    source, base = str(form.get("source", "")), str(form.get("base", ""))
    rows = [base] if base in TOON_BASES else None
    id, _, family = base.partition(":")
    if id == HUB:
        rows = base_rows(workspace_of(request), family)
        if not rows:
            raise InputError("base", family, "is not downloaded; download it first")
    elif base and not rows:
        rows = [f"comfyui={folder_of(roots, id, 'base')}", f"family={family or DEFAULT_FAMILY}"]
    if source:
        folder = folder_of(roots, source, "source")
        await run_in_threadpool(copy_pictures, folder, character.pictures)
    pictures = await run_in_threadpool(fullest_folder, character.pictures)
    settings = StarterSettings(pictures=pictures, trigger=str(form.get("trigger", "")))
    await run_in_threadpool(write_starter, character.folder, settings, rows)
    return JSONResponse({"goto": f"/c/{character.id}/run"})


ROUTES = (
    Route("/", home),
    Route("/cards", list_fragment),
    Route("/demo", demo, methods=["POST"]),
    Route("/new", new, methods=["POST"]),
    Route("/upload/{character}", upload, methods=["POST"]),
    Route("/new/{character}/finish", finish, methods=["POST"]),
)
