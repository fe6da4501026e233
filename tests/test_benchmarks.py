"""The benchmarks of training and evaluation still run: every contender does its work, at a size that costs nothing."""

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


def load(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"bench_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"bench_{name}"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return load("train")


@pytest.mark.parametrize("contender", ["peft", "onmodel", "products"])
def test_every_contender_takes_a_step_for_every_line_and_says_what_it_cost(
    benchmark: ModuleType, contender: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "BLOCKS", 1)
    monkeypatch.setattr(sys, "stdin", io.StringIO("step\nstep\n"))
    threads = torch.get_num_threads()
    benchmark.work(contender, benchmark.Case(64, 2, "fp32"))
    torch.set_num_threads(threads)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 2 and all(row["seconds"] > 0 and row["peak"] >= 0 for row in told)


def test_pipeline_and_onmodel_make_the_same_pictures(tiny_anima: Path) -> None:
    evaluation = load("evaluate")
    row = evaluation.measure(evaluation.Case(tiny_anima, size=32, steps=2, batch=2), pictures=3, rounds=1)
    assert set(row["seconds"]) == {"loop", "batched", "onmodel", "products"} and min(row["seconds"].values()) > 0
    assert row["speedup"] > 0 and row["limit_ratio"] > 0
    assert row["differs"]["onmodel"] <= 1
