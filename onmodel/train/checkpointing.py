"""Gradient checkpointing: blocks are computed twice, and between the passes their inputs may lie in
the host's memory. Where it is chosen, what one picture's forward keeps is measured, not guessed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from onmodel.devices import free_memory
from onmodel.events import Events
from onmodel.families.protocol import Family
from onmodel.train.networks import step_components
from onmodel.train.options import Options

SHARE = 0.7  # of the free memory; the rest is for the backward pass and the optimizer


class _TooMuch(Exception):
    """The activations have passed the limit."""


@contextmanager
def checkpointing(
    family: Family, options: Options, one_picture: Callable[[], Tensor], events: Events
) -> Iterator[None]:
    """Within the context, blocks are computed twice if the recipe asks for it, or if it says "auto"
    and a batch does not fit into memory otherwise. "offload" keeps their inputs in the host's
    memory. `one_picture` computes the loss of a picture of the largest size."""
    backbone: Any = family.backbone
    wanted = options.gradient_checkpointing
    if wanted == "auto":
        limit = int(SHARE * free_memory(family.device))
        components = step_components(family.spec, options)
        needed = activation_bytes(family, one_picture, limit // options.batch, components)
        wanted = needed is None
        if wanted:
            note = (
                f"gradient checkpointing is on: a batch of {options.batch} would keep over"
                f" {limit / 1e9:.1f} GB"
            )
            events.note(note, "warning")
    if wanted:
        compute_twice(backbone, "cpu" if wanted == "offload" else None)
    try:
        yield
    finally:
        if wanted:
            backbone.disable_gradient_checkpointing()


def compute_twice(backbone: Any, inputs_on: str | None = None) -> None:
    """Turn gradient checkpointing on. The blocks' inputs lie on the device `inputs_on` between the
    passes; None: where they are."""
    if inputs_on is None:
        backbone.enable_gradient_checkpointing()
    else:
        backbone.enable_gradient_checkpointing(partial(_offloaded, inputs_on))


def _offloaded(inputs_on: str, block: Any, rows_bsd: Tensor, *others: Any) -> Tensor:
    """A block whose input rows lie on another device until its backward pass; `others` are small,
    or all blocks share them. A copy from a card is pinned, and neither copy waits: both are in the
    order of the card's stream."""
    device, shape = rows_bsd.device, rows_bsd.shape

    def away(tensor: Tensor) -> Tensor:
        return tensor.to(inputs_on, non_blocking=True) if tensor.shape == shape else tensor

    def back(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    with saved_tensors_hooks(away, back):
        result: Tensor = checkpoint(block.__call__, rows_bsd, *others, use_reentrant=False)
    return result


def activation_bytes(
    family: Family,
    one_picture: Callable[[], Tensor],
    limit: int,
    components: Sequence[str] = (),
) -> int | None:
    """Bytes that a forward pass keeps for its backward pass, without the weights of the backbone
    and of other `components` that it computes. None when
    they exceed `limit`: the pass stops there, so that the measurement never exceeds the free
    memory."""
    models = [family.component(name) for name in (None, *components)]
    weights = [one for model in models for one in (*model.parameters(), *model.buffers())]
    seen = {tensor.untyped_storage().data_ptr() for tensor in weights}
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            kept += storage.nbytes()
            if kept > limit:
                raise _TooMuch
        return tensor

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            one_picture()
    except (_TooMuch, torch.OutOfMemoryError):
        return None
    return kept
