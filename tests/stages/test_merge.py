"""The merge stage on LoRA files: exactness, names, histories and the traps that only files have."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onmodel.errors import InputError
from onmodel.hashing import read_json, sha256_file, write_json
from onmodel.ledger.lineage import add, check, ordered, root
from onmodel.lora import header
from onmodel.lora.tensors import Lora, read_lora, rescale
from onmodel.records import Artifact
from onmodel.release.history import experiments
from onmodel.stages import merge
from onmodel.stages.base import Inputs, write_models
from onmodel.weights import weights_sha256, write_weights
from tests.support.merge_inputs import (
    SPEC,
    deltas,
    difference,
    lora,
    merge_context,
    save,
)

Runner = Callable[..., tuple[Artifact, Lora]]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    def run(loras: Mapping[str, Lora | Artifact], **settings: Any) -> tuple[Artifact, Lora]:
        where = tmp_path / f"merge-{len(list(tmp_path.iterdir()))}"
        where.mkdir()
        artifacts = {
            n: one if isinstance(one, Artifact) else save(where, n, one) for n, one in loras.items()
        }
        table = merge.Settings.model_validate({"do": "merge", "models": list(loras), **settings})
        artifact = merge.run(Inputs(artifacts), table, merge_context(where / "scratch"))
        return artifact, read_lora(artifact.path / "merged.safetensors", SPEC)

    return run


def test_the_sum_is_exact_and_weights_go_by_name_or_place(run: Runner) -> None:
    a, b = lora(1), lora(2, rank=3)
    _, uniform = run({"a": a, "b": b})
    assert difference(uniform, deltas((a, 0.5), (b, 0.5))) < 1e-6
    artifact, by_name = run({"a": a, "b": b}, weights={"b@30": -0.25, "a@30": 1.5})
    assert difference(by_name, deltas((a, 1.5), (b, -0.25))) < 1e-6
    row = read_json(artifact.path / "models.json")[0]
    assert row == {
        "name": "merged",
        "epoch": None,
        "file": "merged.safetensors",
        "sha256": sha256_file(artifact.path / row["file"]),
        "weights": weights_sha256(artifact.path / row["file"]),
    }


def test_what_the_merge_says_of_itself(run: Runner) -> None:
    a, b = lora(1), lora(2)
    artifact, one = run({"a": a, "b": b, "a_again": a}, weights=[0.5, 0.5, 0.0], rank=4)
    report = read_json(artifact.path / "merge.json")
    assert report["rank"] == 4
    assert 0.5 < report["energy_kept"] < 1
    assert report["cosines"][0][2] == pytest.approx(1, abs=1e-5)
    assert abs(report["cosines"][0][1]) < 0.2
    size = np.sqrt(sum(float(d.norm()) ** 2 for d in deltas((a, 1.0)).values()))
    assert report["models"][0]["strength"] == pytest.approx(size, rel=1e-4)
    assert [row["weight"] for row in report["models"]] == [0.5, 0.5, 0.0]
    assert one.metadata["ss_network_dim"] == "4"
    assert one.metadata["modelspec.merged_from"] == "a@30, b@30, a_again@30"


def test_a_merge_inlines_its_parents_histories_and_invents_none(
    run: Runner, tmp_path: Path
) -> None:
    (tmp_path / "foreign").mkdir()
    stranger = save(tmp_path / "foreign", "stranger", lora(3), origin=False)
    artifact, one = run({"a": lora(1), "stranger": stranger})
    history = json.loads(one.metadata[header.RECIPE_KEY])
    check(history)
    assert history == read_json(artifact.path / "lineage.json")
    top = history[root(history)]
    assert top["type"] == "merge"
    first, second = (history[part["model"]] for part in top["parts"])
    assert first == {"type": "checkpoint", "used": [], "name": "a"}
    assert (second["type"], second["origin"], second["used"]) == ("model", "unknown", [])
    assert second["sha256"] == sha256_file(stranger.path / "model.safetensors")
    again, _ = run({"merged_1": artifact, "b": lora(4)})
    assert set(history) < set(read_json(again.path / "lineage.json"))
    assert len(ordered(read_json(again.path / "lineage.json"))) == 5


def test_a_selection_that_chose_the_inputs_is_part_of_the_history(
    run: Runner, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    one = save(tmp_path / "runs", "one", lora(1))
    two = save(tmp_path / "runs", "two", lora(2))
    five = tmp_path / "five"
    five.mkdir()
    rows = []
    for artifact in (one, two):
        file = f"{artifact.hash}.safetensors"
        (five / file).write_bytes((artifact.path / "model.safetensors").read_bytes())
        rows.append((f"{artifact.hash}@30", 30, file))
    write_models(five, rows)
    write_json(
        five / "lineage.json",
        add([add([], "evaluation", name="candidates")], "selection", chosen=2),
    )
    settings = merge.Settings(do="merge", models="five")
    artifact = merge.run(
        Inputs({"five": Artifact("selection", "five", five)}),
        settings,
        merge_context(tmp_path / "scratch"),
    )
    history = read_json(artifact.path / "lineage.json")
    used = sorted(history[id]["type"] for id in history[root(history)]["used"])
    assert used == ["checkpoint", "checkpoint", "selection"]


def test_the_same_merge_is_the_same_file(run: Runner) -> None:
    first, _ = run({"a": lora(1), "b": lora(2)}, rank=4)
    second, _ = run({"a": lora(1), "b": lora(2)}, rank=4)
    assert first.hash == second.hash


def test_trap_3_alpha_comes_from_the_parents(run: Runner) -> None:
    """alpha / rank stays 1/8 through any change of rank, and training finds balanced factors of the
    parents' size."""
    a, b = lora(1, rank=8, alpha=1.0), lora(2, rank=8, alpha=1.0)
    for rank in (None, 4):
        _, one = run({"a": a, "b": b}, rank=rank)
        merged_rank = next(iter(one.modules.values())).rank
        assert one.trained_alpha == pytest.approx(merged_rank / 8)
    rank_alphas = dict.fromkeys(one.modules, (4, one.trained_alpha or 0))
    trained = rescale(one, rank_alphas, seed=0).modules["blocks.0.mlp.layer1"]
    assert torch.allclose(trained.up.norm(dim=0), trained.down.norm(dim=1), rtol=1e-4)
    _, chosen = run({"a": a, "b": b}, rank=4, alpha=4.0)
    assert chosen.trained_alpha == 4.0
    assert difference(chosen, {n: f.delta() for n, f in one.modules.items()}) < 1e-5


