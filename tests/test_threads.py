"""The number of threads is the recipe's in every stage, whatever the process began with: sums
depend on it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from onmodel.engine import local
from onmodel.engine.project import Project
from onmodel.events import Events
from onmodel.hashing import read_json
from onmodel.recipe import Recipe, load_recipe
from onmodel.stages import stage_module
from onmodel.weights import payload_sha256

TINY = Path(__file__).parent / "tiny_recipe.toml"
GOLDEN = Path(__file__).parent / "stages" / "golden" / "tiny_release.json"
LITTLE = """
[recipe]
name = "little"
character = "toon:backgwa"
date = "2026-11-22"
threads = 1
[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 2 }]
[stages.first]
do = "train"
dataset = "data"
epochs = 1
rank = 2
resolution = 96
precision = "fp32"
learning_rate = 2e-3
[stages.drawn]
do = "sample"
model = "first"
count = 2
steps = 3
[stages.more]
do = "curate"
subsets.drawn = [{ stage = "drawn" }]
[stages.second]
do = "train"
dataset = "more"
start = "first"
epochs = 1
rank = 2
resolution = 96
precision = "fp32"
learning_rate = 2e-3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "little.toml").write_text(LITTLE)
    return load_recipe(tmp_path / "little.toml")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def part(recipe: Recipe, folder: Path, threads: int, until: str) -> dict[str, str]:
    """Run a part of a recipe as a process that begins with so many threads; stage → hash of what it
    made."""
    torch.set_num_threads(threads)
    project = Project(folder)
    with project.writing():
        result = local.run(recipe, project, Events(), until)
    return {name: artifact.hash for name, artifact in result.artifacts.items()}


def test_a_run_that_is_taken_up_by_another_process_ends_with_the_same_bytes(
    recipe: Recipe, tmp_path: Path
) -> None:
    whole = part(recipe, tmp_path / "whole", 1, "second")
    for threads in (2, 4):
        part(recipe, tmp_path / str(threads), threads, "first")
        assert part(recipe, tmp_path / str(threads), threads, "second") == whole


def test_every_stage_computes_with_the_threads_of_the_recipe(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, int] = {}

    def watched(run: Callable[..., Any]) -> Callable[..., Any]:
        def stage(inputs: Any, settings: Any, context: Any) -> Any:
            seen[context.name] = torch.get_num_threads()
            torch.set_num_threads(3)  # a library that a stage calls may do so
            return run(inputs, settings, context)

        return stage

    for verb in ("curate", "train", "sample"):
        module = stage_module(verb)
        monkeypatch.setattr(module, "run", watched(module.run))
    part(recipe, tmp_path / "p", 2, "second")
    assert seen == dict.fromkeys(("data", "first", "drawn", "more", "second"), 1)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_release_has_the_same_weights_after_a_kill_whatever_omp_says(
    threads: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "onmodel", "run", str(TINY), "--project", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("objects/*/*/run.json")):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert (
        subprocess.run(
            command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )
    released = payload_sha256(tmp_path / "release" / "tiny" / "tiny.safetensors")
    assert released == read_json(GOLDEN)["payload_sha256"]
