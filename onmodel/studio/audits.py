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
from onmodel.studio.dataset_jobs import DatasetJobs
from onmodel.studio.dataset_worker import DatasetRequest, DatasetWork
from onmodel.studio.datasets import opened_dataset
from onmodel.studio.render import character_of, fragment, text

EVERY = 0.5  # seconds between two looks at a job


async def start(request: Request) -> Response:
    """Start a job: form fields `do`, `tagger`, `endpoint`, `model` (DatasetRequest)."""
    form = await request.form()
    do, *fields = (str(form.get(key, "")).strip() for key in ("do", "tagger", "endpoint", "model"))

    def begin() -> Response:
        character = character_of(request)
        work = next((known for known in get_args(DatasetWork) if known == do), None)
        if work is None:
            raise InputError("do", do, f"use {', '.join(get_args(DatasetWork))}")
        asked = DatasetRequest(work, str(character.data), str(character.sheet), *fields)
        _jobs(request).start(character, asked)
        return job(request)

    return await run_in_threadpool(begin)


def stop(request: Request) -> Response:
    """Stop what runs."""
    _jobs(request).stop(character_of(request))
    return job(request)


def job(request: Request) -> Response:
    """The job that runs, or ran last."""
    character = character_of(request)
    now = _jobs(request).of(character)
    return fragment(request, "dataset_job.html.j2", character=character, job=now)


async def events(request: Request) -> Response:
    """Server-sent events: the job as HTML whenever it advances."""
    character = character_of(request)

    async def stream() -> AsyncIterator[str]:
        last = ""
        while not await request.is_disconnected():
            job = _jobs(request).of(character)
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
    at = request.query_params.get("at", "")
    return _pair(request, int(at) if at.isdecimal() else 0)


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


def _jobs(request: Request) -> DatasetJobs:
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
