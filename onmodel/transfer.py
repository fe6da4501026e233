"""Tensors sent to a card without waiting for it."""

from typing import TYPE_CHECKING

from onmodel.devices import STREAMED

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def send(tensor: "Tensor", device: "torch.device") -> "Tensor":
    """The tensor on `device`. A copy from pageable memory to a card waits until the card's earlier
    work is done; one from pinned memory does not."""
    if device.type in STREAMED and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
