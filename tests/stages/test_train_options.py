"""What a recipe can set about a training: each setting does what it says, and stopping changes
nothing under any."""

import dataclasses
import functools
import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from onmodel.errors import InputError, PausedError
from onmodel.families.anima.family import Anima
from onmodel.families.registry import load_base
from onmodel.hashing import read_json
from onmodel.lora.tensors import Factors, Lora, change_weight, read_lora, write_lora
from onmodel.randomness import normal
from onmodel.records import Artifact
from onmodel.stages import curate, import_lora, train
from onmodel.stages.base import Context, Inputs, Plan, read_models
from onmodel.train import checkpointing, loop, optimizers
from onmodel.weights import payload_sha256
from tests.support.contexts import context, said

TABLE: dict[str, Any] = {
    "do": "train",
    "dataset": "data",
    "data": [{"subset": "base", "repeats": 2}],
    "epochs": 2,
    "validation": False,
    "learning_rate": 5e-3,
    "rank": 2,
    "alpha": 2,
    "batch": 2,
    "resolution": 64,
    "precision": "fp32",
    "gradient_checkpointing": False,
    "targets": ["*.cross_attn.q_proj", "*.mlp.layer1"],
}
Run = Callable[..., Artifact]


@pytest.fixture(scope="module")
def family(tiny_anima: Path) -> Anima:
    return load_base({"family": "anima", "folder": tiny_anima, "device": "cpu"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    table = {
        "do": "curate",
        "heldout": 0.4,
        "subsets": {"base": [{"toon": "backgwa_base", "count": 4}]},
    }
    where = context(tmp_path_factory.mktemp("data"), lambda: None, "data")
    return curate.run(Inputs({}), curate.Settings.model_validate(table), where)


@pytest.fixture
def run(tmp_path: Path, family: Anima, data: Artifact, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)

    def run(
        scratch: str = "run",
        where: Context | None = None,
        old: Artifact | None = None,
        **changes: Any,
    ) -> Artifact:
        start, inputs = ({}, {}) if old is None else ({"start": "old"}, {"old": old})
        settings = train.Settings.model_validate(TABLE | start | changes)
        where = where or context(tmp_path / scratch, lambda: family, "look")
        return train.run(Inputs({"data": data, **inputs}), settings, where)

    return run


@pytest.fixture(scope="module")
def plain(
    tmp_path_factory: pytest.TempPathFactory, family: Anima, data: Artifact
) -> dict[str, Any]:
    """The run without any option: its weights and its learning rates."""
    where = context(tmp_path_factory.mktemp("plain"), lambda: family, "look")
    artifact = train.run(Inputs({"data": data}), train.Settings.model_validate(TABLE), where)
    return {"weights": weights(artifact), "rows": metrics(artifact)}


def weights(artifact: Artifact) -> str:
    return payload_sha256(read_models(artifact)[-1].path)


def metrics(artifact: Artifact) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]


OPTIONS: dict[str, dict[str, Any]] = {
    "dora": {"network": "dora"},
    "lokr": {"network": "lokr", "lokr_factor": 4},
    "rslora": {"rslora": True},
    "ranks": {"ranks": [{"layers": "blocks.1.*", "rank": 4}]},
    "prodigy": {"optimizer": "prodigy", "learning_rate": 1.0},
    "prodigy faster": {
        "optimizer": "prodigy",
        "learning_rate": 1.0,
        "optimizer_args": {"d_coef": 3.0, "d0": 1e-4},
    },
    "adafactor": {"optimizer": "adafactor"},
    "came": {"optimizer": "came"},
    "betas": {"optimizer_args": {"betas": [0.5, 0.9]}},
    "weight decay": {"weight_decay": 0.5},
    "accumulation": {"gradient_accumulation": 2},
    "ema": {"ema": 0.9},
    "linear": {"schedule": "linear"},
    "restarts": {"schedule": "cosine_with_restarts", "cycles": 2},
    "warm-up": {"warmup": 2},
    "clipping": {"grad_clip": 0.01},
    "mean and std": {"timesteps": {"mean": 1.0, "std": 0.5}},
    "shift": {"timesteps": {"shift": 3.0}},
    "uniform": {"timesteps": {"kind": "uniform"}},
    "sigma_sqrt": {"loss_weighting": "sigma_sqrt"},
    "cosmap": {"loss_weighting": "cosmap"},
    "min_snr": {"loss_weighting": "min_snr"},
    "saved in bf16": {"save_precision": "bf16"},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_an_option_does_something(run: Run, plain: dict[str, Any], changes: dict[str, Any]) -> None:
    assert weights(run(**changes)) != plain["weights"]


class Stop(Exception):
    """The run ends here."""


def stopped(run: Run, scratch: str, **changes: Any) -> Artifact | None:
    """Take one step, and die in the next one."""
    clip, count = loop.clip_gradient, itertools.count()

    def stop(*args: Any) -> float:
        if next(count) == 1:
            raise Stop
        return clip(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "clip_gradient", stop)
        try:
            return run(scratch, **changes)
        except Stop:
            return None


RESUMED = ("dora", "lokr", "prodigy faster", "adafactor", "came", "betas")


@pytest.mark.parametrize("name", RESUMED)
def test_stopped_at_every_step_it_ends_the_same(run: Run, name: str) -> None:
    changes = OPTIONS[name] | {
        "ema": 0.9,
        "gradient_accumulation": 2,
        "batch": 1,
        "schedule": "linear",
    }
    whole, count = run("whole", **changes), 0
    while (artifact := stopped(run, "broken", **changes)) is None:
        count += 1
        assert count < 20
    assert artifact.hash == whole.hash and count == len(metrics(whole)) - 1 >= 3


def test_8bit_adamw_is_resumed_exactly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    row = dataclasses.replace(
        optimizers.OPTIMIZERS["adamw_8bit"], cuda=False
    )  # it also works on a CPU, slowly
    monkeypatch.setitem(optimizers.OPTIMIZERS, "adamw_8bit", row)
    changes = {"optimizer": "adamw_8bit", "optimizer_args": {"min_8bit_size": 64}}
    whole = run("whole", **changes)
    while (artifact := stopped(run, "broken", **changes)) is None:
        pass
    assert artifact.hash == whole.hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimizer": "adamw_8bit"},
            "optimizer: adamw_8bit — needs an NVIDIA card, this run is on cpu",
        ),
        ({"optimizer_args": {"beta": [0.9, 0.99]}}, "optimizer_args: beta — did you mean 'betas'"),
        ({"optimizer_args": {"lr": 1}}, "optimizer_args: lr — is set by learning_rate"),
        ({"optimizer_args": {"eps": -1.0}}, "optimizer_args: .*epsilon"),
        ({"optimizer_args": {"eps": "1e-8"}}, "eps = '1e-8' — write a number without quotes"),
        ({"optimizer_args": {"betas": "0.9,0.99"}}, r"betas = \[0.9, 0.999\]"),
        ({"optimizer_args": {"betas": ["0.9", "0.99"]}}, "write 2 numbers without quotes"),
        ({"optimizer_args": {"amsgrad": "True"}}, "amsgrad = 'True' — write true or false"),
        ({"targets": ["*.mlp.layer3"]}, r"targets: \*\.mlp\.layer3 — matches no layer"),
        (
            {"targets": "attention"},
            "targets: attention — anima has attention_mlp, attention_mlp_adaln",
        ),
        (
            {"ranks": [{"layers": "*.self_attn.*", "rank": 4}]},
            "ranks.layers: .* matches no layer of targets",
        ),
        ({"preview": {"prompts": ["1girl, loli, nude"]}}, "preview.prompts"),
    ],
)
def test_what_cannot_be_is_said(run: Run, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(**changes)


def test_a_missing_package_is_named_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = train.Settings.model_validate(TABLE | {"optimizer": "prodigy"})
    monkeypatch.setitem(
        optimizers.OPTIMIZERS,
        "prodigy",
        optimizers.OptimizerSpec("no_such", "X", "", True, sum, extra="optimizers"),
    )
    with pytest.raises(
        InputError, match=r"prodigy — needs one more package: pip install 'onmodel\[optimizers\]'"
    ):
        train.estimate(settings, {"data": Plan(counts={"base": 4})})


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, ""),
        ({"optimizer": "prodigy", "learning_rate": 2e-5}, "write learning_rate = 1.0"),
        ({"optimizer": "prodigy", "learning_rate": 1.0}, ""),
        ({"warmup": 100}, "reaches 8% of 0.005"),
        ({"caption_dropout": 1.0}, "no caption is ever shown"),
        ({"preview": {"prompts": ["a", "b"], "negative": "embedding:x"}}, "embedding:x is read as"),
        ({"preview": {"prompts": ["<lora:x:1> a"] * 2}}, "preview: <lora:x:1> is read as words"),
        ({"caption": "both"}, ""),
    ],
)
def test_settings_under_which_little_is_learnt_are_told_in_the_plan(
    changes: dict[str, Any], note: str
) -> None:
    settings = train.Settings.model_validate(TABLE | changes)
    notes = train.estimate(settings, {"data": Plan(counts={"base": 4})}).notes
    assert len(notes) == bool(note) and note in "".join(notes)


