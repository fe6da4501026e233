"""A training step leaves the device to itself: nothing in it waits for a result, and what it needs
is there before."""

import math
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.anima import family as anima_family
from onmodel.families.anima.family import Anima, AnimaDenoiser
from onmodel.families.anima.text import AnimaText
from onmodel.families.protocol import Family
from onmodel.processes import ALONE
from onmodel.randomness import normal
from onmodel.records import Item
from onmodel.train import loop, readings
from onmodel.train.adapters import attached
from onmodel.train.networks import make_network, trained_layers
from onmodel.train.options import Options
from onmodel.train.state import State
from onmodel.transfer import send

CPU = torch.device("cpu")
READS = "_local_scalar_dense"  # the operation that hands a tensor's value to Python


class Operations(TorchDispatchMode):
    """Counts operations by name, and copies to another device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.moved = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        self.names[name] += 1
        out = func(*args, **(kwargs or {}))
        if name == "_to_copy":
            self.moved += args[0].device != out.device
        if name == "copy_":
            self.moved += args[0].device != args[1].device
        return out


def inputs(family: Family, options: Options, texts: dict[str, Any]) -> loop.TrainingInputs:
    examples = []
    for i in range(12):
        item = Item("x.png", f"{i:064x}", 64, 64, "base", "1girl", "", i, "train", "toon")
        latents = torch.from_numpy(normal((16, 8, 8), 5, "latents", i))
        caption = list(texts)[i % len(texts)]
        weight = 0.5 if i == 3 else 1.0
        examples.append(loop.Example(item, latents, 1, [caption] * 9, weight=weight))
    return loop.TrainingInputs(family, examples, [], texts, options, 3, torch.bfloat16)


def options(**changes: Any) -> Options:
    table = {"epochs": 1, "learning_rate": 1e-3, "rank": 2, "alpha": 2, "batch": 2, "ema": 0.9}
    return Options(**(table | {"gradient_checkpointing": False, "keep_every": 9} | changes))


def run(family: Anima, folder: Path, chosen: Options) -> State:
    """A whole training, of six steps an epoch."""
    texts = dict(zip(("1girl", ""), family.encode_text(["1girl", ""]), strict=True))
    layers = trained_layers(family.spec, chosen)
    state = State(folder, make_network(family, chosen, layers, 1, CPU), chosen)
    outputs = loop.Outputs(keep=lambda epoch, step: "", preview=lambda epoch: None)
    loop.train(inputs(family, chosen, texts), state, outputs, Events())
    return state


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings only where they must be."""
    monkeypatch.setattr(readings, "WAIT", math.inf)
    monkeypatch.setattr(loop, "MEET_EVERY", 1000)


