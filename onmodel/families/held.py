"""Frozen linear layers whose weights are fetched for every product: from the host's memory (block
swap), from 8-bit numbers (quantised weights), or both.

The backward pass fetches them again, so that between the passes only what is held takes memory.
Without quantising the results are those of the plain layers, bit for bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from onmodel.families.modes import Modes, Quantize

# Storage type, and the largest value of a row's numbers in it.
_FORMATS: Mapping[Quantize, tuple[torch.dtype, float]] = {
    "int8": (torch.int8, 127.0),
    "fp8": (torch.float8_e4m3fn, 448.0),
}


class HeldLinear(nn.Linear):
    """A frozen layer. `held` has its weight [out, in], or its 8-bit numbers [out, in] and the scale
    of each row [out, 1]. `swap` has the copies on the device; None where `held` lies there."""

    swap: "BlockSwap | None"

    def __init__(self, layer: nn.Linear, held: Sequence[Tensor]) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.held, self.swap, self.block = tuple(held), None, 0
        self.bias = layer.bias
        if len(held) == 1:
            self.weight = nn.Parameter(held[0], requires_grad=False)

    def fetched(self, dtype: torch.dtype) -> Tensor:
        """The weight on the device."""
        weight, *scale = self.held if self.swap is None else self.swap.fetch(self)
        found: Tensor = weight.to(dtype)
        return found * scale[0].to(dtype) if scale else found

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = _Product.apply(x, self)
        return found


class _Product(torch.autograd.Function):
    """x·Wᵀ + b for a frozen layer, which keeps nothing for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: HeldLinear) -> Tensor:
        ctx.layer = layer
        bias = None if layer.bias is None else layer.bias.to(x.dtype)
        return functional.linear(x, layer.fetched(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (given,) = gradients
        return given @ ctx.layer.fetched(given.dtype), None


class BlockSwap:
    """Brings the weights of blocks to the device when one of their layers computes, and those of
    the block that comes next in the same direction at the same time. Two blocks are there at most.
    """

    def __init__(self, blocks: Mapping[int, Sequence[HeldLinear]], device: torch.device) -> None:
        self._blocks, self._order, self._device = blocks, sorted(blocks), device
        self._here: dict[int, dict[HeldLinear, tuple[Tensor, ...]]] = {}
        self._now = -1
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._ready: dict[int, Any] = {}  # block → when its copies are complete
        for block, layers in blocks.items():
            for layer in layers:
                layer.swap, layer.block = self, block

    def fetch(self, layer: HeldLinear) -> tuple[Tensor, ...]:
        """What the layer holds, on the device."""
        if layer.block != self._now:
            self._move_to(layer.block)
        tensors = self._here[layer.block][layer]
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(self._ready[layer.block])
            for tensor in tensors:  # its memory is not given to others before this is computed
                tensor.record_stream(current)
        return tensors

    def forget(self) -> None:
        """Drop the copies on the device: what the layers hold changes now."""
        self._here.clear()
        self._now = -1

    def _move_to(self, block: int) -> None:
        order, place = self._order, self._order.index(block)
        back = self._now in order and place == order.index(self._now) - 1
        self._now = block
        following = place - 1 if back else place + 1
        ends = not 0 <= following < len(order)
        if ends:  # what was there before is what the other direction begins with
            following = place + 1 if back else place - 1
        wanted = {block, *order[max(following, 0) : following + 1]}
        for other in self._here.keys() - wanted:
            del self._here[other]
        for one in (block, *(() if ends else wanted - {block})):
            if one not in self._here:
                self._load(one)

    def _load(self, block: int) -> None:
        with torch.cuda.stream(self._stream):  # without a stream it does nothing
            self._here[block] = {
                layer: tuple(map(self._copy, layer.held)) for layer in self._blocks[block]
            }
        if self._stream is not None:
            self._ready[block] = self._stream.record_event()

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)


def swapped_blocks(blocks: int, count: int) -> list[int]:
    """Which of so many blocks are swapped: evenly spread, so that the next is brought while those
    between compute."""
    return [int((place + 0.5) * blocks / count) for place in range(min(count, blocks))]


def hold(
    blocks: Sequence[nn.Module], modes: Modes, device: torch.device
) -> tuple[BlockSwap | None, float]:
    """Replace the linear layers of blocks, whose weights lie in the host's memory, by held ones.
    Blocks that are neither swapped nor quantised come to the device. Returns what swaps, and the
    relative error of the quantised weights, ‖W − Ŵ‖ / ‖W‖ (Frobenius) over all of them; 0 without
    any."""
    away = swapped_blocks(len(blocks), modes.swap_blocks) if modes.swap_blocks else []
    swapped: dict[int, list[HeldLinear]] = {block: [] for block in away}
    errors = torch.zeros(2, dtype=torch.float64)
    for index, block in enumerate(blocks):
        names = [name for name, one in block.named_modules() if isinstance(one, nn.Linear)]
        for name in names if index in swapped or modes.quantize else ():
            layer = block.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            held = [layer.weight.detach()]
            if modes.quantize:
                held = list(quantized(held[0], modes.quantize))
                errors += squared_error(layer.weight.detach(), held)
            if index not in swapped:
                held = [tensor.to(device) for tensor in held]
            elif device.type == "cuda":
                held = [tensor.pin_memory() for tensor in held]
            made = HeldLinear(layer, held)
            block.set_submodule(name, made)
            if index in swapped:
                swapped[index].append(made)
        if index not in swapped:
            block.to(device)
        else:  # what is not a linear layer: norms
            for parameter in block.parameters():
                if not any(parameter is one.weight for one in swapped[index] if len(one.held) == 1):
                    parameter.data = parameter.data.to(device)
    swap = BlockSwap(swapped, device) if swapped else None
    return swap, float((errors[0] / errors[1]).sqrt()) if modes.quantize else 0.0


def quantized(weight: Tensor, kind: Quantize) -> tuple[Tensor, Tensor]:
    """8-bit numbers [out, in] and bfloat16 scales [out, 1], symmetric: W ≈ numbers · scale."""
    dtype, most = _FORMATS[kind]
    values = weight.float()
    scale = (values.abs().amax(dim=1, keepdim=True) / most).clamp(min=1e-30).bfloat16()
    numbers = (values / scale.float()).clamp(-most, most)
    return (numbers.round() if kind == "int8" else numbers).to(dtype), scale


def squared_error(weight: Tensor, held: Sequence[Tensor]) -> Tensor:
    """‖W − Ŵ‖² and ‖W‖²."""
    numbers, scale = held
    values = weight.float()
    found = numbers.float() * scale.float()
    return torch.stack([(values - found).square().sum(), values.square().sum()]).double()
