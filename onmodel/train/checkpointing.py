"""Gradient checkpointing where activations would not fit: what one picture's forward keeps is
measured, not guessed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

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
    and a batch does not fit into memory otherwise. `one_picture` computes the loss of a picture of
    the largest size."""
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
        backbone.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if wanted:
            backbone.disable_gradient_checkpointing()


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
