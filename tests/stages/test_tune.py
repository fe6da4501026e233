"""The tune stage: checkpoints at several weights narrowed to one file, with the weight and the
reasons of the rest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from onmodel.evaluate.evaluation import Score
from onmodel.evaluate.halving import WeightedModel
from onmodel.hashing import read_json
from onmodel.ledger.lineage import add, root
from onmodel.lora.tensors import Lora, read_lora
from onmodel.records import Artifact
from onmodel.stages import tune
from onmodel.stages.base import Inputs, Plan
from tests.support.drawn_family import (
    DrawnFamily,
    colour_observers,
    drawn_context,
    drawn_dataset,
    install,
    trained,
)
from tests.support.events import Recorded
from tests.support.merge_inputs import SPEC, deltas, difference, lora, save
from tests.support.merge_inputs import merge_context as merging


def run(folder: Path, family: DrawnFamily, **changes: Any) -> tuple[Artifact, dict[str, Any]]:
    given = Inputs(
        {
            "a": trained(folder, "a", {10: {"yellow": 0.4}, 20: {}, 30: {"yellow": 0.2}}),
            "references": drawn_dataset(folder),
        }
    )
    settings = {
        "do": "tune",
        "models": ["a@*"],
        "weights": [0.8, 1.0],
        "size": 48,
        "steps": 4,
        "references": "references",
        **colour_observers(folder / "observers"),
    }
    settings = tune.Settings.model_validate(settings | changes)
    artifact = tune.run(given, settings, drawn_context(folder, family, "tuned"))
    return artifact, read_json(artifact.path / "selection.json")


def test_the_clean_checkpoint_is_found_and_kept_with_its_weight(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    family = install(monkeypatch)
    artifact, told = run(tmp_path, family)
    assert told["chosen"] == ["a@20 × 1"] and told["weight"] == 1.0
    (kept,) = Inputs({"tuned": artifact}).models(["tuned"])
    assert (kept.name, kept.epoch) == ("a@20", 20)
    assert [len(one["looked"]) for one in told["rounds"]] == [3, 4, 2, 2]
    for one in told["rounds"]:  # what was measured stays, for the curves over the weight
        assert [row["name"] for row in one["measured"]] == one["looked"]
        assert all(set(row["axes"]) == set(told["records"]) for row in one["measured"])
    assert {(row["model"], row["weight"]) for row in told["rounds"][1]["measured"]} == {
        (model, weight)
        for model in ("a@10", "a@20", "a@30")
        if f"{model} × 1" in told["rounds"][0]["kept"]
        for weight in (0.8, 1.0)
    }
    assert "bias" in told["rounds"][0]["dropped"]["a@10 × 1"] and "P:48|S:2" in told["signature"]
    assert told["too_close_to_call"]  # the drawn model is the same at every weight
    lineage = read_json(artifact.path / "lineage.json")
    assert lineage[root(lineage)]["weight"] == 1.0 and lineage[root(lineage)]["chosen"] == [
        kept.sha256
    ]
    planned = tune.estimate(
        tune.Settings.model_validate({"do": "tune", "models": ["a@*"], "weights": [0.8, 1.0]}),
        {"a": Plan(steps=9, models=3)},
    )
    assert family.drawn <= planned.pictures  # "at most": rounds share what they can


def test_a_choice_without_a_bound_says_how_surely_the_character_is_there(tmp_path: Path) -> None:
    said = Recorded()
    where = replace(merging(tmp_path, "tuned"), events=said)
    tune._say_reproduction(Score("reproduction", 0.02, 0.0, 0.1, 12, "L", ""), where)
    tune._say_reproduction(None, where)
    assert (
        " ".join(said.text.split()).count(
            "reproduction has no bound and is 0.02 (0.00 to 0.10); at_least = { reproduction ="
            " 0.5 }"
        )
        == 1
    )


def test_a_weight_named_twice_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="every weight once"):
        tune.Settings.model_validate({"do": "tune", "models": ["a"], "weights": [1.0, 1.0]})


def test_what_is_kept_draws_at_weight_1_what_was_chosen(tmp_path: Path) -> None:
    given = Inputs({"a": save(tmp_path, "a", lora(1))})
    (model,) = given.models(["a"])
    history = add([], "selection", name="tuned")
    artifact = tune.keep(WeightedModel(model, 0.6), history, merging(tmp_path / "scratch", "tuned"))
    (kept,) = Inputs({"tuned": artifact}).models(["tuned"])
    assert (
        kept.name == "tuned"
        and difference(read_lora(kept.path, SPEC), deltas((lora(1), 0.6))) < 1e-6
    )
    lineage = read_json(artifact.path / "lineage.json")
    node = lineage[root(lineage)]
    assert (node["type"], node["parts"][0]["weight"]) == ("merge", 0.6) and root(history) in node[
        "used"
    ]


def test_a_dora_is_kept_as_it_is_and_its_weight_told(tmp_path: Path) -> None:
    said = Recorded()
    modules = {
        name: replace(one, magnitude=torch.ones(24)) for name, one in lora(1).modules.items()
    }
    (model,) = Inputs({"a": save(tmp_path, "a", Lora(modules))}).models(["a"])
    history = add([], "selection", name="tuned")
    where = replace(merging(tmp_path / "scratch", "tuned"), events=said)
    artifact = tune.keep(WeightedModel(model, 0.6), history, where)
    (kept,) = Inputs({"tuned": artifact}).models(["tuned"])
    assert (kept.name, kept.sha256) == (model.name, model.sha256)
    assert "use it at weight 0.6" in said.text
