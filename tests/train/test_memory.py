"""The memory plan: exact to the byte of what it counts, and right for any number of blocks."""

from pathlib import Path

import pytest
import torch

from onmodel.models.anima.family import Anima
from onmodel.models.anima.outline import Outline
from onmodel.models.anima.parts import empty
from onmodel.models.load import outline
from onmodel.progress import Progress
from onmodel.train.memory import _transformer_peak, forecast, peak_bytes
from onmodel.train.options import Options

BF16 = torch.bfloat16
OPTIONS = Options(epochs=1, learning_rate=1e-4, rank=4, alpha=4, batch=2, resolution=64)


def of_blocks(tiny_anima: Path, blocks: int) -> Outline:
    shapes = outline({"folder": tiny_anima})
    transformer = empty("transformer", {**shapes.models["transformer"].config, "num_layers": blocks})
    return Outline({**shapes.models, "transformer": transformer}, {}, ())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_short_runs_say_what_a_whole_one_takes(tiny_anima: Path, checkpointing: bool) -> None:
    shapes = of_blocks(tiny_anima, 6)
    whole = _transformer_peak(shapes, OPTIONS, BF16, 64, checkpointing, 6)
    others = 2 * sum(shapes.parameters(role) for role in shapes.models if role != "transformer")
    assert peak_bytes(shapes, OPTIONS, BF16, 64, checkpointing) - others == pytest.approx(whole, rel=0.01)


def test_activations_grow_with_pixels_and_batch_and_shrink_with_checkpointing(tiny_anima: Path) -> None:
    shapes = of_blocks(tiny_anima, 4)
    kept = [peak_bytes(shapes, OPTIONS, BF16, side, False) for side in (128, 256, 512)]
    assert (kept[2] - kept[1]) == pytest.approx(4 * (kept[1] - kept[0]), rel=0.15)  # a score matrix would make it 16
    assert peak_bytes(shapes, OPTIONS.model_copy(update={"batch": 8}), BF16, 256, False) > 2 * kept[1]
    assert peak_bytes(shapes, OPTIONS, BF16, 512, True) < 0.6 * kept[2]


def test_the_state_of_a_run_is_four_float32_copies_of_its_factors(tiny_anima: Path) -> None:
    shapes = of_blocks(tiny_anima, 2)
    sizes = {}
    for rank in (4, 512):
        sizes[rank] = _transformer_peak(shapes, OPTIONS.model_copy(update={"rank": rank}), BF16, 32, False, 2)
    per_rank = sum(row.in_features + row.out_features for row in shapes.spec.targets("attention_mlp"))
    assert (sizes[512] - sizes[4]) / (508 * per_rank) >= 16  # factors, gradient, two moments; casts on top


def test_the_forecast_counts_what_is_trained(tiny_anima: Path, tiny_family: Anima) -> None:
    with Progress() as progress:
        row = forecast(outline({"folder": tiny_anima}), OPTIONS, BF16, progress)
    targets = tiny_family.spec.targets("attention_mlp")
    assert row.layers == len(targets)
    assert row.parameters == 4 * sum(linear.in_features + linear.out_features for linear in targets)
    assert row.file_bytes == 4 * row.parameters
    assert row.memory == {}  # nobody worries about the memory of a tiny base
