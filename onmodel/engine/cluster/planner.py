"""Cuts cells into jobs: blocks of pictures that a stage will request, then the stage itself."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil
from pathlib import Path

from onmodel import checked
from onmodel.engine.cluster.dispatch import JobOrder
from onmodel.engine.cluster.jobs import (
    DrawJob,
    SentArtifact,
    SentBase,
    StageJob,
    without_folders,
)
from onmodel.engine.plan import Step
from onmodel.engine.project import table_of
from onmodel.engine.running import Attempt, Work
from onmodel.errors import InputError
from onmodel.families.registry import parse_base
from onmodel.hashing import file_hashes, hash_json, sha256_file
from onmodel.records import Artifact
from onmodel.sample.pictures import PictureOrder, PictureRequest, picture_paths
from onmodel.stages import stage_module
from onmodel.stages.base import Plan

MOST_BATCHES = 8  # of a block of pictures
SHARE = 3  # blocks of a drawing for each worker, so that all end at about the same time


class JobPlanner:
    """The jobs of the cells of one run (`dispatch.Planner`)."""

    def __init__(self, work: Work) -> None:
        self._work = work

    @cached_property
    def _base(self) -> tuple[SentBase, dict[str, Path]]:
        """The base, and its files by hash. Bases of the package and of the hub are not sent."""
        recipe = self._work.recipe
        settings = parse_base(recipe.base)
        if settings.comfyui is not None:
            remedy = "is not sent to other machines; name its single files, or a diffusers folder"
            raise InputError("base.comfyui", settings.comfyui, remedy)
        sources: dict[str, Path] = {}
        files: dict[str, str] = {}
        if isinstance(recipe.base, Mapping):
            settings, paths = without_folders(settings)
            files, sources = hashed(paths)
        return SentBase(settings, self._work.base_sha256, recipe.base_name, files), sources

    def drawings(self, attempt: Attempt, workers: int) -> list[JobOrder]:
        base, base_sources = self._base
        orders = []
        for drawing in self._drawings(attempt):
            batches = drawing.lacking(self._work.base_sha256, self._work.project.pictures)
            size = min(MOST_BATCHES, max(1, ceil(len(batches) / (SHARE * workers))))
            for start in range(0, len(batches), size):
                requests = [one for batch in batches[start : start + size] for one in batch]
                sources = {one.lora.sha256: one.lora.path for one in requests if one.lora}
                sent = replace(drawing, requests=list(map(_without_path, requests)))
                words = [[one.prompt, one.negative, one.seed] for one in requests]
                id = hash_json([attempt.cell.key, sorted(sources), words])
                job = DrawJob(id, sent, base, self._work.recipe.threads)
                orders.append(JobOrder(job, base_sources | sources))
        return orders

    def stage(self, attempt: Attempt) -> JobOrder:
        cell, context, recipe = attempt.cell, attempt.context, self._work.recipe
        base, sources = self._base
        sources = dict(sources)
        inputs = {}
        for name, artifact in cell.inputs.artifacts.items():
            files, there = _files_of(artifact)
            inputs[name] = SentArtifact(artifact.kind, artifact.hash, files)
            sources |= there
        settings, paths = without_folders(cell.step.settings)
        settings_files, there = hashed(paths)
        sources |= there
        pictures = {path.name: sha256_file(path) for path in self._cached(attempt)}
        for path in self._cached(attempt):
            sources[pictures[path.name]] = path
        step = Step(cell.step.name, cell.step.verb, cell.step.makes, settings, Plan(), None)
        job = StageJob(
            key=cell.key,
            step=step,
            inputs=inputs,
            settings_files=settings_files,
            pictures=pictures,
            base=base,
            seed=recipe.seed,
            date=recipe.date,
            threads=recipe.threads,
            character=context.character,
        )
        return JobOrder(job, sources)

    def _drawings(self, attempt: Attempt) -> Sequence[PictureOrder]:
        """What the stage will request, as far as its verb says so."""
        module = stage_module(attempt.cell.step.verb)
        if not hasattr(module, "drawings"):
            return []
        found: list[PictureOrder] = module.drawings(
            attempt.cell.inputs, attempt.cell.step.settings, attempt.context
        )
        return found

    def _cached(self, attempt: Attempt) -> Iterable[Path]:
        """The pictures of the cache that the stage will request."""
        folder, base = self._work.project.pictures, self._work.base_sha256
        for drawing in self._drawings(attempt):
            paths = picture_paths(base, drawing.requests, drawing.sampling, folder)
            yield from (path for path in paths if path.is_file())


def _without_path(request: PictureRequest) -> PictureRequest:
    if request.lora is None:
        return request
    return replace(request, lora=replace(request.lora, path=Path(request.lora.sha256)))


def _files_of(artifact: Artifact) -> tuple[dict[str, str], dict[str, Path]]:
    """The files of an artifact with their hashes, and where they lie."""
    found = checked.check_folder(artifact.path, checked.read_table(table_of(artifact.path)))
    files = {name: file.sha256 for name, file in found.items()}
    return files, {sha256: artifact.path / name for name, sha256 in files.items()}


def hashed(paths: Mapping[str, Path]) -> tuple[dict[str, str], dict[str, Path]]:
    """The files of some files and folders by name with their hashes, and where they lie."""
    files: dict[str, str] = {}
    sources: dict[str, Path] = {}
    for name, path in paths.items():
        inside = file_hashes(path) if path.is_dir() else {"": sha256_file(path)}
        for part, sha256 in inside.items():
            files[f"{name}/{part}" if part else name] = sha256
            sources[sha256] = path / part if part else path
    return files, sources
