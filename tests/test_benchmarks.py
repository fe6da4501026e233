"""The benchmarks of training, evaluation and the cluster still run: every contender does its work,
at a size that costs nothing."""

import importlib.util
import io
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from onmodel.engine.cluster import dispatch
from onmodel.engine.plan import TOON_RATES, make_plan
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.halving import RUNGS, candidates, most_looks
from onmodel.recipe import load_recipe
from onmodel.records import Model
from tests.support import evaluations as made_up


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
    benchmark: ModuleType,
    contender: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("step\nstep\n"))
    threads = torch.get_num_threads()
    benchmark.work(contender, benchmark.Case(64, 2, "fp32", blocks=1))
    torch.set_num_threads(threads)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 2 and all(row["seconds"] > 0 and row["peak"] >= 0 for row in told)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_has_fewer_operations_than_the_plain_loop_and_reads_no_value(
    benchmark: ModuleType, precision: str
) -> None:
    per_block: dict[str, int] = {}
    for name in ("peft", "onmodel"):
        counts = []
        for blocks in (1, 2):
            steps = benchmark.CONTENDERS[name](benchmark.Case(64, 1, precision, blocks=blocks))
            next(steps)
            counts.append(benchmark.count(steps))
        per_block[name] = counts[1]["operations"] - counts[0]["operations"]
        assert (counts[1]["reads"] == 0) == (name == "onmodel")
    assert per_block["onmodel"] < 0.75 * per_block["peft"], per_block


def test_mended_takes_the_mean_of_each_prompt_over_the_seeds_before_it_compares() -> None:
    mended = load("mended")
    told = [{"p": 0.9, "q": 0.8, "r": 0.9}, {"p": 0.7, "q": 0.6, "r": 0.7, "s": 0.8}]
    found = made_up.model("as_found@8", {"expression": dict.fromkeys("pqrs", 0.5)})
    evaluations = [
        made_up.evaluation([made_up.model("mended@8", {"expression": ours}), found])
        for ours in told
    ]
    [better] = mended.over_seeds(evaluations, "mended@8", "as_found@8")
    [worse] = mended.over_seeds(evaluations, "as_found@8", "mended@8")
    assert better.gain == pytest.approx((0.3 + 0.2 + 0.3) / 3) == -worse.gain
    assert 0 < better.low <= better.gain <= better.high


def test_mended_writes_a_recipe_whose_plan_is_what_it_estimated(tmp_path: Path) -> None:
    mended = load("mended")
    recipe = tmp_path / "recipe.toml"
    # a plan counts 20 pictures for a folder that is not there yet
    counts = {mended.MENDED: {"base": 20}, mended.FOUND: {"base": 20}}
    recipe.write_text(mended.recipe_text(counts, 3, "choose", 1))
    steps = {step.name: step.plan for step in make_plan(load_recipe(recipe))}
    assert (
        steps[mended.MENDED].exposures == steps[mended.FOUND].exposures == {"base": 3, "others": 6}
    )
    seconds = (
        TOON_RATES["step"] * 2 * steps[mended.MENDED].steps
        + TOON_RATES["picture"] * steps["evaluated"].pictures
    )
    heap = 20 / mended.KEPT
    assert mended.estimate(round(heap), 3, "choose") == pytest.approx(
        heap * mended.AUDIT + 2 * seconds, rel=0.05
    )


def test_selection_truth_says_which_choices_are_as_good_as_the_best_and_how_far_behind() -> None:
    truth = load("selection_truth")
    spread = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]

    def row(epoch: int, shift: float, wobble: float = 0.0) -> dict[str, Any]:
        values = {f"p{i}": 0.1 + shift + 0.2 * x + wobble * (-1) ** i for i, x in enumerate(spread)}
        axes = {
            id: {"value": sum(values.values()) / len(values) if id == "design" else None}
            for id in AXES
        }
        return {
            "name": f"trained@{epoch} × 1",
            "epoch": epoch,
            "axes": axes,
            "per_prompt": {"design": values},
        }

    run = {
        "seed": 1,
        "close": True,
        "share": 0.225,
        "truth": [row(8, 0.01, wobble=0.05), row(16, 0.0), row(24, 0.2)],
        "choices": {"tune": "trained@8 × 1", "last": "trained@24 × 1", "loss": "trained@16 × 1"},
    }
    seen = truth.found(run)
    assert seen.best == "trained@16 × 1" and seen.alike == ["trained@8 × 1", "trained@16 × 1"]
    assert seen.hit == {"tune": True, "last": False, "loss": True} and seen.regret["loss"] == 0
    assert seen.regret["last"] == pytest.approx(0.2 / AXES["design"][0].fault)
    told = truth.summary({"plain": run, "few": run})
    assert (told["tune"]["hits"], told["tune"]["of"], told["last"]["hits"], told["lot"]) == (
        2,
        2,
        0,
        0.1,
    )
    assert told["tune"]["low"] == pytest.approx(2 / (2 + 1.96**2), abs=1e-3) and "grid" not in told
    assert "| 40 pictures, clean | 8 × 1, open | 16 × 1 | 2 of 20 |" in truth.page({"plain": run})


