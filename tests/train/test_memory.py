"""The memory plan: exact to the byte of what it counts, and right for any number of blocks."""

from pathlib import Path

import pytest
import torch

from onmodel.families.anima.family import Anima
from onmodel.families.anima.memory import AnimaOutline
from onmodel.families.anima.parts import empty
from onmodel.families.modes import Modes
from onmodel.families.registry import outline
from onmodel.train.fitting import Peaks
from onmodel.train.memory import StepBytes, _short_step, run_bytes, step_bytes
from onmodel.train.networks import all_shapes, make_network, trained_layers, training_size
from onmodel.train.optimizers import (
    OPTIMIZERS,
    frees_gradient,
    make_optimizer,
    state_bytes,
    state_of,
)
from onmodel.train.options import Options
from onmodel.weights import read_header

BF16 = torch.bfloat16
OPTIONS = Options(epochs=1, learning_rate=1e-4, rank=4, alpha=4, batch=2, resolution=64)


def of_blocks(tiny_anima: Path, blocks: int) -> AnimaOutline:
    shapes = outline({"folder": tiny_anima})
    transformer = empty(
        "transformer", {**shapes.models["transformer"].config, "num_layers": blocks}
    )
    return AnimaOutline({**shapes.models, "transformer": transformer}, {}, ())


def step(
    shapes: AnimaOutline, options: Options, side: int = 256, checkpointing: bool = False
) -> StepBytes:
    return step_bytes(shapes, options, BF16, BF16, side, Modes(checkpointing=checkpointing))


@pytest.mark.parametrize(
    "modes", [Modes(), Modes(checkpointing=True), Modes(checkpointing=True, offload=True)]
)
@pytest.mark.parametrize("rank", [4, 64])  # activations decide the peak, or the gradient
def test_two_short_runs_say_what_a_whole_one_takes(
    tiny_anima: Path, modes: Modes, rank: int
) -> None:
    shapes, options = of_blocks(tiny_anima, 6), OPTIONS.model_copy(update={"rank": rank})
    whole = _short_step(shapes, options, BF16, torch.float32, 64, modes, 6)
    found = step_bytes(shapes, options, BF16, torch.float32, 64, modes)
    assert found.activations == pytest.approx(whole.activations, rel=0.01)
    assert found.copies == whole.copies > 0


def test_weights_are_copied_only_where_products_have_another_dtype(tiny_anima: Path) -> None:
    shapes = of_blocks(tiny_anima, 4)
    changed = sum(
        row.in_features * row.out_features for row in shapes.spec.targets("attention_mlp")
    )
    assert step(shapes, OPTIONS).copies == 0
    other = step_bytes(shapes, OPTIONS, BF16, torch.float32, 64, Modes())
    assert other.copies == 4 * changed


def test_activations_grow_with_pixels_and_batch_and_shrink_with_checkpointing(
    tiny_anima: Path,
) -> None:
    shapes = of_blocks(tiny_anima, 4)
    kept = [step(shapes, OPTIONS, side).activations for side in (128, 256, 512)]
    assert (kept[2] - kept[1]) == pytest.approx(
        4 * (kept[1] - kept[0]), rel=0.15
    )  # a score matrix would make it 16
    eight = OPTIONS.model_copy(update={"batch": 8})
    assert step(shapes, eight).activations > 2 * kept[1]
    assert step(shapes, OPTIONS, 512, True).activations < 0.6 * kept[2]


def test_a_step_keeps_inputs_elsewhere_and_no_gradient_before_its_end(tiny_anima: Path) -> None:
    shapes = of_blocks(tiny_anima, 12)
    options = OPTIONS.model_copy(update={"batch": 1})

    def peak(options: Options, **modes: bool) -> int:
        found = step_bytes(shapes, options, BF16, BF16, 512, Modes(checkpointing=True, **modes))
        return run_bytes(shapes.spec, options) + found.activations

    rows = 32**2 * shapes.models["transformer"].config.num_attention_heads
    rows *= shapes.models["transformer"].config.attention_head_dim
    gradient = 4 * sum(
        4 * (row.in_features + row.out_features) for row in shapes.spec.targets("attention_mlp")
    )
    assert peak(options) - peak(options, offload=True) > 8 * 2 * rows
    kept = options.model_copy(update={"gradient_accumulation": 2})
    assert peak(kept) - peak(options) == gradient


