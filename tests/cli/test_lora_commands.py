"""`onmodel lora …` as a person types it: on plain files, with wrong input too."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.errors import InputError
from onmodel.ledger.lineage import root
from onmodel.lora import header
from onmodel.randomness import normal
from onmodel.weights import read_metadata
from tests.support.lora_files import SHAPES, deltas, distance, weighted, write, write_checkpoint


def lora(*words: object) -> str:
    """What a command prints; its error is raised."""
    result = CliRunner().invoke(app, ["lora", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def ab(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "a.safetensors", 1), write(
        tmp_path / "b.safetensors", 2, layout="kohya"
    )


def test_plan_prints_and_writes_nothing(tmp_path: Path, ab: tuple[Path, Path]) -> None:
    text = lora("merge", "plan", *ab, "--rank", 3, "--weights", "a=1,b=-0.5")
    assert "energy kept" in text and "rank 3" in text and "origin is unknown" in text
    found = json.loads(lora("merge", "plan", *ab, "--rank", 3, "--weights", "a=1,b=-0.5", "--json"))
    assert [row["weight"] for row in found["models"]] == [1.0, -0.5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_run_resize_and_diff(tmp_path: Path, ab: tuple[Path, Path]) -> None:
    out, small = tmp_path / "m.safetensors", tmp_path / "small.safetensors"
    assert "the exact sum" in lora("merge", "run", *ab, "--weights", "1,-0.5", "-o", out)
    assert distance(deltas(out), weighted((ab[0], 1), (ab[1], -0.5))) < 1e-6
    report = json.loads(lora("resize", out, "--energy", "0.9", "-o", small, "--json"))
    assert report["energy_kept"] >= 0.9
    found = json.loads(lora("diff", out, small, "--json"))
    assert found["difference"] == pytest.approx(np.sqrt(1 - report["energy_kept"]), rel=0.1)
    history = json.loads(read_metadata(small)[header.RECIPE_KEY])
    assert sorted(node["type"] for node in history.values()) == ["merge", "merge", "model", "model"]
    assert history[root(history)]["name"] == "small"


def test_a_full_checkpoint_takes_part_as_its_difference(
    tmp_path: Path, ab: tuple[Path, Path]
) -> None:
    def tuned(name: str, tensor: np.ndarray) -> np.ndarray:
        if name not in SHAPES:
            return tensor
        return tensor + 0.1 * normal((tensor.shape[0], 2), 1, name) @ normal(
            (2, tensor.shape[1]), 2, name
        )

    base = write_checkpoint(tmp_path / "base.safetensors", "F32")
    fine = write_checkpoint(tmp_path / "fine.safetensors", "F32", change=tuned)
    out, extracted = tmp_path / "m.safetensors", tmp_path / "x.safetensors"
    text = lora(
        "merge",
        "run",
        ab[0],
        fine,
        "--base",
        base,
        "--checkpoint-rank",
        2,
        "--weights",
        "1,1",
        "-o",
        out,
    )
    assert "fine: factored to rank 2" in text
    lora("extract", fine, "--base", base, "--rank", 2, "-o", extracted)
    assert distance(deltas(out), weighted((ab[0], 1), (extracted, 1))) < 1e-5
    assert "rounding loses" in lora("into", base, extracted, "-o", tmp_path / "again.safetensors")
    with pytest.raises(InputError, match="name the base"):
        lora("merge", "run", ab[0], fine, "-o", tmp_path / "y.safetensors")


def test_files_of_one_name_are_told_apart(tmp_path: Path, ab: tuple[Path, Path]) -> None:
    (tmp_path / "other").mkdir()
    twin = shutil.copy(ab[1], tmp_path / "other" / "a.safetensors")
    found = json.loads(lora("merge", "plan", ab[0], twin, "--weights", "a=0.3,a#2=0.7", "--json"))
    assert [row["weight"] for row in found["models"]] == [0.3, 0.7]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["merge", "run", "a", "b", "-o", "a"], "exists already"),
        (["merge", "run", "a", "b", "-o", "out.ckpt"], r"name a \.safetensors"),
        (["merge", "run", "a", "b", "-o", "out.safetensors", "--size", "big"], "write e.g. 90MB"),
        (["merge", "run", "a", "b", "-o", "out.safetensors", "--size", "1kB"], "rank 1 everywhere"),
        (
            ["merge", "run", "a", "b", "-o", "out.safetensors", "--rank", "4", "--energy", "0.9"],
            "choose one",
        ),
        (["merge", "run", "a", "b", "-o", "out.safetensors", "--rank", "0"], "1 or more"),
        (
            ["merge", "run", "a", "b", "-o", "out.safetensors", "--weights", "1,x"],
            "is not a number",
        ),
        (
            ["merge", "run", "a", "b", "-o", "out.safetensors", "--weights", "1"],
            "there are 2 models",
        ),
        (["merge", "run", "a", "b", "-o", "out.safetensors", "--dtype", "fp8"], "use float32"),
        (
            ["merge", "run", "a", "b", "-o", "out.safetensors", "--layout", "peft"],
            "common or kohya",
        ),
        (["merge", "run", "a", "b", "-o", "out.safetensors", "--alpha", "0"], "above 0"),
        (
            ["merge", "run", "a", "b", "-o", "out.safetensors", "--method", "dare"],
            "give the result a rank",
        ),
        (["merge", "run", "a", "b", "-o", "out.safetensors", "--block", "mlp"], "where=factor"),
        (["merge", "plan", "a", "gone.safetensors"], "no such file"),
        (["merge", "plan", "a", "torn.safetensors"], "no complete safetensors file"),
        (["diff", "a", "gone.safetensors"], "no such file"),
        (["into", "a", "b", "-o", "out.safetensors"], "no whole transformer"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    tmp_path: Path, ab: tuple[Path, Path], words: list[str], said: str
) -> None:
    (tmp_path / "torn.safetensors").write_bytes(ab[0].read_bytes()[:-7])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    names = {"a": ab[0], "b": ab[1]}
    full = [
        names.get(word, tmp_path / word if word.endswith((".safetensors", ".ckpt")) else word)
        for word in words
    ]
    with pytest.raises(InputError, match=said) as error:
        lora(*full)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_program_ends_with_code_2_and_loads_no_torch(
    tmp_path: Path, ab: tuple[Path, Path]
) -> None:
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "onmodel.cli.main",
        "lora",
        "merge",
        "run",
        *map(str, ab),
        "-o",
    ]
    done = subprocess.run(
        [*command, str(tmp_path / "m.safetensors")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = re.findall(r"^import time:.*\| +(\S+)$", done.stderr, flags=re.M)
    assert "numpy" in loaded and "torch" not in loaded
    again = subprocess.run(
        [*command, str(tmp_path / "m.safetensors")], capture_output=True, text=True
    )
    assert again.returncode == 2
    assert "exists already" in again.stderr
