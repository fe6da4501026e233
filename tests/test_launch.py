"""A recipe under the launchers of several processes: the run that one process makes, written
once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from onmodel.families.registry import load_base
from onmodel.ledger.store import Ledger
from onmodel.lora.tensors import read_lora
from tests.support.recipes import RECIPE

LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc_per_node=2"],
    "accelerate": [
        "accelerate.commands.launch",
        "--num_processes=2",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "--cpu",
    ],
}


def start(*command: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_recipe_under_a_launcher(launcher: str, tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    recipe.write_text(RECIPE)
    made = []
    for name, before in (("one", []), ("two", LAUNCHERS[launcher] + (["-m"]))):
        ran = start(
            *(*before, "onmodel", "run", str(recipe), "--until", "look"),
            *("--project", str(tmp_path / name), "--json"),
        )
        assert ran.returncode == 0, ran.stderr
        made.append(Path(json.loads(ran.stdout)["look"]))
        assert ran.stderr.count("train look") == 1
    spec = load_base("toon").spec
    one, two = (read_lora(folder / "epoch-0004.safetensors", spec).modules for folder in made)
    deltas = [
        torch.cat([modules[name].delta().flatten() for name in one]) for modules in (one, two)
    ]
    assert float(deltas[0].abs().max()) > 1e-3
    # How exact it is, tests/train/test_processes.py says. At this learning rate AdamW turns
    # rounding into 1.4e-4 of the whole change; a picture that is dealt wrongly makes it another
    # change.
    assert float((deltas[0] - deltas[1]).norm() / deltas[0].norm()) <= 1e-2
    ledger = Ledger(tmp_path / "two" / "onmodel.db")
    assert ledger._db.execute("SELECT stage FROM runs").fetchall() == [("data",), ("look",)]
    assert not list((tmp_path / "two" / "scratch").iterdir())


@pytest.mark.slow
def test_a_mistake_is_one_line_of_the_first(tmp_path: Path) -> None:
    recipe = tmp_path / "two.toml"
    recipe.write_text(RECIPE.replace("batch = 2", "batch = 0"))
    ran = start(
        *LAUNCHERS["torchrun"],
        "-m",
        "onmodel",
        "run",
        str(recipe),
        "--project",
        str(tmp_path / "p"),
    )
    assert ran.returncode != 0 and ran.stderr.count("stages.look.batch: 0") == 1
    assert not (tmp_path / "p").exists()