def test_selection_truth_counts_pictures_and_knows_the_naive_choices(tmp_path: Path) -> None:
    truth = load("selection_truth")
    models = [Model(f"trained@{epoch}", tmp_path, "", "", epoch) for epoch in (8, 16, 24, 32, 40)]
    grid = candidates(models, truth.WEIGHTS)
    looked = [grid[::4], grid[4:12], grid[4:7], grid[4:6]]
    rounds = [
        {
            "rung": asdict(rung),
            "looked": [one.name for one in names],
            "measured": [{"model": one.model.name} for one in names],
        }
        for rung, names in zip(RUNGS, looked, strict=True)
    ]
    assert (
        truth.share(rounds) == pytest.approx(most_looks(5, 4) / (20 * 96))
        and truth.share(rounds) <= 0.25
    )
    steps = [
        {"epoch": epoch, "heldout": loss}
        for epoch, loss in zip((8, 16, 24, 32, 40), (5, 3, 4, 6, 7), strict=True)
    ]
    assert truth.naive(models, [{"epoch": 1}, *steps]) == {
        "last": "trained@40 × 1",
        "loss": "trained@16 × 1",
    }


def test_selection_truth_trains_what_it_says(tmp_path: Path) -> None:
    truth = load("selection_truth")
    for name, run in truth.RUNS.items():
        path = tmp_path / f"{name}.toml"
        path.write_text(truth.recipe_text(name))
        truth.write_pictures(name, tmp_path / "pictures" / name)
        recipe = load_recipe(path)
        plans = {step.name: step.plan for step in make_plan(recipe)}
        assert plans["trained"].models == 5 and plans["data"].counts["her"] == run.count
        assert len({prompt.id for prompt in truth.fresh_prompts(recipe)}) == 44


def test_pipeline_and_onmodel_make_the_same_pictures(tiny_anima: Path) -> None:
    evaluation = load("evaluate")
    row = evaluation.measure(
        evaluation.Case(tiny_anima, size=32, steps=2, batch=2), pictures=3, rounds=1
    )
    assert (
        set(row["seconds"]) == {"loop", "batched", "onmodel", "products"}
        and min(row["seconds"].values()) > 0
    )
    assert row["speedup"] > 0 and row["limit_ratio"] > 0
    assert row["differs"]["onmodel"] <= 1


def test_the_random_base_knows_every_word_of_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import T5TokenizerFast

    evaluate = load("evaluate")
    monkeypatch.setattr(evaluate, "BLOCKS", 1)
    base = evaluate.write_random_base(tmp_path / "base")
    known = json.loads((base / "text_conditioner" / "config.json").read_text())["target_vocab_size"]
    assert len(T5TokenizerFast.from_pretrained(base / "t5_tokenizer")) <= known


def test_compat_reads_and_keeps_every_kind_of_a_tool_and_finds_a_wrong_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compat = load("compat")
    tools = compat.peers()
    rows = {name: tools[name] for name in ("LyCORIS", "PEFT")}
    assert all(compat.is_right(cell) for cell in compat.measure(rows))
    page = compat.PAGE.read_text(encoding="utf-8")
    table = page.partition(compat.BEGIN)[2].partition(compat.END)[0]
    assert all(f"| {name} |" in table for name in tools)
    right = compat._product
    monkeypatch.setattr(compat, "_product", lambda parts: 1.001 * right(parts))
    wrong = compat.measure({"PEFT": tools["PEFT"]})
    assert not any(compat.is_right(cell) for cell in wrong)


def test_planted_repeats_are_counted() -> None:
    ours, hashed = load("curate").find_repeats(100)
    assert ours["recall"] == dict.fromkeys(("exact", "near", "flip", "crop", "scene"), 1.0)
    assert hashed["recall"]["exact"] == hashed["recall"]["near"] == 1.0
    assert hashed["recall"]["flip"] == hashed["recall"]["crop"] == 0.0
    assert ours["pairs"] >= 10 and min(ours["seconds"], hashed["seconds"]) > 0


def test_the_cluster_benchmark_ends_with_a_line_of_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray and the matrix are left out; cells that sleep run in the simulation."""
    cluster = load("cluster")
    took = cluster.Took(whole=5.0, waited=1.0, processor=2.0)

    def on_ray(place: Path, name: str, workers: int, cells: int, planner: Any) -> Any:
        planner.slept = 3.0
        return took

    monkeypatch.setattr(cluster, "on_ray", on_ray)
    monkeypatch.setattr(cluster, "matrix", lambda place, rows: {"cells": rows})
    monkeypatch.setattr(dispatch, "ON_HEAD", dispatch.ON_HEAD)  # the benchmark changes it
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "argv", ["cluster.py", "--cells", "8", "--sleeping", "1"])
    cluster.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["driver_ms_per_cell"] == 10.0 and found["driver_cpu_ms_per_cell"] == 5.0
    assert found["busy_1"] == 0.6
    assert found["simulated_1"] > 0.95 > found["simulated_64"]