def test_lines_that_are_never_shown_are_told_in_the_plan() -> None:
    plan = {"data": Plan(counts={"base": 4}, sentences={"base": 3})}
    (note,) = train.estimate(train.Settings.model_validate(TABLE), plan).notes
    assert note.startswith("base: 3 captions have further lines")
    both = train.Settings.model_validate(TABLE | {"caption": "both"})
    assert not train.estimate(both, plan).notes


@pytest.mark.parametrize(
    ("plan", "data", "message"),
    [
        (Plan(counts={"base": 4}, heldout=["base"]), {}, "data.subset: base — is held out as a"),
        (Plan(counts={"base": 4}), {"loss_weight": 0}, "loss_weight: 0 — nothing is learnt"),
    ],
)
def test_a_training_that_cannot_learn_is_refused_in_the_plan(
    plan: Plan, data: dict[str, Any], message: str
) -> None:
    table = TABLE | {"data": [{"subset": "base", **data}]}
    with pytest.raises(InputError, match=message):
        train.estimate(train.Settings.model_validate(table), {"data": plan})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep_best": 1}, "set validation = true"),
        ({"cycles": 3}, "cycles belong to"),
        ({"lokr_factor": 4}, "belongs to network"),
        ({"timesteps": {"kind": "uniform", "std": 2.0}}, "uniform times have none"),
        ({"optimizer_args": ["eps=1"]}, r"write a table, e.g. \{ betas"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"learning_rate": float("inf")}, "finite"),
        ({"optimizer": "adam"}, "'adamw', 'adamw_8bit', 'prodigy', 'adafactor' or 'came'"),
        ({"ema": 1.0}, "less than 1"),
        ({"network": "lokr", "start": "old"}, "a LoKr begins at nothing"),
    ],
)
def test_an_idle_setting_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        train.Settings.model_validate(TABLE | changes)