def test_trap_8_a_layer_that_an_input_lacks_is_zero_there(run: Runner) -> None:
    few = lora(1, names=("blocks.0.mlp.layer1", "blocks.1.mlp.layer1"))
    _, one = run({"few": few, "all": lora(2)}, weights=[1.0, 0.5], rank=4)
    assert set(one.modules) == {linear.name for linear in SPEC.linears}
    _, exact = run({"few": few, "all": lora(2)}, weights=[1.0, 0.5])
    assert difference(exact, deltas((few, 1.0), (lora(2), 0.5))) < 1e-6


def test_trap_8_what_is_not_a_plain_lora_stops_the_merge(run: Runner, tmp_path: Path) -> None:
    for key, said in (
        ("diffusion_model.blocks.0.mlp.layer1.dora_scale", "DoRA"),
        ("diffusion_model.blocks.0.odd.lora_A.weight", "unknown"),
    ):
        folder = tmp_path / said
        folder.mkdir()
        name = "diffusion_model.blocks.0.mlp.layer1.lora_"
        tensors = {
            f"{name}A.weight": torch.ones(2, 16),
            f"{name}B.weight": torch.ones(24, 2),
            key: torch.ones(24),
        }
        write_weights(folder / "model.safetensors", tensors, {})
        write_models(folder, [("odd", None, "model.safetensors")])
        with pytest.raises(InputError, match=said):
            run({"a": lora(1), "odd": Artifact("run", "odd", folder)})


def test_trap_9_every_layout_names_the_same_layers(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    kohya = save(tmp_path / "other", "kohya", lora(2), origin=False, layout="kohya")
    _, mixed = run({"a": lora(1), "kohya": kohya})
    assert difference(mixed, deltas((lora(1), 0.5), (lora(2), 0.5))) < 1e-6


def test_methods_blocks_and_sizes_of_a_recipe(run: Runner) -> None:
    a, b = lora(1), lora(2)
    artifact, one = run({"a": a, "b": b}, method="ema", decay=0.5, energy=0.9)
    report = read_json(artifact.path / "merge.json")
    assert [row["weight"] for row in report["models"]] == pytest.approx([1 / 3, 2 / 3])
    assert report["energy_kept"] >= 0.9 - 1e-6
    assert set(report["ranks"]) == set(one.modules)
    _, blocks = run({"a": a, "b": b}, blocks={"1": 0.0, "a@30:mlp": 3.0}, weights=[1.0, 1.0])
    wanted = {
        name: delta * ("blocks.1" not in name) for name, delta in deltas((a, 1.0), (b, 1.0)).items()
    }
    wanted["blocks.0.mlp.layer1"] = (
        3 * a.modules["blocks.0.mlp.layer1"].delta() + b.modules["blocks.0.mlp.layer1"].delta()
    )
    for name, delta in wanted.items():
        assert torch.allclose(blocks.modules[name].delta(), torch.as_tensor(delta), atol=1e-5)
    for settings, said in (
        ({"method": "tie"}, "known: weighted"),
        ({"rank": 4, "energy": 0.9}, "choose one"),
    ):
        with pytest.raises(InputError, match=said):
            run({"a": a, "b": b}, **settings)


def test_one_model_is_no_merge_unless_its_weight_is_given(run: Runner) -> None:
    with pytest.raises(InputError, match="at least two models, or the weight of one"):
        run({"a": lora(1)})
    artifact, scaled = run({"a": lora(1)}, weights=[0.6])
    assert difference(scaled, deltas((lora(1), 0.6))) < 1e-6
    assert {one.rank for one in scaled.modules.values()} == {4} and scaled.trained_alpha == 2.0
    lineage = read_json(artifact.path / "lineage.json")
    assert experiments(lineage)[-1] == "`merged` is `a@30` times 0.6."


def test_a_foreign_merge_claims_no_resolution(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    strangers = {n: save(tmp_path / "other", n, lora(i), origin=False) for i, n in enumerate("xy")}
    _, one = run(strangers)
    assert "modelspec.resolution" not in one.metadata
