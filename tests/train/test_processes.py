"""Several processes on one machine train what one trains, and only the first of them writes."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from onmodel.events import Events
from onmodel.families.registry import load_base
from onmodel.lora.tensors import Lora
from onmodel.processes import Processes, joined
from onmodel.randomness import normal
from onmodel.records import Item
from onmodel.train import loop
from onmodel.train.adapters import Adapters, fresh_factors
from onmodel.train.options import Options
from onmodel.train.state import State

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork")
OPTIONS = Options(
    epochs=20, learning_rate=5e-3, rank=4, alpha=4, batch=3, keep_every=20, schedule="cosine"
)
STEPS = 100  # five an epoch: nine pictures of one size in threes, four of another


def in_processes(count: int, work: Callable[[Processes], None]) -> None:
    """Do `work` in so many forked processes, started as a launcher starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ.update(
                    RANK=str(rank),
                    WORLD_SIZE=str(count),
                    LOCAL_RANK=str(rank),
                    MASTER_ADDR="127.0.0.1",
                    MASTER_PORT=str(port),
                )
                with joined() as processes:
                    work(processes)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * count


def train(
    folder: Path, base: Path, processes: Processes, stop_after: int | None = None
) -> Lora | None:
    """Train on made-up latents; the factors, or None when stopped."""
    family = load_base({"family": "anima", "folder": base, "device": "cpu"})
    captions = ["1girl", "smile, 1girl", ""]
    texts = dict(zip(captions, family.encode_text(captions), strict=True))
    examples = []
    for i in range(13):
        item = Item("x.png", f"{i:064x}", 64, 64, "base", "1girl", "", i, "train", "toon")
        latents = torch.from_numpy(normal((16, 8, 8) if i < 9 else (16, 6, 10), 5, "latents", i))
        examples.append(
            loop.Example(item, latents, 1, [captions[(i + e) % 3] for e in range(OPTIONS.epochs)])
        )
    targets = family.spec.targets("attention_mlp")
    rank_alphas = {linear.name: OPTIONS.rank_alpha(linear.name) for linear in targets}
    adapters = Adapters(fresh_factors(targets, rank_alphas, 1), torch.device("cpu"))
    state = State(folder, adapters, OPTIONS)
    if stop_after is not None:
        step, count = state.optimizer.step, iter(range(stop_after))
        state.optimizer.step = lambda: step() if next(count, None) is not None else os._exit(0)
    loop.train(
        loop.TrainingInputs(family, examples, [], texts, OPTIONS, seed=3),
        state,
        loop.Outputs(keep=lambda epoch, step: "", preview=lambda epoch: None),
        Events(),
        processes,
    )
    assert state.history.steps == STEPS
    return adapters.lora()


@pytest.fixture
def deltas(tmp_path: Path, tiny_anima: Path) -> Callable[..., dict[str, torch.Tensor]]:
    """Each layer's ΔW after a run by so many processes, which the first of them leaves in a
    file."""

    def deltas(count: int, folder: str, stop_after: int | None = None) -> dict[str, torch.Tensor]:
        place = tmp_path / folder

        def work(processes: Processes) -> None:
            torch.set_num_threads(1)
            lora = train(place, tiny_anima, processes, stop_after)
            assert lora is not None
            save_file(
                {name: row.delta() for name, row in lora.modules.items()},
                f"{place}-{processes.rank}.safetensors",
            )

        in_processes(count, work)
        if stop_after is not None:
            return {}
        found = [load_file(f"{place}-{rank}.safetensors") for rank in range(count)]
        assert all(torch.equal(found[0][name], other[name]) for other in found for name in other)
        return found[0]

    return deltas


def test_two_processes_train_what_one_trains(
    deltas: Callable[..., dict[str, torch.Tensor]],
) -> None:
    one, two = deltas(1, "one"), deltas(2, "two")
    assert max(float(delta.abs().max()) for delta in one.values()) > 1e-2
    assert max(float((one[name] - two[name]).abs().max()) for name in one) <= 1e-6


def test_two_stopped_processes_end_with_the_same_bits(
    deltas: Callable[..., dict[str, torch.Tensor]],
) -> None:
    whole = deltas(2, "whole")
    deltas(2, "stopped", stop_after=61)
    resumed = deltas(2, "stopped")
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