def test_held_out_loss_depends_on_the_weights_alone(run: Run) -> None:
    """Neither captions' dropout, nor the drawing of times, nor weighting, batch or seed of the
    training moves it."""
    still = {"learning_rate": 1e-30, "weight_decay": 0.0, "validation": True, "epochs": 1}
    rows = metrics(run("a", **still))
    others = {
        "caption_dropout": 0.9,
        "timesteps": {"kind": "uniform"},
        "loss_weighting": "cosmap",
        "batch": 1,
    }
    again = metrics(run("b", **still, **others))
    assert [row["loss"] for row in rows] != [row["loss"] for row in again]
    assert again[-1]["heldout_quartiles"] == pytest.approx(rows[-1]["heldout_quartiles"], rel=1e-5)
    assert len(set(rows[-1]["heldout_quartiles"])) == 4
    assert rows[-1]["heldout"] == pytest.approx(np.mean(rows[-1]["heldout_quartiles"]))


def test_with_ema_both_losses_are_measured(run: Run, family: Anima) -> None:
    averaged, raw = run("a", ema=0.9, validation=True), run("b", validation=True)
    assert [row["heldout_without_ema"] for row in metrics(averaged)[1::2] if "heldout" in row] == [
        row["heldout"] for row in metrics(raw)[1::2] if "heldout" in row
    ]
    assert metrics(averaged)[-1]["heldout"] != metrics(raw)[-1]["heldout"]
    assert "heldout_without_ema" not in metrics(raw)[-1]


