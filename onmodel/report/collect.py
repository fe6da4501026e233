"""From a finished run to what a person reads: the table, summary.json, report/index.html and the release folder."""

import json
from pathlib import Path

from rich.console import Console

from onmodel.hashing import read_json
from onmodel.pipeline import Result
from onmodel.project import Project
from onmodel.recipe import Recipe
from onmodel.records import Artifact
from onmodel.report.build import ReportSource, build_report, print_table, write_summary
from onmodel.stages.base import Inputs


def write_results(recipe: Recipe, project: Project, result: Result, console: Console) -> None:
    """Publish the release, write summary and report, print the table and where things lie."""
    source = collect(recipe, project, result)
    write_summary(source, project.folder / "summary.json")
    build_report(source, project.folder / "report")
    print_table(source, console)
    for what in ("summary.json", "report/index.html"):
        console.print(f"{project.folder / what}", highlight=False, soft_wrap=True)
    if source.release:
        console.print(f"{source.release}", highlight=False, soft_wrap=True)


def publish(recipe: Recipe, project: Project, result: Result) -> list[Path]:
    """Put each release where a person looks for it; the folders."""
    folders = []
    for name, artifact in _of_kind(result, "release").items():
        file_name = recipe.stages[name]["file_name"]
        folders.append(project.folder / "release" / file_name)
        project.publish(Artifact(artifact.kind, artifact.hash, artifact.path / file_name), folders[-1])
    return folders


def collect(recipe: Recipe, project: Project, result: Result) -> ReportSource:
    """Read what the stages made. The published numbers are those of the evaluation that the release stage names."""
    of_kind = {
        kind: _of_kind(result, kind) for kind in ("evaluation", "selection", "run", "dataset", "merge", "release")
    }
    inputs = Inputs(result.artifacts)
    final = confirm = release = lineage = None
    for (name, artifact), folder in zip(of_kind["release"].items(), publish(recipe, project, result), strict=True):
        settings = recipe.stages[name]
        final, confirm, release = inputs.model(settings["model"]).name, settings["evaluation"], folder
        lineage = read_json(artifact.path / "lineage.json")
    return ReportSource(
        title=recipe.name,
        recipe_text=recipe.text,
        stages=recipe.stages,
        character=recipe.character,
        evaluations=_read(of_kind["evaluation"], "evaluation.json"),
        selections=_read(of_kind["selection"], "selection.json"),
        training={name: _rows(artifact.path / "metrics.jsonl") for name, artifact in of_kind["run"].items()},
        datasets=_read(of_kind["dataset"], "manifest.json"),
        merges=_read(of_kind["merge"], "merge.json"),
        folders={name: artifact.path for name, artifact in result.artifacts.items()},
        seconds=result.seconds,
        final=final,
        confirm=confirm,
        release=release,
        project=project.folder,
        lineage=lineage,
    )


def _of_kind(result: Result, kind: str) -> dict[str, Artifact]:
    return {name: artifact for name, artifact in result.artifacts.items() if artifact.kind == kind}


def _read(artifacts: dict[str, Artifact], file: str) -> dict[str, dict]:
    return {name: read_json(artifact.path / file) for name, artifact in artifacts.items()}


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
