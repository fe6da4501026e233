"""What of a project no recipe needs any more, and freeing it. Nothing outside the project, nothing
that a person made.

temporaries   files that a killed process left half written
scratch       work folders of stages that are finished, or that no recipe begins
damaged       what `onmodel doctor PROJECT --fix` moved out of the way
objects       what the stages of other recipes made (only with recipes; their experiments are kept)
pictures      cached pictures that no object of the recipes shows (only with recipes, and when all
              of them are done)
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onmodel.engine.experiments import experiment_of
from onmodel.engine.local import cells
from onmodel.engine.project import KEY_DIGITS, Project, table_of
from onmodel.events import Events
from onmodel.hashing import TEMPORARY_PREFIX, files_of, read_json, temporaries
from onmodel.recipe import Recipe
from onmodel.sample.pictures import cached

KINDS = ("temporaries", "scratch", "damaged", "objects", "pictures")


@dataclass(frozen=True)
class Unneeded:
    """Paths of each kind, the bytes that freeing them gives back, and why a kind was left alone."""

    paths: Mapping[str, Sequence[Path]]
    bytes: Mapping[str, int]
    notes: Sequence[str] = ()


@dataclass
class _Needed:
    """What the recipes need. `open`: stages that are not done; their pictures cannot be told from
    others'."""

    objects: set[str] = field(default_factory=set)
    scratch: set[str] = field(default_factory=set)
    open: list[str] = field(default_factory=list)


def survey(project: Project, recipes: Sequence[Recipe], events: Events) -> Unneeded:
    """What can be freed. Without recipes it is temporaries, scratch and damaged alone. Writes
    nothing.

    Raises InputError for a recipe that is wrong or whose base is not there: its stages cannot be
    told from others'.
    """
    needed = _needed(project, recipes, events)
    found = {
        "temporaries": list(_temporaries(project)),
        "scratch": _scratch(project, needed if recipes else None),
        "damaged": sorted((project.folder / "damaged").glob("*")),
    }
    notes = []
    if recipes:
        objects = project.objects()
        found["objects"] = [path for hash, path in objects.items() if hash not in needed.objects]
        if needed.open:
            notes.append(
                f"pictures are kept, since these stages are not done: {', '.join(needed.open)}"
            )
        else:
            shown = {
                Path(name).name
                for hash, path in objects.items()
                if hash in needed.objects
                for name, _ in files_of(path)
            }
            found["pictures"] = [
                path for path in cached(project.pictures) if path.name not in shown
            ]
    here = project.folder.resolve()
    inside = {
        kind: [path for path in found.get(kind, ()) if path.parent.resolve().is_relative_to(here)]
        for kind in KINDS
    }
    return Unneeded(inside, _bytes(inside), notes)


def free(project: Project, recipes: Sequence[Recipe], events: Events) -> Unneeded:
    """Remove what `survey` finds, and return it. Raises BusyError when another process writes to
    the project."""
    before = survey(project, recipes, events)
    with project.writing():  # which removes temporaries itself
        found = survey(project, recipes, events)
        for paths in found.paths.values():
            for path in paths:
                _remove(path)
    kinds = ("temporaries", "scratch")
    return Unneeded(
        {**found.paths, **{kind: before.paths[kind] for kind in kinds}},
        {**found.bytes, **{kind: before.bytes[kind] for kind in kinds}},
        found.notes,
    )


def _with_experiments(recipes: Sequence[Recipe]) -> Iterator[tuple[Recipe, set[str]]]:
    """Each recipe, then with the stages of each of its experiments; and the stages that it adds."""
    for recipe in recipes:
        yield recipe, set(recipe.stages)
        for name in recipe.experiments:
            whole = experiment_of(recipe, name).recipe
            yield whole, set(whole.stages) - set(recipe.stages)


def _needed(project: Project, recipes: Sequence[Recipe], events: Events) -> _Needed:
    needed = _Needed()
    for recipe, own in _with_experiments(recipes):
        reached = set()
        for cell in cells(recipe, project, events):
            needed.scratch.add(cell.key[:KEY_DIGITS])
            run = project.ledger.finished(cell.key)
            if run:
                needed.objects.add(run.artifact)
            if project.finished(cell.key):
                reached.add(cell.step.name)
        if reached & own or own == set(recipe.stages):  # not of an experiment that was not begun
            left = (name for name in recipe.stages if name not in reached)
            needed.open += [f"{name} of {recipe.name}" for name in left]
    for key, folder in project.scratches().items():
        note = folder / "commit.json"  # of an object that was made and not yet recorded
        if key in needed.scratch and note.exists():
            needed.objects.add(read_json(note)["hash"])
    return needed


def _scratch(project: Project, needed: _Needed | None) -> list[Path]:
    """Scratch of finished stages, and of stages that are not in the recipes or (None) not in the
    ledger."""
    finished = {key[:KEY_DIGITS]: done for key, done in project.ledger.keys().items()}
    kept = {key for key, done in finished.items() if not done}
    if needed is not None:
        kept = {key for key in needed.scratch if not finished.get(key)}
    return [path for key, path in project.scratches().items() if key not in kept]


def _temporaries(project: Project) -> Iterator[Path]:
    folder = project.folder
    for place in (folder, folder / "report", folder / "release", *project.work_folders()):
        yield from temporaries(place)
    for root, _, _ in os.walk(folder / "scratch"):
        yield from temporaries(Path(root))


def _bytes(paths: Mapping[str, Sequence[Path]]) -> dict[str, int]:
    """Bytes that come free. A file of several names counts once, and only if all its names are
    freed."""
    names: Counter[tuple[int, int]] = Counter()
    freed = dict.fromkeys(paths, 0)
    for kind, tops in paths.items():
        for facts in (facts for top in tops for facts in _facts(top)):
            names[facts.st_dev, facts.st_ino] += 1
            if names[facts.st_dev, facts.st_ino] == facts.st_nlink:
                freed[kind] += facts.st_size
    return freed


def _facts(top: Path) -> Iterator[os.stat_result]:
    if top.is_symlink() or not top.is_dir():
        yield top.lstat()
        return
    for root, _, files in os.walk(top):
        for name in files:
            yield os.lstat(os.path.join(root, name))


def _remove(path: Path) -> None:
    """Remove a file or folder; a folder leaves its place in one step, so that a kill leaves no half
    of an object."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    leaving = (
        path
        if path.name.startswith(TEMPORARY_PREFIX)
        else path.with_name(TEMPORARY_PREFIX + path.name)
    )
    os.replace(path, leaving)
    shutil.rmtree(leaving)
    table_of(path).unlink(missing_ok=True)