def test_only_the_last_and_the_best_checkpoints_stay(run: Run) -> None:
    changes = {
        "epochs": 5,
        "keep_last": 2,
        "keep_best": 1,
        "validation": True,
        "learning_rate": 0.05,
    }
    artifact = run("whole", **changes)
    rows = [row for row in metrics(artifact) if "heldout" in row]
    best = min(rows, key=lambda row: row["heldout"])["epoch"]
    kept = [model.epoch for model in read_models(artifact)]
    assert kept == sorted({best, 4, 5})
    assert sorted(path.name for path in artifact.path.glob("*.safetensors")) == [
        f"epoch-{e:04d}.safetensors" for e in kept
    ]
    while (again := stopped(run, "broken", **changes)) is None:
        pass
    assert again.hash == artifact.hash
    settings = train.Settings.model_validate(TABLE | changes)
    assert train.estimate(settings, {"data": Plan(counts={"base": 4})}).models == 3
    assert [
        model.epoch for model in read_models(run("best", **changes | {"keep_last": None}))
    ] == sorted({best, 5})


def test_ctrl_c_finishes_the_step_and_goes_on_exactly(
    run: Run, tmp_path: Path, family: Anima, request: pytest.FixtureRequest
) -> None:
    before = signal.default_int_handler  # not what a shell sets for jobs in the background
    request.addfinalizer(
        functools.partial(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, before))
    )
    whole = run("whole")
    steps = len(metrics(whole))
    clip = loop.clip_gradient
    for at in range(steps):  # the first and the last step of an epoch, too
        scratch = tmp_path / f"at {at}"
        where, count = context(scratch, lambda: family, "look"), itertools.count()

        def press(*args: Any) -> float:
            if next(count) == at:  # noqa: B023
                signal.raise_signal(signal.SIGINT)
            return clip(*args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "clip_gradient", press)
            patch.setattr(loop, "SAVE_EVERY", 1000)
            with pytest.raises(
                PausedError,
                match=f"paused after step {at + 1} of {steps}; run the same command again",
            ):
                run(where=where)
        assert "Ctrl-C again stops at once" in said(where)
        assert signal.getsignal(signal.SIGINT) is before
        assert run(f"at {at}").hash == whole.hash
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            loop, "clip_gradient", lambda *_: [signal.raise_signal(signal.SIGINT) for _ in range(2)]
        )
        with pytest.raises(KeyboardInterrupt):
            run("twice")


PREVIEW = {
    "prompts": ["1girl, smile", "1girl"],
    "every": 1,
    "steps": 2,
    "size": [32, 48],
    "seed": 3,
}


def test_previews_are_drawn_and_leave_the_training_alone(run: Run, plain: dict[str, Any]) -> None:
    artifact = run("a", preview=PREVIEW)
    assert weights(artifact) == plain["weights"]
    paths = sorted((artifact.path / "previews").iterdir())
    assert [path.name for path in paths] == [
        f"epoch-000{e}-0{i}.png" for e in (1, 2) for i in (0, 1)
    ]
    with Image.open(paths[3]) as image:
        assert image.size == (32, 48)
        assert (
            image.text["parameters"].startswith("1girl\n") and "Seed: 4" in image.text["parameters"]
        )  # type: ignore[attr-defined]
    assert len({path.read_bytes() for path in paths}) == 4
    assert [
        p.name
        for p in (run("b", preview=PREVIEW | {"every": 2}).path / "previews").glob("*-00.png")
    ] == ["epoch-0002-00.png"]
    while (again := stopped(run, "broken", preview=PREVIEW)) is None:
        pass
    assert again.hash == artifact.hash


