"""A short training on the toon base: its loss curve is on record, and its weights are the same bits
wherever it runs.

When the toon base or the method of training is meant to change, record the curve anew and commit it
with the reason:

    .venv/bin/python tests/stages/test_golden.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onmodel.engine.local import run
from onmodel.engine.project import Project
from onmodel.events import Events
from onmodel.families.registry import base_sha256
from onmodel.recipe import load_recipe
from onmodel.stages.base import read_models
from onmodel.weights import payload_sha256

GOLDEN = Path(__file__).parent / "golden" / "toon_loss.json"
TOLERANCE = 1e-4  # relative. SSE kernels differ by 3e-7; a learning rate 1 % higher by 8e-4
RECIPE = """
[recipe]
name = "golden"
character = "toon:backgwa"
seed = 7
date = "2026-11-22"
threads = 1

[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 6 }]

[stages.look]
do = "train"
dataset = "data"
data = [{ subset = "base" }]
epochs = 8
batch = 2
rank = 8
alpha = 8
resolution = 96
learning_rate = 2e-3
schedule = "cosine"
caption = "both"
validation = false
precision = "fp32"
"""


def train(folder: Path) -> tuple[list[float], str]:
    """Run the recipe in `folder`: the loss of each of its 24 steps, and the SHA-256 of the final
    weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "golden.toml").write_text(RECIPE)
    project = Project(folder / "project")
    result = run(load_recipe(folder / "golden.toml"), project, Events())
    artifact = result.artifacts["look"]
    rows = [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows], payload_sha256(read_models(artifact)[-1].path)


def test_the_loss_curve_is_the_recorded_one_and_the_weights_are_the_same_elsewhere(
    tmp_path: Path,
) -> None:
    losses, sha256 = train(tmp_path / "here")
    golden = json.loads(GOLDEN.read_text())
    assert golden["base"] == base_sha256("toon"), f"the toon base is another; {__doc__}"
    assert losses == pytest.approx(golden["losses"], rel=TOLERANCE), __doc__
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    other = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7", "PYTHONPATH": path}
    again = subprocess.run(
        [sys.executable, __file__, "--hash"],
        cwd=elsewhere,
        env={**os.environ, **other},
        check=True,
        capture_output=True,
        text=True,
    )
    assert again.stdout.split()[-1] == sha256


if __name__ == "__main__":
    if "--hash" in sys.argv:
        print(train(Path.cwd())[1])
    else:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            recorded, _ = train(Path(folder))
        GOLDEN.write_text(
            json.dumps({"base": base_sha256("toon"), "losses": recorded}, indent=1) + "\n"
        )
