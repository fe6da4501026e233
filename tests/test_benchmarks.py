"""The benchmark of training still runs: every contender takes a step, at a size that costs nothing."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_train", Path(__file__).parents[1] / "benchmarks" / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_train"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("contender", ["peft", "onmodel", "products"])
def test_every_contender_takes_a_step(benchmark: ModuleType, contender: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "BLOCKS", 1)
    steps = benchmark.CONTENDERS[contender](benchmark.Case(64, 2, "fp32"))
    next(steps)
    next(steps)
