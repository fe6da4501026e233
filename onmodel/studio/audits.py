"""What looks at the pictures of a data set: audit, tagger and captioner with their progress;
findings by kind; repeats side by side."""

import asyncio
from collections.abc import AsyncIterator
from typing import get_args

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from onmodel.curate.decisions import Fixed, decide_pair, fix_findings, repeat_pairs
from onmodel.curate.findings import count_kinds
from onmodel.errors import InputError
from onmodel.evaluate.observers.source import SCHEME
from onmodel.recipe import load_recipe
from onmodel.studio.dataset_jobs import DatasetJobs
from onmodel.studio.dataset_worker import DatasetRequest, DatasetWork
from onmodel.studio.datasets import opened_dataset
from onmodel.studio.forms import whole_number
from onmodel.studio.render import character_of, fragment, text, workspace_of
from onmodel.studio.roots import folder_of
from onmodel.toon.base import TOON_BASES

EVERY = 0.5  # seconds between two looks at a job


async def start(request: Request) -> Response:
    """Start a job: form fields `do`, `tagger` (the id of a folder below the roots), `hub` (a tagger
    on the Hugging Face hub instead), `endpoint`, `model`."""
    form = await request.form()
    names = ("do", "tagger", "hub", "endpoint", "model")
    do, tagger, hub, endpoint, model = (str(form.get(name, "")).strip() for name in names)

    def begin() -> Response:
        character = character_of(request)
        work = next((known for known in get_args(DatasetWork) if known == do), None)
        if work is None:
            raise InputError("do", do, f"use {', '.join(get_args(DatasetWork))}")
        looks = "" if work == "caption" else observer_named(request, "tagger", tagger, hub)
        place, sheet = str(character.data), str(character.sheet)
        asked = DatasetRequest(work, place, sheet, looks, endpoint, model)
        jobs_of(request).start(character, asked)
        return job(request)

    return await run_in_threadpool(begin)


def observer_named(request: Request, kind: str, id: str, hub: str) -> str:
    """The tagger or detector (`kind`) that was chosen; "" for the toon world's own. Raises
    InputError for none where the character's base is another: it would see nothing right."""
    if hub and not hub.startswith(SCHEME):
        raise InputError(kind, hub, f"write {SCHEME}owner/name, or choose a folder of the list")
    if id:
        return str(folder_of(workspace_of(request).roots, id, kind))
    character = character_of(request)
    toon = character.recipe is None or load_recipe(character.recipe).base_name in TOON_BASES
    if not hub and not toon:
        remedy = f"choose a folder below a --root, or write {SCHEME}owner/name"
        raise InputError(kind, "none", remedy)
    return hub


def stop(request: Request) -> Response:
    """Stop what runs."""
    jobs_of(request).stop(character_of(request))
    return job(request)


def job(request: Request) -> Response:
    """The job that runs, or ran last."""
    character = character_of(request)
    now = jobs_of(request).of(character)
    return fragment(request, "dataset_job.html.j2", character=character, job=now)


async def events(request: Request) -> Response:
    """Server-sent events: the job as HTML whenever it advances."""
    character = character_of(request)

    async def stream() -> AsyncIterator[str]:
        last = ""
        while not await request.is_disconnected():
            job = jobs_of(request).of(character)
            now = text("dataset_job.html.j2", character=character, job=job)
            if now != last:
                last = now
                lines = "".join(f"data: {line}\n" for line in now.splitlines())
                yield f"event: job\n{lines}\n"
            await asyncio.sleep(EVERY)

    return StreamingResponse(stream(), media_type="text/event-stream")


def findings(request: Request) -> Response:
    """The findings of the last audit: how many pictures by kind, and those about no picture."""
    return _findings(request)


def preview_fix(request: Request) -> Response:
    """What the fixes of a `kind` would change."""
    kind = request.query_params.get("kind", "")
    return _findings(request, kind=kind, plan=_fix(request, kind, dry_run=True))


async def fix_kind(request: Request) -> Response:
    """Apply all fixes of a kind as one step: form field `kind`."""
    kind = str((await request.form()).get("kind", ""))
    fixed = await run_in_threadpool(_fix, request, kind)
    answer = await run_in_threadpool(_findings, request, kind=kind, fixed=fixed)
    answer.headers["HX-Trigger"] = "dataset-changed"
    return answer


def _fix(request: Request, kind: str, dry_run: bool = False) -> Fixed:
    return fix_findings(character_of(request).data, [], [kind], dry_run)


def _findings(
    request: Request, kind: str = "", plan: Fixed | None = None, fixed: Fixed | None = None
) -> Response:
    """The findings; `plan` is what fixing a kind would do, `fixed` what it did."""
    dataset = opened_dataset(request)
    return fragment(
        request,
        "audit_findings.html.j2",
        character=character_of(request),
        kinds=count_kinds(dataset.all_findings),
        whole=dataset.findings.get("", ()),
        kind=kind,
        plan=plan,
        fixed=fixed,
    )


def pair(request: Request) -> Response:
    """Two repeats side by side: the pair at place `at`."""
    return _pair(request, whole_number(request.query_params.get("at", "0"), "at"))


async def decide_repeats(request: Request) -> Response:
    """Decide about a pair: form fields `keep` and `exclude`, names of pictures, repeated."""
    form = await request.form()
    keep, exclude = ([str(name) for name in form.getlist(key)] for key in ("keep", "exclude"))
    await run_in_threadpool(decide_pair, character_of(request).data, keep, exclude)
    answer = await run_in_threadpool(_pair, request, 0)
    answer.headers["HX-Trigger"] = "dataset-changed"
    return answer


def _pair(request: Request, at: int) -> Response:
    dataset = opened_dataset(request)
    pairs = repeat_pairs(dataset.workshop, dataset.all_findings)
    place = at % len(pairs) if pairs else 0
    shown = pairs[place] if pairs else None
    values = {"pair": shown, "at": place, "total": len(pairs)}
    return fragment(request, "pair.html.j2", character=character_of(request), **values)


def jobs_of(request: Request) -> DatasetJobs:
    """The jobs of every data set."""
    jobs: DatasetJobs = request.app.state.dataset_jobs
    return jobs


ROUTES = (
    Route("/c/{character}/data/job", job),
    Route("/c/{character}/data/job", start, methods=["POST"]),
    Route("/c/{character}/data/job/stop", stop, methods=["POST"]),
    Route("/c/{character}/data/job/events", events),
    Route("/c/{character}/data/findings", findings),
    Route("/c/{character}/data/pair", pair),
    Route("/c/{character}/data/pair", decide_repeats, methods=["POST"]),
    Route("/c/{character}/data/fix-kind", preview_fix),
    Route("/c/{character}/data/fix-kind", fix_kind, methods=["POST"]),
)
