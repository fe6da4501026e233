"""A training that saves memory writes the same weights, and a budget decides how it saves."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.anima.family import Anima
from onmodel.families.held import BlockSwap, HeldLinear
from onmodel.families.modes import Modes
from onmodel.families.registry import load_base, outline_of
from onmodel.records import Artifact
from onmodel.stages import curate, sample, train
from onmodel.stages.base import Inputs, read_models
from onmodel.train import fitting, loop
from onmodel.train.fitting import Peaks, training_modes
from onmodel.weights import payload_sha256
from tests.support.contexts import context, said

TABLE: dict[str, Any] = {
    "do": "train",
    "dataset": "data",
    "epochs": 1,
    "learning_rate": 5e-3,
    "rank": 2,
    "alpha": 2,
    "batch": 2,
    "resolution": 64,
    "precision": "fp32",
    "gradient_checkpointing": False,
    "preview": {"prompts": ["1girl"], "steps": 1},
}
Run = Callable[..., Artifact]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    subsets = {"base": [{"toon": "backgwa_base", "count": 3}]}
    table = {"do": "curate", "heldout": 0.4, "subsets": subsets}
    where = context(tmp_path_factory.mktemp("data"), lambda: None, "data")
    return curate.run(Inputs({}), curate.Settings.model_validate(table), where)


@pytest.fixture
def run(tmp_path: Path, tiny_family: Anima, data: Artifact) -> Run:
    def run(scratch: str, **changes: Any) -> Artifact:
        settings = train.Settings.model_validate(TABLE | changes)
        where = context(tmp_path / scratch, lambda: tiny_family, "look")
        artifact = train.run(Inputs({"data": data}), settings, where)
        (tmp_path / scratch / "said.txt").write_text(said(where))
        return artifact

    return run


def weights(artifact: Artifact) -> str:
    return payload_sha256(read_models(artifact)[-1].path)


def preview(artifact: Artifact) -> bytes:
    (path,) = (artifact.path / "previews").glob("*.png")
    return path.read_bytes()


def test_every_way_but_quantising_writes_the_same_bytes(
    run: Run, tiny_family: Anima, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockSwap, "_copy", lambda self, tensor: tensor.clone())
    plain = run("plain")
    seen: set[bool] = set()
    clip = loop.clip_gradient

    def look(*args: Any) -> float:
        seen.add(any(isinstance(one, HeldLinear) for one in tiny_family.backbone.modules()))
        return clip(*args)

    monkeypatch.setattr(loop, "clip_gradient", look)
    for number, changes in enumerate(
        (
            {"swap_blocks": 1},
            {"swap_blocks": 2, "gradient_checkpointing": True},
            {"gradient_checkpointing": "offload"},
            {"vae_tiles": True},
            {"memory": "6 GB"},
        )
    ):
        again = run(f"run{number}", **changes)
        one, other = (read_models(artifact)[-1].path for artifact in (again, plain))
        assert one.read_bytes() == other.read_bytes()  # its header holds the history
        assert preview(again) == preview(plain)
        assert seen == {"swap_blocks" in changes}
        seen.clear()


def test_encoders_are_not_in_memory_while_it_trains(
    run: Run, tiny_family: Anima, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bool] = []
    clip = loop.clip_gradient
    encoder, vae = tiny_family._components["text_encoder"], tiny_family._vae

    def look(*args: Any) -> float:
        loaded.append(encoder.is_read or vae.is_read)
        return clip(*args)

    monkeypatch.setattr(loop, "clip_gradient", look)
    run("run", epochs=2)
    assert loaded and not any(loaded)


def test_quantising_says_and_records_its_error(run: Run, tmp_path: Path) -> None:
    facts = json.loads((run("run", quantize="int8").path / "run.json").read_text())
    error = facts["quantization_error"]
    assert 0 < error < 0.02
    text = (tmp_path / "run" / "said.txt").read_text()
    assert f"weights are in int8: their relative error is {error:.2%}" in " ".join(text.split())
    assert "quantization_error" not in json.loads((run("plain").path / "run.json").read_text())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "dora", "swap_blocks": 1}, 'need network = "lora"'),
        ({"network": "lokr", "quantize": "int8"}, 'need network = "lora"'),
        ({"memory": "6 MB"}, "memory"),
        ({"memory": "\N{ARABIC-INDIC DIGIT SIX} GB"}, "memory"),
        ({"memory": f"{'9' * 400} GB"}, "memory"),
        ({"swap_blocks": -1}, "swap_blocks"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train.Settings.model_validate(TABLE | changes)


@pytest.mark.parametrize(("text", "value"), [("6 GB", 6 * 10**9), ("1.5GiB", 3 * 2**29)])
def test_memory_is_read_in_its_unit(text: str, value: int) -> None:
    assert train.Settings.model_validate(TABLE | {"memory": text}).memory_bytes == value
    assert train.Settings.model_validate(TABLE).memory_bytes is None


def test_what_changes_no_byte_is_no_part_of_a_key() -> None:
    plain = train.Settings.model_validate(TABLE).keyed()
    saving = {
        "memory": "6 GB",
        "swap_blocks": 2,
        "vae_tiles": True,
        "gradient_checkpointing": True,
    }
    assert train.Settings.model_validate(TABLE | saving).keyed() == plain
    assert "quantize" not in plain
    assert train.Settings.model_validate(TABLE | {"quantize": "fp8"}).keyed() != plain
    pictures = {"do": "sample", "model": "m", "count": 1}
    plain = sample.Settings.model_validate(pictures).keyed()
    changed = sample.Settings.model_validate(pictures | {"swap_blocks": 2, "vae_tiles": True})
    assert changed.keyed() == plain


# --- the choice, by forecasts of the tiny base


class _OnCard:
    """A base whose weights would lie on a card."""

    def __init__(self, family: Anima) -> None:
        self.family, self.device = family, torch.device("cuda")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.family, name)


def test_each_budget_gets_the_cheapest_modes(tiny_anima: Path) -> None:
    family: Any = _OnCard(load_base({"folder": tiny_anima, "device": "cpu", "dtype": "bfloat16"}))
    table = {key: value for key, value in TABLE.items() if key != "gradient_checkpointing"}
    options = train.Settings.model_validate(table)
    peaks = Peaks(outline_of(family), options, torch.bfloat16, torch.float32, 64)
    twice = Modes(vae_tiles=True, checkpointing=True)
    away = Modes(vae_tiles=True, checkpointing=True, offload=True)
    assert peaks.of(away) < peaks.of(twice) < peaks.of(Modes())
    for modes in (Modes(), twice, away):
        budget = peaks.of(modes)
        known = options.model_copy(update={"memory": f"{budget / 1e9:.12f} GB"})
        assert training_modes(family, known, 64, Events()) == modes
    with pytest.raises(InputError, match=r"memory: .* takes at least .* GB; lower batch"):
        training_modes(family, options.model_copy(update={"memory": "0.00001 GB"}), 64, Events())


def test_swapping_and_quantising_take_what_they_move_from_the_forecast(tiny_anima: Path) -> None:
    family = load_base({"folder": tiny_anima, "device": "cpu", "dtype": "bfloat16"})
    peaks = Peaks(
        outline_of(family), train.Settings.model_validate(TABLE), torch.bfloat16, torch.bfloat16, 64
    )
    block = sum(row.out_features * row.in_features for row in family.spec.linears if row.block == 0)
    plain = peaks.of(Modes())
    assert plain - peaks.of(Modes(quantize="int8")) == 2 * block
    assert peaks.of(Modes(swap_blocks=2)) == plain  # two blocks are on the device
    assert peaks.of(Modes(swap_blocks=3)) == plain  # and the base has no more


def test_swapping_saves_nothing_on_a_processor(tiny_anima: Path) -> None:
    family = load_base({"folder": tiny_anima, "device": "cpu", "dtype": "bfloat16"})
    options = train.Settings.model_validate(TABLE | {"swap_blocks": 1000})
    peaks = Peaks(outline_of(family), options, torch.bfloat16, torch.float32, 64)
    assert 0 < peaks.of(Modes(swap_blocks=1000)) == peaks.of(Modes(swap_blocks=peaks.blocks))
    least = f"{0.99 * peaks.of(Modes(vae_tiles=True)) / 1e9:.12f} GB"
    with pytest.raises(InputError, match=r'leave out gradient_checkpointing, .* quantize = "int8"'):
        training_modes(family, options.model_copy(update={"memory": least}), 64, Events())


def test_a_full_card_gets_everything_that_saves(
    tiny_anima: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda _: 1)
    family: Any = _OnCard(load_base({"folder": tiny_anima, "device": "cpu"}))
    table = {key: value for key, value in TABLE.items() if key != "gradient_checkpointing"}
    found = training_modes(family, train.Settings.model_validate(table), 64, Events())
    assert found == Modes(vae_tiles=True, checkpointing=True, offload=True, swap_blocks=2)
    kept = train.Settings.model_validate(table | {"network": "dora", "vae_tiles": False})
    assert training_modes(family, kept, 64, Events()) == Modes(checkpointing=True, offload=True)
    set_ = train.Settings.model_validate(table | {"gradient_checkpointing": True})
    assert not training_modes(family, set_, 64, Events()).offload
    asked = train.Settings.model_validate(TABLE | {"gradient_checkpointing": "offload"})
    here = load_base({"folder": tiny_anima, "device": "cpu"})
    assert training_modes(here, asked, 64, Events()) == Modes(checkpointing=True)
