"""One page of two evaluations on different bases: what each base gives a character, paired by
prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onmodel.errors import InputError
from onmodel.evaluate.evaluation import FILE, EvaluatedModel, Evaluation, write_evaluation
from onmodel.hashing import write_cached
from onmodel.paths import inside
from onmodel.report.build import build_report
from onmodel.report.source import ReportSource
from onmodel.report.verdict import verdict

STAGE = "across"


def write_across(sources: Sequence[ReportSource], bases: Sequence[str], out: Path) -> list[str]:
    """Write `out` with the shown model of two finished runs: evaluation.json, its pictures and
    report/index.html. Returns what differs, in sentences; the second run is measured against the
    first.

    Raises InputError when a run measured nothing, or when the two did not ask the same: other
    prompts, seeds, observers or references.
    """
    evaluations = [_published(source) for source in sources]
    _check_alike(*evaluations)
    models, folders = [], []
    for i, (source, evaluation, base) in enumerate(zip(sources, evaluations, bases, strict=True)):
        shown = str(source.shown)
        name = f"{shown} on {base}"
        folder = source.folders[str(source.published_name)]
        folders.append(folder)
        models.append(_taken(evaluation.model(shown), name, folder, out, str(i)))
    first, second = evaluations
    shared = {axis: rows for axis, rows in first.shared.items() if second.shared.get(axis) == rows}
    # Axes whose rows are read with something of their own base cannot be tested across bases.
    own = {*first.shared, *second.shared} - shared.keys()
    axes = {
        id: axis for id, axis in first.axes.items() if second.axes.get(id) == axis and id not in own
    }
    controls = {
        arm: _taken(control, control.name, folders[0], out, "0")
        for arm, control in first.controls.items()
    }
    joined = replace(first, axes=axes, controls=controls, models=models, shared=shared, first=None)
    joined = replace(joined, against=(models[0].name,))
    write_evaluation(out / FILE, joined)
    title = " and ".join(bases)
    source = ReportSource(
        title=f"{sources[0].character.name} on {title}",
        recipe_text="",
        stages={},
        character=sources[0].character,
        evaluations={STAGE: joined},
        folders={STAGE: out},
        selections={},
        training={},
        datasets={},
        merges={},
        searches={},
        seconds={},
        final=models[1].name,
        confirm=STAGE,
        release=None,
        project=out,
        lineage=None,
    )
    build_report(source, out / "report")
    return verdict(source)


def _published(source: ReportSource) -> Evaluation:
    if source.published is None or source.shown is None:
        raise InputError("recipe", source.title, "has no finished evaluation; run it first")
    return source.published


def _check_alike(first: Evaluation, second: Evaluation) -> None:
    """Raise InputError naming what the two plans do not share."""
    for field in ("prompts", "seeds", "observers", "references", "width", "height"):
        if getattr(first.plan, field) != getattr(second.plan, field):
            what = "differ between the two evaluations; use one suite, seeds, size, observers and"
            raise InputError(f"plan.{field}", "", f"{what} references")


def _taken(model: EvaluatedModel, name: str, folder: Path, out: Path, place: str) -> EvaluatedModel:
    """The model under another name, its pictures copied below `out`."""
    pictures: dict[str, Mapping[str, Sequence[str]]] = {}
    for arm, prompts in model.pictures.items():
        moved = {}
        for prompt, files in prompts.items():
            moved[prompt] = [f"{place}/{file}" for file in files]
            for file in files:
                target = inside(out, f"{place}/{file}", "picture")
                write_cached(target, inside(folder, file, "picture").read_bytes())
        pictures[arm] = moved
    # Copies of training pictures are told with files of the run.
    details = {axis: told for axis, told in model.details.items() if axis != "memorisation"}
    return replace(model, name=name, pictures=pictures, details=details)
