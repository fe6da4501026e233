"""Objects of a project, and a way to damage one."""

import os
import shutil
from pathlib import Path

from onmodel.engine.project import Project
from onmodel.hashing import write_atomic, write_json
from onmodel.ledger.lineage import add
from onmodel.ledger.store import RunStart
from onmodel.records import Artifact
from onmodel.release.folder import bind


def fill(scratch: Path, value: int) -> None:
    write_json(scratch / "out" / "lineage.json", {})
    write_json(scratch / "out" / "data.json", value)


def made(place: Project, value: int = 1) -> Artifact:
    """An object of three files that the ledger names under the key `k<value>`."""
    scratch = place.scratch(f"{value}" * 64)
    fill(scratch, value)
    write_atomic(scratch / "out" / "pictures" / "a.png", b"picture %d" % value)
    artifact = place.commit(scratch, "dataset")
    shutil.rmtree(scratch)
    run = place.ledger.start(
        RunStart(f"k{value}", "r", "s", "curate", {}, {}, "toon"), {}, "2026-11-22T00:00:00+00:00"
    )
    place.ledger.finish(run, "dataset", artifact.hash, 1.0, "2026-11-22T00:00:01+00:00")
    return artifact


def flip(path: Path) -> None:
    """Change one byte; size and time stay."""
    facts, data = path.stat(), path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def release(place: Project, value: int) -> Artifact:
    """A release folder inside an object, as `collect.publish` hands it on."""
    scratch = place.scratch(f"{value}" * 64)
    inner = scratch / "out" / "x"
    for name, data in {
        "x.bin": b"weights %d" % value,
        "README.md": b"card",
        "sub/a.png": b"png",
    }.items():
        write_atomic(inner / name, data)
    bind(inner, add([], "release"), {})
    write_json(scratch / "out" / "lineage.json", {})
    artifact = place.commit(scratch, "release")
    shutil.rmtree(scratch)
    return Artifact("release", artifact.hash, artifact.path / "x")
