"""Is a project's store whole? Reads every byte of it; what can be made again is moved to
`damaged/`, if wanted.

Nothing is removed: the ledger's readable rows are copied into a new one, and the damaged file is
kept.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from onmodel.checked import Checked, read_table
from onmodel.engine.clean import survey
from onmodel.engine.project import LEDGER, Project, fault_of, free_name, holding, table_of
from onmodel.errors import InputError, OnmodelError, StateError
from onmodel.events import Events, Finding
from onmodel.hashing import TEMPORARY_PREFIX
from onmodel.ledger.store import LedgerDamage, salvage
from onmodel.release.verify import verify
from onmodel.sample.pictures import TABLE, cached, is_damaged

AGAIN = "the next run of its recipe makes it again"


def examine_project(folder: Path, fix: bool, events: Events) -> list[Finding]:
    """One finding for everything that is wrong, and one for every part that is whole.

    With `fix`, what is damaged is moved to `<project>/damaged/`. Raises InputError for a folder
    that is no project, BusyError with `fix` while another process writes to it.
    """
    if not (folder / LEDGER).exists() and not (folder / "objects").is_dir():
        raise InputError("project", folder, f"is not a project folder; it has no {LEDGER}")
    found = _check_ledger(folder, fix)
    if found[0].status == "fail":
        return found
    project = Project(folder)
    if not fix:
        return [*found, *_check_files(project, False, events)]
    with project.writing():
        return [*found, *_check_files(project, True, events)]


def _check_ledger(folder: Path, fix: bool) -> list[Finding]:
    try:
        with closing(
            Project(folder).ledger
        ) as ledger:  # an open one would remove the log of the one that follows it
            faults = ledger.faults()
        if not faults:
            return [Finding("ledger", "ok", "is whole")]
        why = "; ".join(faults[:3])
    except LedgerDamage as error:
        why = error.what
    except StateError as error:
        return [Finding("ledger", "fail", str(error))]
    if not fix:
        return [
            Finding(
                "ledger",
                "fail",
                why,
                "--fix moves it to damaged/ and keeps the readable rows",
            )
        ]
    with holding(folder):
        rows = _renew_ledger(folder)
    return [
        Finding(
            "ledger",
            "warn",
            f"{why}; a new one was begun with the {rows} rows that could be read",
            "stages whose rows are lost are run again",
        )
    ]


def _renew_ledger(folder: Path) -> int:
    """Put a ledger with the readable rows in the place of the damaged one, a copy of which stays in
    `damaged/`."""
    kept, fresh = free_name(folder / "damaged" / LEDGER), folder / f"{TEMPORARY_PREFIX}{LEDGER}"
    kept.parent.mkdir(exist_ok=True)
    parts = [part for part in ("", "-wal", "-shm") if (folder / f"{LEDGER}{part}").exists()]
    for part in parts:
        shutil.copy2(folder / f"{LEDGER}{part}", f"{kept}{part}")
    fresh.unlink(missing_ok=True)
    rows = salvage(kept, fresh)
    for part in parts:
        if part:
            (folder / f"{LEDGER}{part}").unlink()
    os.replace(fresh, folder / LEDGER)
    return rows


def _check_files(project: Project, fix: bool, events: Events) -> Iterator[Finding]:
    yield from _check_objects(project, fix, events)
    yield from _check_pictures(project, fix, events)
    for folder in sorted(path for path in (project.folder / "release").glob("*") if path.is_dir()):
        try:
            verify(folder)
            yield Finding(f"release {folder.name}", "ok", "has the hashes that it lists")
        except (OnmodelError, OSError) as error:
            remedy = (
                "move that file elsewhere, then `onmodel report RECIPE` publishes the release again"
            )
            yield Finding(f"release {folder.name}", "fail", str(error), remedy)
    left = survey(project, (), events)
    for kind in ("temporaries", "scratch"):
        if left.paths[kind]:
            text = f"{len(left.paths[kind])} that no run needs, {left.bytes[kind]} bytes"
            yield Finding(kind, "warn", text, f"`onmodel clean {project.folder}` lists them")


def _check_objects(project: Project, fix: bool, events: Events) -> Iterator[Finding]:
    objects, kinds = project.objects(), project.ledger.made()
    damaged = 0
    with events.task("check objects", total=len(objects)) as task:
        for hash, path in objects.items():
            while found := fault_of(path):
                damaged += 1
                kind, (file, what) = kinds.get(hash, "object"), found
                said = {
                    "added": "is no part of it",
                    "missing": "is missing",
                    "changed": "was changed",
                }[what]
                text = f"{path / file} {said}"
                if not fix:
                    yield Finding(kind, "fail", text, "--fix moves it to damaged/")
                    break
                moved = project.set_aside(path / file if what == "added" else path)
                yield Finding(
                    kind, "warn", f"{text}; moved to {moved}", "" if what == "added" else AGAIN
                )
                if what != "added":
                    table_of(path).unlink(missing_ok=True)
                    break
            task.advance()
    gone = [f"{kind} {hash[:12]}" for hash, kind in kinds.items() if hash not in objects]
    for name in gone:
        yield Finding(name, "warn", "was made and is not there any more", AGAIN)
    if orphans := len(objects.keys() - kinds.keys()):
        yield Finding(
            "objects",
            "warn",
            f"{orphans} that the ledger does not name",
            f"`onmodel clean {project.folder} RECIPE` lists what no recipe needs",
        )
    if not damaged:
        yield Finding("objects", "ok", f"all {len(objects)} are as they were made")


def _check_pictures(project: Project, fix: bool, events: Events) -> Iterator[Finding]:
    pictures = cached(project.pictures)
    tables = {shard: read_table(shard / TABLE) for shard in {path.parent for path in pictures}}
    damaged = 0
    with events.task("check pictures", total=len(pictures)) as task:
        for path in pictures:
            if is_damaged(path, Checked.of(path, path.stat()), tables[path.parent].get(path.name)):
                damaged += 1
                if fix:
                    moved = f"; moved to {project.set_aside(path)}"
                    yield Finding("picture", "warn", f"{path} is not as it was made{moved}", AGAIN)
                else:
                    yield Finding(
                        "picture",
                        "fail",
                        f"{path} is not as it was made",
                        "--fix moves it to damaged/",
                    )
            task.advance()
    if not damaged:
        yield Finding("pictures", "ok", f"all {len(pictures)} of the cache are as they were made")