def test_previews_use_the_sampler_that_the_recipe_names(run: Run) -> None:
    def pictures(name: str, **sampling: object) -> list[bytes]:
        folder = run(name, epochs=1, preview=PREVIEW | sampling).path / "previews"
        found = []
        for path in sorted(folder.iterdir()):
            with Image.open(path) as image:
                found.append(image.tobytes())
        return found

    euler = pictures("euler")
    assert pictures("er_sde", sampler="er_sde", schedule="simple") != euler
    assert pictures("comfyui", empty_text="comfyui") != euler
    with Image.open(
        run("named", epochs=1, preview=PREVIEW | {"sampler": "er_sde", "schedule": "simple"}).path
        / "previews"
        / "epoch-0001-00.png"
    ) as image:
        assert "Sampler: ER SDE, Schedule type: Simple" in image.text["parameters"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("free", "chosen"), [(10**12, False), (10**5, True)])
def test_gradient_checkpointing_is_chosen_by_what_fits(
    run: Run,
    plain: dict[str, Any],
    tmp_path: Path,
    family: Anima,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    chosen: bool,
) -> None:
    transformer, clip, seen = family.backbone, loop.clip_gradient, []

    def look(*args: Any) -> float:
        seen.append(transformer.gradient_checkpointing)
        return clip(*args)

    monkeypatch.setattr(checkpointing, "free_memory", lambda _: free)
    monkeypatch.setattr(loop, "clip_gradient", look)
    where = context(tmp_path / "run", lambda: family, "look")
    assert weights(run(where=where, gradient_checkpointing="auto")) == plain["weights"]
    assert set(seen) == {chosen} and ("gradient checkpointing is on" in said(where)) == chosen
    assert not transformer.gradient_checkpointing


def random_lora(family: Anima, rank: int, alpha: float) -> Lora:
    return Lora(
        {
            row.name: Factors(
                torch.from_numpy(normal((rank, row.in_features), 1, "down", row.name)) * 0.3,
                torch.from_numpy(normal((row.out_features, rank), 1, "up", row.name)) * 0.3,
                alpha,
            )
            for row in family.spec.targets("attention_mlp")
        }
    )


def imported(folder: Path, family: Anima, file: Path) -> Artifact:
    settings = import_lora.Settings(do="import", file=file)
    return import_lora.run(Inputs({}), settings, context(folder, lambda: family, "old"))


@pytest.mark.parametrize("network", ["lora", "dora"])
@pytest.mark.parametrize("layout", ["kohya", "common"])
def test_a_file_from_elsewhere_trains_on_and_keeps_its_strength(
    run: Run, family: Anima, tmp_path: Path, layout: Any, network: str
) -> None:
    lora, path = random_lora(family, 2, 0.5), tmp_path / "old.safetensors"
    write_lora(path, lora, {}, layout=layout)
    old = imported(tmp_path / "old", family, path)
    where = context(tmp_path / "still", lambda: family, "look")
    changes = {"old": old, "rank": 4, "alpha": 8, "network": network, "weight_decay": 0.0}
    still = read_lora(
        read_models(run(where=where, learning_rate=1e-30, **changes))[-1].path,
        family.spec,
        dora=True,
    )
    trained = run("on", **changes)
    on = read_lora(read_models(trained)[-1].path, family.spec, dora=True)
    assert "rank 2, alpha 0.5 → rank 4, alpha 8" in said(where)
    assert any(
        node.get("origin") == "unknown"
        for node in read_json(trained.path / "lineage.json").values()
    )
    layer = family.backbone.get_submodule("transformer_blocks.0.attn1.to_q").weight.detach()
    for name, factors in lora.modules.items():
        torch.testing.assert_close(
            still.modules[name].delta(), factors.delta(), rtol=1e-4, atol=1e-6
        )
        assert not torch.allclose(on.modules[name].delta(), factors.delta(), rtol=1e-4, atol=1e-6)
        assert still.modules[name].rank == 4
    changed = [layer.clone(), layer.clone()]
    for weight, one in zip(changed, (lora, still), strict=True):
        change_weight(weight, one.modules["blocks.0.self_attn.q_proj"], 1.0)
    torch.testing.assert_close(*changed, rtol=1e-4, atol=1e-5)
    if network == "dora":
        dora = imported(tmp_path / "dora", family, read_models(trained)[-1].path)
        with pytest.raises(InputError, match="is DoRA"):
            run("lora", old=dora)
        assert read_models(run("dora", **changes | {"old": dora}))


