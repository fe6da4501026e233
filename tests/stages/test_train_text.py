"""A training of what encodes text: exact resume, the files it writes, and what is made of them."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from onmodel.errors import InputError
from onmodel.families.anima.family import Anima
from onmodel.families.registry import load_base
from onmodel.hashing import read_json
from onmodel.lora.convert import convert
from onmodel.lora.tensors import read_lora
from onmodel.records import Artifact
from onmodel.stages import curate, import_lora, merge, train
from onmodel.stages.base import Inputs, read_models
from onmodel.train import live, loop
from onmodel.weights import payload_sha256, read_metadata
from tests.support.contexts import context

TABLE: dict[str, Any] = {
    "do": "train",
    "dataset": "data",
    "epochs": 2,
    "learning_rate": 5e-3,
    "rank": 2,
    "alpha": 2,
    "batch": 2,
    "resolution": 64,
    "precision": "fp32",
    "caption_dropout": 0.3,
    "ema": 0.9,
    "keep_best": 1,
    "train_text_conditioner": True,
    "train_text_encoder": True,
    "text_encoder_rate": 1e-3,
}
Run = Callable[..., Artifact]


@pytest.fixture(scope="module")
def family(tiny_anima: Path) -> Anima:
    return load_base({"family": "anima", "folder": tiny_anima, "device": "cpu"})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    subsets = {"base": [{"toon": "backgwa_base", "count": 4}]}
    table = {"do": "curate", "heldout": 0.3, "subsets": subsets}
    where = context(tmp_path_factory.mktemp("data"), lambda: None, "data")
    return curate.run(Inputs({}), curate.Settings.model_validate(table), where)


@pytest.fixture
def run(tmp_path: Path, family: Anima, data: Artifact, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)
    monkeypatch.setattr(live, "SAVING_SHARE", float("inf"))

    def run(
        scratch: str,
        others: dict[str, Artifact] | None = None,
        name: str = "look",
        **changes: Any,
    ) -> Artifact:
        settings = train.Settings.model_validate(TABLE | changes)
        where = context(tmp_path / scratch, lambda: family, name)
        return train.run(Inputs({"data": data, **(others or {})}), settings, where)

    return run


class Stop(Exception):
    """The run ends here."""


def stopped(run: Run, scratch: str, at: int, **changes: Any) -> None:
    """Run until the optimizer is to take the `at`-th step (from 0)."""
    step, count = torch.optim.AdamW.step, itertools.count()

    def stop(self: torch.optim.AdamW, *args: Any) -> Any:
        if next(count) == at:
            raise Stop
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", stop)
        with pytest.raises(Stop):
            run(scratch, **changes)


PREVIEW = {"prompts": ["1girl, (smile:1.2)"], "steps": 1, "guidance": 2.0}


def test_stopped_at_every_step_it_ends_with_the_same_bytes(run: Run) -> None:
    whole = run("whole", preview=PREVIEW)
    steps = read_json(whole.path / "run.json")["steps"]
    for at in range(steps):
        stopped(run, f"at {at}", at, preview=PREVIEW)
        assert run(f"at {at}", preview=PREVIEW).hash == whole.hash, at


@pytest.mark.parametrize(
    "changes", [{"network": "dora"}, {"gradient_checkpointing": True}, {"quantize": "int8"}]
)
def test_other_ways_to_train_are_resumed_too(run: Run, changes: dict[str, Any]) -> None:
    whole = run("whole", **changes)
    stopped(run, "again", 2, **changes)
    assert run("again", **changes).hash == whole.hash


def test_a_memory_that_does_not_suffice_is_refused_with_what_helps(run: Run) -> None:
    with pytest.raises(InputError, match=r"memory: .* takes at least .*leave out train_text_enco"):
        run("run", memory="0.00001 GB")


def test_what_it_writes(run: Run, family: Anima) -> None:
    (model,) = read_models(run("run"))[-1:]
    layers = read_lora(model.path, family.spec).modules
    counts = {row.component: 0 for row in family.spec.lora_linears}
    for row in family.spec.lora_linears:
        if row.name in layers:
            counts[row.component] += 1
            assert layers[row.name].up.abs().max() > 0, row.name
    assert counts == {None: 20, "text_conditioner": 10, "text_encoder": 7}
    words = read_metadata(model.path)
    assert words["onmodel.trained_text"] == "text_conditioner,text_encoder"
    assert (words["ss_unet_lr"], words["ss_text_encoder_lr"]) == ("0.005", "0.001")


def test_off_it_says_and_trains_nothing_of_it(run: Run, family: Anima) -> None:
    off = {"train_text_conditioner": False, "train_text_encoder": False, "text_encoder_rate": None}
    (model,) = read_models(run("off", **off))[-1:]
    words = read_metadata(model.path)
    assert not {"onmodel.trained_text", "ss_unet_lr", "ss_text_encoder_lr"} & set(words)
    assert {
        row.component
        for row in family.spec.lora_linears
        if row.name in read_lora(model.path, family.spec).modules
    } == {None}
    tensors = payload_sha256(model.path)
    (other,) = read_models(run("on"))[-1:]
    assert payload_sha256(other.path) != tensors


def test_previews_follow_what_is_trained_of_the_text(run: Run) -> None:
    rates = {"learning_rate": 1e-12, "text_conditioner_rate": 0.05, "text_encoder_rate": 0.05}
    made = run("run", preview=PREVIEW, ema=0.0, keep_best=None, **rates)
    pictures = sorted((made.path / "previews").glob("*.png"))
    assert len(pictures) == 2 and len({path.read_bytes() for path in pictures}) == 2


def test_training_goes_on_from_it(run: Run, family: Anima) -> None:
    first = run("first")
    (before,) = read_models(first)[-1:]
    held = {"learning_rate": 1e-12, "text_encoder_rate": 1e-12, "ema": 0.0}
    (after,) = read_models(run("second", {"first": first}, start="first", **held))[-1:]
    one, other = (read_lora(path, family.spec).modules for path in (before.path, after.path))
    assert set(one) == set(other)
    for name, factors in one.items():
        torch.testing.assert_close(other[name].delta(), factors.delta(), rtol=1e-4, atol=1e-6)
    with pytest.raises(InputError, match=r"7 layers of the text_encoder.*train_text_encoder"):
        run(
            "third",
            {"first": first},
            start="first",
            train_text_encoder=False,
            text_encoder_rate=None,
        )


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_it_is_converted_and_imported(run: Run, family: Anima, tmp_path: Path, layout: str) -> None:
    (model,) = read_models(run("run"))[-1:]
    convert(model.path, tmp_path / "x.safetensors", layout)  # type: ignore[arg-type]
    table = {"do": "import", "file": tmp_path / "x.safetensors"}
    where = context(tmp_path / "import", lambda: family, "imported")
    made = import_lora.run(Inputs({}), import_lora.Settings.model_validate(table), where)
    (imported,) = read_models(made)
    one, other = (read_lora(path, family.spec).modules for path in (model.path, imported.path))
    assert set(one) == set(other)
    for name, factors in one.items():
        torch.testing.assert_close(other[name].delta(), factors.delta(), rtol=1e-5, atol=1e-7)


def test_it_is_merged(run: Run, family: Anima, tmp_path: Path) -> None:
    first, second = run("a", name="a"), run("b", name="b", seed=1)
    table = {"do": "merge", "models": ["a", "b"], "weights": [0.25, 0.75]}
    where = context(tmp_path / "merge", lambda: family, "merged")
    made = merge.run(Inputs({"a": first, "b": second}), merge.Settings.model_validate(table), where)
    files = [read_models(one)[-1].path for one in (first, second, made)]
    one, other, both = (read_lora(path, family.spec).modules for path in files)
    assert set(both) == set(one) == set(other)
    for name, factors in both.items():
        expected = 0.25 * one[name].delta() + 0.75 * other[name].delta()
        torch.testing.assert_close(factors.delta(), expected, rtol=1e-4, atol=1e-6)
