"""The train stage on a tiny Anima: what it writes, and that a kill at any moment changes
nothing."""

import itertools
import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import safe_open

from onmodel.errors import InputError, SpaceError, StateError
from onmodel.families.anima.family import Anima
from onmodel.families.registry import load_base
from onmodel.hashing import read_json, sha256_file
from onmodel.ledger.lineage import check, root
from onmodel.lora.header import LIMIT, lineage_of
from onmodel.lora.tensors import Factors, Lora, read_lora, write_lora
from onmodel.records import Artifact
from onmodel.stages import curate, train
from onmodel.stages.base import Context, Inputs, Plan, read_models, write_models
from onmodel.toon.datasets import write_set
from onmodel.train import live, loop
from onmodel.weights import payload_sha256, read_metadata
from tests.support.contexts import context, said

TABLE: dict[str, Any] = {
    "do": "train",
    "dataset": "data",
    "data": [{"subset": "base", "repeats": 2}, {"subset": "fine"}],
    "epochs": 3,
    "learning_rate": 5e-3,
    "rank": 2,
    "alpha": 2,
    "batch": 4,
    "resolution": 64,
    "precision": "fp32",
    "keep_every": 2,
}
STEPS = 9  # three an epoch: 2·3 + 2 showings in two or three sizes


@pytest.fixture(scope="module")
def family(tiny_anima: Path) -> Anima:
    return load_base({"family": "anima", "folder": tiny_anima, "device": "cpu"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    table = {
        "do": "curate",
        "heldout": 0.3,
        "subsets": {
            "base": [{"toon": "backgwa_base", "count": 4}],
            "fine": [{"toon": "refinement", "count": 3}],
        },
    }
    where = context(tmp_path_factory.mktemp("data"), lambda: None, "data")
    return curate.run(Inputs({}), curate.Settings.model_validate(table), where)


Run = Callable[..., Artifact]


@pytest.fixture
def run(tmp_path: Path, family: Anima, data: Artifact, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the stage in a scratch folder of this name, with changes of the settings."""
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    monkeypatch.setattr(
        live, "SAVING_SHARE", math.inf
    )  # saves as soon as it may, whatever that costs

    def run(
        scratch: str = "run",
        others: dict[str, Artifact] | None = None,
        where: Context | None = None,
        **changes: Any,
    ) -> Artifact:
        settings = train.Settings.model_validate(TABLE | changes)
        where = where or context(tmp_path / scratch, lambda: family, "look")
        return train.run(Inputs({"data": data, **(others or {})}), settings, where)

    return run


def test_what_it_writes(run: Run, data: Artifact, family: Anima) -> None:
    artifact = run()
    assert artifact.kind == "run"
    models = read_models(artifact)
    assert [(m.name, m.epoch, m.path.name) for m in models] == [
        ("look@2", 2, "epoch-0002.safetensors"),
        ("look@3", 3, "epoch-0003.safetensors"),
    ]
    rows = [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows if "heldout" in row] == [6, 9]
    facts = read_json(artifact.path / "run.json")
    assert (
        facts["exposures"] == {"base": 6, "fine": 3}
        and facts["steps"] == STEPS
        and facts["layers"] == 20
    )
    assert facts["pictures"] == {
        "base": {"train": 3, "heldout": 1},
        "fine": {"train": 2, "heldout": 1},
    }

    for model in models:
        words = read_metadata(model.path)
        assert words["ss_epoch"] == str(model.epoch) and words["ss_steps"] == str(3 * model.epoch)
        assert words["ss_network_dim"] == "2" and words["ss_network_alpha"] == "2"
        assert (
            words["ss_base_model_version"] == "anima"
            and words["modelspec.trigger_phrase"] == "backgwa"
        )
        assert words["ss_num_train_images"] == "8" and "modelspec.date" not in words
        assert json.loads(words["ss_tag_frequency"])["base"]["backgwa"] == 3
        assert sum(map(len, itertools.chain(*words.items()))) < LIMIT
        assert words["onmodel.payload_sha256"] == payload_sha256(model.path)
        assert words["modelspec.hash_sha256"] == f"0x{payload_sha256(model.path)}"
        assert not any(
            str(artifact.path.parent) in value or "prediction" in key
            for key, value in words.items()
        )
        lineage = lineage_of(read_lora(model.path, family.spec).metadata, model.sha256)
        node = lineage[root(lineage)]
        assert (node["type"], node["epoch"], node["payload_sha256"]) == (
            "checkpoint",
            model.epoch,
            payload_sha256(model.path),
        )
        assert words["onmodel.dataset_root"] == next(
            n["root"] for n in lineage.values() if n["type"] == "dataset"
        )
        assert {n["type"] for n in lineage.values()} == {
            "base",
            "character",
            "checkpoint",
            "code",
            "dataset",
            "environment",
            "recipe",
            "run",
        }
        with safe_open(model.path, "pt") as file:
            keys = file.keys()
        assert len(keys) == 40 and all(
            key.startswith("diffusion_model.blocks.") and ".lora_" in key for key in keys
        )
    whole = read_json(artifact.path / "lineage.json")
    check(whole)
    assert len(whole[root(whole)]["used"]) == 2


def test_it_learns_and_leaves_the_base_alone(run: Run, family: Anima) -> None:
    before = {name: parameter.clone() for name, parameter in family.backbone.named_parameters()}
    artifact = run(epochs=30, keep_every=10)
    after = dict(family.backbone.named_parameters())
    assert after.keys() == before.keys() and all(
        torch.equal(after[name], before[name]) for name in before
    )
    rows = [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows]
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    heldout = [row["heldout"] for row in rows if "heldout" in row]
    assert len(heldout) == 3 and heldout[-1] < heldout[0]


def test_the_same_recipe_gives_the_same_bytes(run: Run) -> None:
    first = run("a")
    assert run("b").hash == first.hash
    assert run("c", learning_rate=4e-3).hash != first.hash
    weights = [
        payload_sha256(read_models(run(*args, **kw))[-1].path)
        for args, kw in (
            (("d",), {}),
            (("e",), {"gradient_checkpointing": True}),
            (("f",), {"keep_every": 1}),
        )
    ]
    assert len(set(weights)) == 1


class Stop(Exception):
    """The run ends here."""


def stopped(run: Run, scratch: str, at: int, **changes: Any) -> Artifact | None:
    """Run until the optimizer is to take the `at`-th step of this attempt (from 0); None if it was
    stopped."""
    step = torch.optim.AdamW.step
    count = itertools.count()

    def stop(self: torch.optim.AdamW, *args: Any) -> Any:
        if next(count) == at:
            raise Stop
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        try:
            return run(scratch, **changes)
        except Stop:
            return None


@pytest.mark.parametrize("epochs", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_stopped_at_every_step_it_ends_the_same(run: Run, epochs: int) -> None:
    whole = run("whole", epochs=epochs)
    for stop_at in range(STEPS // 3 * epochs):
        assert stopped(run, f"at {stop_at}", stop_at, epochs=epochs) is None
        assert run(f"at {stop_at}", epochs=epochs).hash == whole.hash, stop_at


def test_stopped_again_and_again_it_ends_the_same(run: Run) -> None:
    whole = run("whole")
    attempts = [artifact for _ in range(STEPS) if (artifact := stopped(run, "broken", at=2))]
    assert {artifact.hash for artifact in attempts} == {whole.hash}


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_the_same(run: Run, tmp_path: Path, kills: int) -> None:
    started = time.monotonic()
    whole = run("whole")
    seconds = time.monotonic() - started
    rng = np.random.default_rng(kills)
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            try:
                run("killed")
            finally:
                os._exit(0)
        time.sleep(float(rng.uniform(0.05, 0.9)) * seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for path in (tmp_path / "killed").rglob("*.safetensors"):
            with safe_open(path, "pt") as file:
                assert file.keys()
    assert run("killed").hash == whole.hash
    assert not [
        path for path in (tmp_path / "killed").rglob("*") if path.name.startswith(".onmodel-")
    ]


def test_damaged_state_stops_the_run_and_is_named(run: Run, tmp_path: Path) -> None:
    stopped(run, "run", at=8)
    names = [
        "state.json",
        "latents.json",
        "state-*.safetensors",
        "latents-*.safetensors",
        "out/epoch-0002.safetensors",
    ]
    for name in names:
        (path,) = (tmp_path / "run").glob(name)
        data = path.read_bytes()
        for position in (len(data) // 3, len(data) - 10):
            path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            with pytest.raises(StateError, match=path.name):
                run()
        path.unlink()
        if not name.endswith(".json"):
            with pytest.raises(StateError, match=path.name):
                run()
        path.write_bytes(data)
    assert run().hash == run("whole").hash


def test_a_full_disk_pauses_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped(run, "run", at=5)
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(SpaceError):
            run()
    assert {
        path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()
    } == kept
    assert run().hash == run("whole").hash


def test_start_keeps_the_change_of_the_base(run: Run, family: Anima, tmp_path: Path) -> None:
    first = run("first", targets="attention_mlp_adaln")
    before = read_lora(read_models(first)[0].path, family.spec)
    where = context(tmp_path / "second", lambda: family, "look")
    second = run(
        where=where,
        others={"first": first},
        start="first@2",
        rank=5,
        alpha=1,
        learning_rate=1e-12,
        weight_decay=0,
    )
    after = read_lora(read_models(second)[-1].path, family.spec)
    assert after.modules.keys() == before.modules.keys() and len(after.modules) == 32
    for name, factors in after.modules.items():
        assert factors.rank == 5
        assert torch.allclose(factors.delta(), before.modules[name].delta(), atol=1e-6)
    assert after.trained_alpha == 1
    assert "rank 2, alpha 2 → rank 5, alpha 1" in said(where) and "12 layers beyond" in said(where)
    lineage = lineage_of(after.metadata, "")
    assert set(lineage_of(before.metadata, "")) < set(lineage)
    assert sum(node["type"] == "checkpoint" for node in lineage.values()) == 2


def test_start_from_elsewhere_has_an_unknown_origin(
    run: Run, family: Anima, tmp_path: Path
) -> None:
    first = run("first")
    model = read_models(first)[-1]
    write_lora(model.path, Lora(read_lora(model.path, family.spec).modules), {})
    write_models(first.path, [("first@3", 3, model.path.name)])
    second = run("second", {"first": first}, start="first")
    lineage = read_json(second.path / "lineage.json")
    (node,) = [node for node in lineage.values() if node.get("origin") == "unknown"]
    assert node["sha256"] == sha256_file(model.path)


def test_start_with_text_layers_is_refused(run: Run, family: Anima) -> None:
    first = run("first")
    model = read_models(first)[-1]
    row = family.spec.text_linears[0]
    factors = Factors(torch.ones(1, row.in_features), torch.ones(row.out_features, 1), 1.0)
    modules = read_lora(model.path, family.spec).modules
    write_lora(model.path, Lora({**modules, row.name: factors}), {})
    with pytest.raises(InputError, match="changes 1 layers of the text_conditioner, which are not"):
        run("second", {"first": first}, start="first")


def test_start_of_a_higher_rank_is_refused(run: Run) -> None:
    first = run("first")
    with pytest.raises(InputError, match="merge it to 1 first"):
        run("second", {"first": first}, start="first", rank=1)


def test_forms_of_captions(run: Run) -> None:
    hashes = {run(form, caption=form, epochs=1).hash for form in ("tags", "sentence", "both")}
    hashes.add(run("thin", tag_dropout=0.5, caption_dropout=0.5, epochs=1).hash)
    assert len(hashes) == 4


def test_without_validation(run: Run, tmp_path: Path, family: Anima) -> None:
    where = context(tmp_path / "x", lambda: family, "look")
    rows = (run(where=where, validation=False, epochs=1).path / "metrics.jsonl").read_text()
    assert "heldout" not in rows and "held" not in said(where)


def test_wrong_data(run: Run, tmp_path: Path, data: Artifact) -> None:
    with pytest.raises(InputError, match=r"data\.subset: bas — subsets of data: base, fine"):
        run(data=[{"subset": "bas"}])
    manifest = read_json(data.path / "manifest.json")
    for name, change, message in (
        ("a", {"split": "heldout"}, "all its pictures are held out"),
        ("b", {"sentence": ""}, "sentence"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        rows = [item | change for item in manifest["items"]]
        (folder / "manifest.json").write_text(json.dumps(manifest | {"items": rows}))
        with pytest.raises(InputError, match=message):
            run(others={"data": Artifact("dataset", "x", folder)}, caption="sentence")


def test_a_diverging_run_is_told(run: Run) -> None:
    with pytest.raises(InputError, match=r"learning_rate: .* not finite at step"):
        run(learning_rate=1e30, grad_clip=0, epochs=20)


def test_a_training_that_learns_nothing_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "batch_weights", lambda examples, own: torch.zeros(len(own), 1, 1, 1))
    with pytest.raises(InputError, match=r"loss: 0 .* nothing is learnt"):
        run(epochs=20)


def test_layers_without_a_gradient_are_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(*arguments: Any) -> float:
        loss = fill_gradient(*arguments)
        arguments[1].gradient.zero_()
        return loss

    fill_gradient = loop.fill_gradient
    monkeypatch.setattr(loop, "fill_gradient", dead)
    with pytest.raises(InputError, match=r"targets: .* nothing is learnt"):
        run(epochs=20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "Extra inputs"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"learning_rate": -1}, "greater than 0"),
        ({"caption": "prose"}, "'tags', 'sentence' or 'both'"),
        ({"data": []}, "at least 1"),
        ({"data": [{"subset": "base"}, {"subset": "base", "repeats": 2}]}, "names 'base' 2 times"),
        ({"timesteps": {"kind": "sigmoid"}}, "logit_normal"),
        ({"tag_dropout": 1.0}, "less than 1"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        train.Settings.model_validate(TABLE | changes)


def test_plan() -> None:
    settings = train.Settings.model_validate(
        TABLE
        | {
            "start": "old@3",
            "data": [{"subset": "a", "repeats": 4}, {"subset": "b", "stage": "more"}],
        }
    )
    assert settings.needs() == ["data", "more", "old@3"]
    plan = train.estimate(
        settings, {"data": Plan(counts={"a": 10}), "more": Plan(counts={"b": 3}), "old": Plan()}
    )
    assert plan == Plan(steps=33, exposures={"a": 12, "more/b": 3}, models=2, epochs=[2, 3])
    everything = train.Settings.model_validate(TABLE | {"data": None})
    said = Plan(
        counts={"a": 10, "b": 3, "held": 4},
        shown={"a": {"repeats": 5, "resolution": [64, 96]}},
        heldout=["held"],
    )
    assert train.estimate(everything, {"data": said}) == Plan(
        steps=78, exposures={"a": 30, "b": 3}, models=2, epochs=[2, 3]
    )
    with pytest.raises(InputError, match="dataset: data — has no subset to train on"):
        train.estimate(everything, {"data": Plan()})
    with pytest.raises(InputError, match="subsets of more: c"):
        train.estimate(settings, {"data": Plan(counts={"a": 10}), "more": Plan(counts={"c": 3})})


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A data set as sd-scripts describes it: masks, flips, repeats, regularisation."""
    folder = tmp_path_factory.mktemp("foreign")
    write_set("backgwa_base", folder / "mine", count=4)
    write_set("preview", folder / "reg", count=2)
    (folder / "mine" / "000.txt").write_text("1girl, backgwa, 猫, " + "b " * 600)
    (folder / "masks").mkdir()
    for path in (folder / "mine").glob("*.png"):
        mask = Image.new("L", Image.open(path).size, 0)
        mask.paste(255, (0, 0, mask.width // 2, mask.height))
        mask.save(folder / "masks" / path.name)
    (folder / "dataset.toml").write_text("""
[general]
enable_bucket = true
bucket_no_upscale = true
caption_extension = ".txt"
[[datasets]]
resolution = 64
[[datasets.subsets]]
image_dir = "mine"
num_repeats = 2
flip_aug = true
conditioning_data_dir = "masks"
[[datasets.subsets]]
is_reg = true
image_dir = "reg"
""")
    table = {"do": "curate", "dataset_config": folder / "dataset.toml"}
    where = context(folder / "data", lambda: None, "data")
    return curate.run(Inputs({}), curate.Settings.model_validate(table), where)


def test_a_data_set_says_how_it_is_shown(
    run: Run, foreign: Artifact, tmp_path: Path, family: Anima
) -> None:
    where = context(tmp_path / "run", lambda: family, "look")
    artifact = run(where=where, others={"data": foreign}, data=None, resolution=96, caption="tags")
    facts = read_json(artifact.path / "run.json")
    assert facts["exposures"] == {"mine": 6, "reg": 12}
    mine, reg = facts["shares"]
    assert (
        mine["flip"] and mine["repeats"] == 2 and mine["resolution"] == 64 and mine["stage"] is None
    )
    assert reg["regularisation"] and reg["repeats"] == 4  # four pictures twice, two to match them
    pictures = read_json(artifact.path / "pictures.json")
    assert {row["file"]: row["exposures"] for row in pictures if row["subset"] == "mine"} == {
        f"00{i}.png": 6 for i in range(4)
    }
    assert all(
        max(row["bucket"]) < 96 and row["mask"] == (row["subset"] == "mine") for row in pictures
    )
    told = said(where)
    assert (
        "mine: 4 pictures, each seen 6 times (2 repeats × 3 epochs), mirrored half the time, 4"
        " masks" in told
    )
    assert "cut away to fit them" in told
    assert "000.png:" in told and "tokens" not in told and "does not know 猫" in told
    words = read_metadata(read_models(artifact)[-1].path)
    assert words["ss_num_train_images"] == "8" and words["ss_num_reg_images"] == "8"


def test_a_share_may_say_otherwise(run: Run, foreign: Artifact) -> None:
    data = [{"subset": "mine", "repeats": 1, "flip": False, "resolution": [48, 64]}]
    artifact = run(others={"data": foreign}, data=data, epochs=1)
    facts = read_json(artifact.path / "run.json")
    assert facts["exposures"] == {"mine": 2} and facts["pictures"] == {
        "mine": {"train": 4, "heldout": 0}
    }
    assert {row["exposures"] for row in read_json(artifact.path / "pictures.json")} == {1}
    plan = train.estimate(
        train.Settings.model_validate(TABLE | {"data": data, "epochs": 1}),
        {"data": Plan(counts={"mine": 4})},
    )
    assert plan.exposures == {"mine": 2} and plan.steps == 2


def test_pictures_that_count_nothing_teach_nothing(run: Run, foreign: Artifact) -> None:
    """Weight 0, whether said of a subset or of regularisation."""
    settings: dict[str, dict[str, Any]] = {
        "weight": {"data": [{"subset": "mine", "loss_weight": 0}]},
        "prior": {"data": [{"subset": "reg"}], "prior_weight": 0},
    }
    for name, changes in settings.items():
        with pytest.raises(InputError, match=r"loss: 0 .* nothing is learnt"):
            run(name, {"data": foreign}, epochs=1, **changes)
    run("half", {"data": foreign}, epochs=1, data=[{"subset": "reg"}], prior_weight=0.5)


def test_masks_and_flips_change_what_is_learnt_and_stop_nothing(
    run: Run, foreign: Artifact
) -> None:
    whole = run("whole", {"data": foreign}, data=None)
    assert stopped(run, "broken", at=4, others={"data": foreign}, data=None) is None
    assert run("broken", {"data": foreign}, data=None).hash == whole.hash
    other = run(
        "other", {"data": foreign}, data=[{"subset": "mine", "flip": False}, {"subset": "reg"}]
    )
    assert payload_sha256(read_models(other)[-1].path) != payload_sha256(
        read_models(whole)[-1].path
    )
