"""From a finished run to what a person reads: the table, summary.json, report/index.html and the release folder."""

from pathlib import Path

from rich.console import Console

from onmodel.hashing import read_json, read_json_lines
from onmodel.pipeline import Result
from onmodel.project import Project
from onmodel.recipe import Recipe
from onmodel.records import Artifact
from onmodel.report.build import ReportSource, build_report, print_table, write_summary
from onmodel.stages.base import Inputs


def write_results(recipe: Recipe, project: Project, result: Result, console: Console) -> None:
    """Publish the release, write summary and report, print the table and where things lie."""
    source = collect(recipe, project, result)
    with Console(stderr=True).status("write the report"):
        write_summary(source, project.folder / "summary.json")
        build_report(source, project.folder / "report")
    print_table(source, console)
    for what in ("summary.json", "report/index.html"):
        console.print(f"{project.folder / what}", highlight=False, soft_wrap=True)
    if source.release:
        console.print(f"{source.release}", highlight=False, soft_wrap=True)


def publish(recipe: Recipe, project: Project, result: Result) -> dict[str, Path]:
    """Put each release where a person looks for it; release stage → folder."""
    folders = {}
    for name, artifact in result.artifacts.items():
        if artifact.kind == "release":
            file_name = recipe.stages[name]["file_name"]
            folders[name] = project.folder / "release" / file_name
            project.publish(Artifact(artifact.kind, artifact.hash, artifact.path / file_name), folders[name])
    return folders


def collect(recipe: Recipe, project: Project, result: Result) -> ReportSource:
    """Read what the stages made. The published numbers are those of the evaluation that the release stage names."""
    inputs = Inputs(result.artifacts)
    final = confirm = release = lineage = None
    for name, folder in publish(recipe, project, result).items():
        settings = recipe.stages[name]
        final, confirm, release = inputs.model(settings["model"]).name, settings["evaluation"], folder
        lineage = read_json(result.artifacts[name].path / "lineage.json")
    return ReportSource(
        title=recipe.name,
        recipe_text=recipe.text,
        stages={name: recipe.stages[name] for name in result.artifacts},
        character=recipe.character,
        evaluations=_read(result, "evaluation.json"),
        selections=_read(result, "selection.json"),
        training={name: _rows(path) for name, path in _having(result, "metrics.jsonl").items()},
        datasets=_read(result, "manifest.json"),
        merges=_read(result, "merge.json"),
        searches=_read(result, "search.json"),
        folders={name: artifact.path for name, artifact in result.artifacts.items()},
        seconds=result.seconds,
        final=final,
        confirm=confirm,
        release=release,
        project=project.folder,
        lineage=lineage,
    )


def _having(result: Result, file: str) -> dict[str, Path]:
    """The file of each stage that made one; a search makes a merge's files or a selection's, and its own."""
    return {name: path for name, artifact in result.artifacts.items() if (path := artifact.path / file).is_file()}


def _read(result: Result, file: str) -> dict[str, dict]:
    return {name: read_json(path) for name, path in _having(result, file).items()}


def _rows(path: Path) -> list[dict]:
    return read_json_lines(path)
