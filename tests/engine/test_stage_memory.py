"""The forecast of each stage's memory, for the published base."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from onmodel.engine.memory import Forecast, Machine, StageMemory, forecast
from onmodel.engine.plan import make_plan
from onmodel.events import Events
from onmodel.recipe import load_recipe

ROOT = Path(__file__).parents[2]
GIB = 2**30
WEIGHTS = {"transformer": 1_956, "text conditioner": 135, "text encoder": 596}  # M numbers


def forecast_of(names: set[str], machine: Machine, **changes: object) -> Forecast:
    """`changes` of the settings of the training."""
    recipe = load_recipe(ROOT / "recipes" / "own_character.toml")
    steps = [step for step in make_plan(recipe) if step.name in names | {"data"}]
    for i, step in enumerate(steps):
        if step.name == "trained":
            steps[i] = replace(step, settings=step.settings.model_copy(update=changes))
    return forecast(recipe, steps, Events(), machine)


@pytest.fixture(scope="module")
def on_processor() -> Forecast:
    machine = Machine("cpu", torch.bfloat16, GIB // 2, 64 * GIB)
    return forecast_of({"trained", "candidates"}, machine)


def largest(stage: StageMemory, phase: str) -> dict[str, int]:
    return next(dict(row.parts) for row in stage.phases if row.name == phase)


def test_every_phase_has_its_parts(on_processor: Forecast) -> None:
    trained, candidates = (on_processor.memory[name] for name in ("trained", "candidates"))
    assert [phase.name for phase in trained.phases] == [
        "encode pictures",
        "encode captions",
        "train",
    ]
    assert [phase.name for phase in candidates.phases] == ["encode prompts", "sample"]
    parts = largest(trained, "train")
    assert parts["process"] > GIB // 2
    assert parts["heap"] == 2 * GIB  # a processor's, at most
    assert parts["run state"] == 12 * 45_875_200  # the factors and two moments
    encoded = largest(trained, "encode captions")
    assert not {"vae", *WEIGHTS} & parts.keys() - {"transformer"}
    for name, numbers in WEIGHTS.items():
        there = parts if name == "transformer" else encoded
        assert there[name] == pytest.approx(2e6 * numbers, rel=0.01)
    assert "transformer" not in encoded
    # One picture needs no temporal convolutions.
    assert largest(candidates, "sample")["vae"] < 2e6 * 127 / 2


def test_what_encodes_text_stays_in_memory_where_it_is_trained(on_processor: Forecast) -> None:
    machine = Machine("cpu", torch.bfloat16, GIB // 2, 64 * GIB)
    text = {"text conditioner", "text encoder"}
    for setting, layers in (("train_text_conditioner", 60), ("train_text_encoder", 196)):
        found = forecast_of({"trained"}, machine, **{setting: True})
        parts = largest(found.memory["trained"], "train")
        there = text if setting == "train_text_encoder" else {"text conditioner"}
        assert text & parts.keys() == there
        before = largest(on_processor.memory["trained"], "train")
        assert not text & before.keys()
        assert all(parts[name] == pytest.approx(2e6 * WEIGHTS[name], rel=0.01) for name in there)
        assert parts["activations"] > before["activations"] + 2**20
        more = found.trained["trained"].layers - on_processor.trained["trained"].layers
        assert more == layers
        blocks = found.base.spec.text_linears
        counted = sum(row.component == setting.removeprefix("train_") for row in blocks)
        all_layers = on_processor.trained["trained"].all_layers
        assert found.trained["trained"].all_layers == all_layers + counted


def test_a_stage_that_does_not_fit_has_a_remedy(on_processor: Forecast) -> None:
    stage = on_processor.memory["trained"]
    assert stage.peak.name == "train" and stage.peak.largest == "activations"
    assert on_processor.remedy(stage) is None
    full = Machine("cpu", torch.float32, GIB // 2, 8 * GIB)
    found = replace(on_processor, machine=full)
    assert "bfloat16" in (found.remedy(stage) or "")
    full = Machine("cuda", torch.bfloat16, 0, 8 * GIB)
    found = replace(on_processor, machine=full)
    assert "gradient_checkpointing" in (found.remedy(stage) or "")


def test_activations_are_kept_only_where_there_is_room(on_processor: Forecast) -> None:
    small = forecast_of({"trained"}, Machine("cuda", torch.bfloat16, 0, 16 * GIB))
    stage = small.memory["trained"]
    kept = largest(on_processor.memory["trained"], "train")["activations"]
    assert largest(stage, "train")["activations"] < kept / 4
    assert "gradient_checkpointing" not in stage.remedy  # it is on
    assert not {"process", "heap"} & set(stage.peak.parts)  # a card has neither


def test_a_full_card_swaps_blocks_and_the_plan_says_so() -> None:
    stage = forecast_of({"trained"}, Machine("cuda", torch.bfloat16, 0, 6 * GIB)).memory["trained"]
    assert "gradient checkpointing" in stage.modes and "blocks swapped" in stage.modes
    parts = largest(stage, "train")
    assert parts["transformer"] < 2e6 * WEIGHTS["transformer"]
    assert sum(parts.values()) <= 0.85 * 6 * GIB  # the rest is for what is not counted
