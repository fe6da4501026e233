"""A project on a disk that is really full: the run pauses, and goes on to the same bytes when there
is room."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

from onmodel.engine import local
from onmodel.engine.project import Project
from onmodel.errors import SpaceError
from onmodel.events import Events
from onmodel.recipe import load_recipe
from onmodel.stages.base import read_models
from onmodel.weights import payload_sha256
from tests.support.recipes import RECIPE

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True
        )
    except OSError:
        mounted = None
    if mounted is None or mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_pauses_the_run(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two.toml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "two.toml")
    base = local.base_of(recipe, Events())
    monkeypatch.setattr(local, "base_of", lambda recipe, events: base)  # loaded once

    def final(folder: Path) -> str:
        result = local.run(recipe, Project(folder), Events())
        return payload_sha256(read_models(result.artifacts["look"])[-1].path)

    whole = final(tmp_path / "roomy")
    project, ballast = small_disk / "project", small_disk / "ballast"
    Project(project).ledger.close()
    where = []
    for room in (0, 64, 192, 320, 640, 1200, 2000, 3000):  # KiB
        ballast.unlink(missing_ok=True)
        free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
        ballast.write_bytes(bytes(max(0, free - room * 1024)))
        try:
            assert final(project) == whole
            break
        except (SpaceError, OSError) as error:  # the command line says both in the same words
            assert isinstance(error, SpaceError) or error.errno == errno.ENOSPC
            where.append(str(error))
        for path in project.rglob("*.safetensors"):
            with safe_open(path, "pt") as file:
                assert file.keys()
        for path in project.rglob("*.json"):
            json.loads(path.read_text())
    ballast.unlink()
    assert final(project) == whole
    assert len(where) >= 3 and any("onmodel.db" in line for line in where), where
    assert not list(project.rglob(".onmodel-*"))