@pytest.mark.usefixtures("seldom")
@pytest.mark.parametrize("network", ["lora", "dora", "lokr"])
def test_no_value_is_read_between_two_readings(
    tiny_family: Anima, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    operations, update, found = Operations(), loop._update, []

    def counted(*args: Any) -> Any:
        with operations:
            result = update(*args)
        found.append(operations.names[READS])
        return result

    monkeypatch.setattr(loop, "_update", counted)
    state = run(tiny_family, tmp_path, options(network=network))
    assert found == [0] * 6 and operations.names["mm"] > 0
    assert len(state.history.losses) == len(state.history.norms) == 6
    with operations:
        float(torch.ones(()))
    assert operations.names[READS] == 1  # the count can fail


def test_rows_do_not_depend_on_when_they_are_read(
    tiny_family: Anima, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for wait, meet in ((0.0, 1), (math.inf, 1000)):
        monkeypatch.setattr(readings, "WAIT", wait)
        monkeypatch.setattr(loop, "MEET_EVERY", meet)
        monkeypatch.setattr(loop, "SAVE_EVERY", 4)
        history = run(tiny_family, tmp_path / str(meet), options(epochs=2)).history
        found.append(history.rows(6))
    assert found[0] == found[1] and len(found[0]) == 12


@pytest.mark.usefixtures("seldom")
def test_a_loss_that_is_not_finite_is_told_with_its_step_before_anything_is_saved(
    tiny_family: Anima, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    monkeypatch.setattr(State, "save", lambda state: saved.append(list(state.history.losses)))
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    clip, count = loop.clip_gradient, iter(range(100))

    def broken(*args: Any) -> Tensor:
        norm = clip(*args)
        return norm * math.nan if next(count) == 2 else norm

    monkeypatch.setattr(loop, "clip_gradient", broken)
    with pytest.raises(InputError, match="the loss is not finite at step 3; lower it"):
        run(tiny_family, tmp_path, options())
    assert [len(losses) for losses in saved] == [2]


@pytest.mark.parametrize("limit", [0.0, 1e-3, 0.7, 1e6])
def test_a_gradient_is_cut_as_the_division_on_the_host_cut_it(
    tiny_family: Anima, limit: float
) -> None:
    chosen = options()
    network = make_network(tiny_family, chosen, trained_layers(tiny_family.spec, chosen), 1, CPU)
    network.gradient.copy_(torch.from_numpy(normal((network.gradient.numel(),), 1, "gradient")))
    before = network.gradient.clone()
    norm = float(before.norm())
    wanted = before * (limit / norm) if limit and norm > limit else before
    assert float(loop.clip_gradient(network, limit)) == norm
    assert torch.equal(network.gradient, wanted)


def test_a_thread_prepares_the_steps_for_a_card(
    tiny_family: Anima, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = options(epochs=3)
    texts = dict(zip(("1girl", ""), tiny_family.encode_text(["1girl", ""]), strict=True))
    training = inputs(tiny_family, chosen, texts)
    plain = list(loop.prepared_steps(training, 4, CPU, ALONE))
    threads = set()

    def noted(tensor: Tensor, device: torch.device) -> Tensor:
        threads.add(threading.current_thread())
        return tensor

    monkeypatch.setattr(loop, "send", noted)
    monkeypatch.setattr(loop, "select", lambda device: None)
    ahead = list(loop.prepared_steps(training, 4, torch.device("cuda", 0), ALONE))
    assert [step.number for step in ahead] == [step.number for step in plain] == list(range(4, 18))
    for step, other in zip(plain, ahead, strict=True):
        for batch, same in zip(step.batches, other.batches, strict=True):
            assert torch.equal(batch.noise_bchw, same.noise_bchw)
            assert torch.equal(batch.latents_bchw, same.latents_bchw)
    assert threads and threading.main_thread() not in threads


def test_what_a_step_needs_is_sent_and_nothing_else_is_copied(
    tiny_family: Anima, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device, where reading a value or copying to the processor is an error."""
    chosen, meta, operations, sent = options(), torch.device("meta"), Operations(), []

    def noted(tensor: Tensor, device: torch.device) -> Tensor:
        sent.append(tensor)
        return torch.empty_like(tensor, device=device)

    for module in (loop, anima_family):
        monkeypatch.setattr(module, "send", noted)
    backbone = type(tiny_family.backbone)  # its weights are read here, from a file
    with meta:
        shadow = backbone.from_config(dict(tiny_family.configs["transformer"]))
    family: Any = AnimaDenoiser(shadow)
    rows = [AnimaText(torch.zeros(n, 24), 512 - n) for n in (7, 5)]
    training = inputs(family, chosen, dict(zip("ab", rows, strict=True)))
    network = make_network(family, chosen, trained_layers(family.spec, chosen), 1, meta)
    with attached(family, network, torch.bfloat16), family.training(), operations:
        for number, batches in training.remaining(0):
            step = loop.prepare(training, number, batches, meta)
            loop.fill_gradient(training, network, step)
            loop.clip_gradient(network, 1.0)
    assert operations.names["mm"] > 0 and operations.names[READS] == 0
    assert operations.moved == 0 and len(sent) >= 6 * 6
    with operations:
        torch.zeros(3).to(meta)
    assert operations.moved == 1  # the count can fail


def test_to_a_card_goes_pinned_memory_without_waiting() -> None:
    calls: list[Any] = []

    class Fake:
        device = CPU

        def pin_memory(self) -> "Fake":
            calls.append("pinned")
            return self

        def to(self, device: torch.device, non_blocking: bool = False) -> "Fake":
            calls.append((device.type, non_blocking))
            return self

    fake: Any = Fake()
    send(fake, torch.device("cuda"))
    send(fake, CPU)
    assert calls == ["pinned", ("cuda", True), ("cpu", False)]