@pytest.mark.parametrize("optimizer", [name for name, row in OPTIMIZERS.items() if not row.cuda])
@pytest.mark.parametrize("network", ["lora", "dora", "lokr"])
def test_what_a_run_keeps_is_what_it_is_said_to_keep(
    tiny_family: Anima, optimizer: str, network: str
) -> None:
    options = OPTIONS.model_copy(update={"optimizer": optimizer, "network": network, "ema": 0.9})
    trained = make_network(
        tiny_family, options, trained_layers(tiny_family.spec, options), 0, torch.device("cpu")
    )
    shapes = [
        shape
        for layer in all_shapes(tiny_family.spec, options).values()
        for shape in layer.values()
    ]
    assert shapes == [tuple(view.shape) for view in trained.tensors()]
    optimizer_ = make_optimizer(options, trained)
    trained.gradient.normal_()
    optimizer_.step()
    kept = sum(
        tensor.nbytes for tensor in state_of(optimizer_)[0].values() if tensor.numel() > 1
    )  # and some single numbers
    assert state_bytes(options, shapes) == kept
    copies = 2 if frees_gradient(options) else 3
    assert run_bytes(tiny_family.spec, options) == kept + copies * trained.flat.nbytes


@pytest.mark.parametrize("network", ["lora", "dora", "lokr"])
def test_the_forecast_counts_what_is_trained(
    tiny_anima: Path, tiny_family: Anima, tmp_path: Path, network: str
) -> None:
    ranks = [{"layers": "blocks.1.*", "rank": 3}]
    options = Options(
        **OPTIONS.model_dump() | {"network": network, "ranks": ranks, "save_precision": "bf16"}
    )
    shapes = outline({"folder": tiny_anima})
    row = training_size(shapes.spec, options)
    trained = make_network(
        tiny_family, options, trained_layers(tiny_family.spec, options), 0, torch.device("cpu")
    )
    trained.payload("BF16").write(tmp_path / "x.safetensors", {})
    written = [
        entry.bytes
        for key, entry in read_header(tmp_path / "x.safetensors", "x")[0].items()
        if not key.endswith(".alpha")
    ]
    assert (row.layers, row.parameters) == (len(trained.parts), trained.flat.numel())
    assert row.file_bytes == sum(written)


TEXT = {"train_text_conditioner": True, "train_text_encoder": True}


@pytest.mark.parametrize("parts", [{"train_text_conditioner": True}, TEXT])
def test_what_encodes_text_is_counted_where_it_is_trained(
    tiny_anima: Path, tiny_family: Anima, parts: dict[str, bool]
) -> None:
    shapes = of_blocks(tiny_anima, 4)
    options = Options(**OPTIONS.model_dump() | parts)
    trained = make_network(
        tiny_family, options, trained_layers(tiny_family.spec, options), 0, torch.device("cpu")
    )
    assert run_bytes(tiny_family.spec, options) == 4 * trained.flat.nbytes
    whole = _short_step(shapes, options, BF16, torch.float32, 64, False, 4)
    found = step_bytes(shapes, options, BF16, torch.float32, 64, False)
    assert found.copies == whole.copies
    assert found.activations == pytest.approx(whole.activations, rel=0.01)
    assert (
        found.activations
        > step_bytes(shapes, OPTIONS, BF16, torch.float32, 64, False).activations + 100 * 512 * 32
    )
    off, on = (Peaks(shapes, one, BF16, torch.float32, 64) for one in (OPTIONS, options))
    weights = sum(shapes.weight_bytes(name.removeprefix("train_"), BF16) for name in parts)
    assert sum(on.text.values()) == weights and not off.text
    copied = [row for row in shapes.spec.text_linears if row.name in trained.parts]
    numbers = sum(row.out_features * row.in_features for row in copied)
    for modes in (Modes(), Modes(quantize="int8")):
        # Biases are copied too.
        assert on.copies(modes) - off.copies(modes) == pytest.approx(4 * numbers, rel=0.01)


def test_networks_and_patterns_cost_what_they_add(tiny_anima: Path) -> None:
    shapes = of_blocks(tiny_anima, 4)

    def peak(**changes: object) -> int:
        options = Options(**OPTIONS.model_dump() | changes)
        found = step(shapes, options)
        return run_bytes(shapes.spec, options) + found.copies + found.activations

    lora = peak()
    assert lora < peak(network="lokr") and lora < peak(network="dora")
    assert lora < peak(ema=0.9) < peak(ema=0.9, optimizer="prodigy")
    assert peak(optimizer="adafactor") < lora
    assert (
        peak(targets=["blocks.3.mlp.*"]) < lora
    )  # blocks that the two short transformers do not have
