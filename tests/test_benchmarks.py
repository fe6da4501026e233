"""The benchmark of training still runs: every contender takes a step, at a size that costs nothing."""

import importlib.util
import io
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_train", Path(__file__).parents[1] / "benchmarks" / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_train"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


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
