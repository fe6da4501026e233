"""From a finished run to what a person reads: summary.json, report/index.html and the
release folder."""

from pathlib import Path
from typing import Any

from onmodel.engine.project import Project
from onmodel.engine.running import Result
from onmodel.errors import InputError, StateError, VerifyError
from onmodel.evaluate.choice import CHOICE, SEARCH, read_choice, read_search
from onmodel.evaluate.evaluation import FILE, read_evaluation
from onmodel.hashing import read_json, read_json_lines
from onmodel.paths import inside
from onmodel.recipe import Recipe
from onmodel.records import Artifact
from onmodel.release.verify import verify
from onmodel.report.build import ReportSource, build_report, write_summary
from onmodel.report.table import Table, build_table
from onmodel.stages.base import Inputs


def write_results(
    recipe: Recipe, project: Project, result: Result
) -> tuple[Table | None, list[Path]]:
    """Publish the releases, write summary and report; the table of the published evaluation and the
    paths of what was written."""
    source = collect(recipe, project, result)
    summary, report = project.folder / "summary.json", project.folder / "report"
    with project.results():
        write_summary(source, summary)
        build_report(source, report)
    released = [source.release] if source.release else []
    return build_table(source), [summary, report / "index.html", *released]


def publish(recipe: Recipe, project: Project, result: Result) -> dict[str, Path]:
    """Put each release where a person looks for it; release stage → folder."""
    folders = {}
    for name, artifact in result.artifacts.items():
        if artifact.kind == "release":
            file_name = recipe.stages[name]["file_name"]
            folders[name] = inside(project.folder / "release", file_name, "file_name")
            source = inside(artifact.path, file_name, "file_name")
            _check(source)
            project.publish(Artifact(artifact.kind, artifact.hash, source), folders[name])
    return folders


def _check(release: Path) -> None:
    """Raise StateError for a release in the store that was damaged since it was made: it is not
    published."""
    try:
        verify(release)
    except (VerifyError, InputError) as error:
        remedy = (
            "is damaged, so it is not published; restore it from a copy, or run the recipe in a new"
            " --project"
        )
        raise StateError(release, f"{remedy} ({error})") from error


def collect(recipe: Recipe, project: Project, result: Result) -> ReportSource:
    """Read what the stages made. The published numbers are those of the evaluation that the release
    stage names."""
    inputs = Inputs(result.artifacts)
    final = confirm = release = lineage = None
    for name, folder in publish(recipe, project, result).items():
        settings = recipe.stages[name]
        final, confirm, release = (
            inputs.model(settings["model"]).name,
            settings["evaluation"],
            folder,
        )
        lineage = read_json(result.artifacts[name].path / "lineage.json")
    return ReportSource(
        title=recipe.name,
        recipe_text=recipe.text,
        stages={name: recipe.stages[name] for name in result.artifacts},
        character=recipe.character,
        evaluations={name: read_evaluation(path) for name, path in _having(result, FILE).items()},
        selections={name: read_choice(path) for name, path in _having(result, CHOICE).items()},
        training={
            name: read_json_lines(path) for name, path in _having(result, "metrics.jsonl").items()
        },
        datasets=_read(result, "manifest.json"),
        merges=_read(result, "merge.json"),
        searches={name: read_search(path) for name, path in _having(result, SEARCH).items()},
        folders={name: artifact.path for name, artifact in result.artifacts.items()},
        seconds=result.seconds,
        final=final,
        confirm=confirm,
        release=release,
        project=project.folder,
        lineage=lineage,
    )


def _having(result: Result, file: str) -> dict[str, Path]:
    """The file of each stage that made one; a search makes a merge's files or a selection's, and
    its own."""
    return {
        name: path
        for name, artifact in result.artifacts.items()
        if (path := artifact.path / file).is_file()
    }


def _read(result: Result, file: str) -> dict[str, Any]:
    return {name: read_json(path) for name, path in _having(result, file).items()}