def test_targets_and_ranks_go_by_pattern(run: Run, family: Anima) -> None:
    changes = {
        "targets": ["blocks.0.*_proj", "*.mlp.*", "final_layer.linear"],
        "ranks": [{"layers": "*.mlp.*", "rank": 4}, {"layers": "blocks.1.mlp.layer2", "rank": 1}],
        "alpha": 6,
        "epochs": 1,
    }
    path = read_models(run("a", **changes))[-1].path
    ranks = {name: factors.rank for name, factors in read_lora(path, family.spec).modules.items()}
    mlp = {
        "blocks.0.mlp.layer1": 4,
        "blocks.0.mlp.layer2": 4,
        "blocks.1.mlp.layer1": 4,
        "blocks.1.mlp.layer2": 1,
    }
    attention = {row.name: 2 for row in family.spec.targets(["blocks.0.*_proj"])}
    assert ranks == {**attention, **mlp, "final_layer.linear": 2} and len(attention) == 8
    rank_alpha = train.Settings.model_validate(TABLE | changes).rank_alpha
    assert rank_alpha("blocks.0.mlp.layer1") == (4, 12.0) and rank_alpha(
        "blocks.0.self_attn.q_proj"
    ) == (
        2,
        6.0,
    )
    stabilised = train.Settings.model_validate(TABLE | changes | {"rslora": True}).rank_alpha
    for name in ("blocks.0.mlp.layer1", "blocks.1.mlp.layer2"):
        rank, alpha = stabilised(name)
        assert alpha / rank == pytest.approx(6 / rank**0.5)
    few = run(
        "b", **changes | {"targets": ["blocks.0.*"], "ranks": []}
    )  # no mistake for a LoRA of a smaller base
    assert {name[:8] for name in read_lora(read_models(few)[-1].path, family.spec).modules} == {
        "blocks.0"
    }


def test_a_base_in_bfloat16_trains_as_the_float32_one_but_for_rounding(
    run: Run, plain: dict[str, Any], family: Anima, tiny_anima: Path, tmp_path: Path
) -> None:
    """As on a card: weights, activations and large products in bfloat16, factors and optimizer in
    float32."""
    half = load_base(
        {"family": "anima", "folder": tiny_anima, "device": "cpu", "dtype": "bfloat16"}
    )
    artifact = run(where=context(tmp_path / "half", lambda: half, "look"), precision="bf16")
    losses = [[row["loss"] for row in rows] for rows in (metrics(artifact), plain["rows"])]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.02)
    found = [
        read_lora(read_models(one)[-1].path, family.spec).modules
        for one in (artifact, run("whole"))
    ]
    flat = [torch.cat([row.delta().flatten() for row in modules.values()]) for modules in found]
    assert torch.cosine_similarity(*flat, dim=0) > 0.9 and flat[0].abs().max() > 1e-3


def test_steps_are_counted_with_accumulation(run: Run) -> None:
    assert len(metrics(run("a", gradient_accumulation=3, batch=1))) == 2 * -(
        -len(metrics(run("b", batch=1))) // 2 // 3
    )
    plan = train.estimate(
        train.Settings.model_validate(TABLE | {"gradient_accumulation": 3, "batch": 1}),
        {"data": Plan(counts={"base": 4})},
    )
    assert plan.steps == 2 * 3
