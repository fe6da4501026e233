"""What a run trains, all in one flat tensor, put into a base and taken out again without a trace;
and plain LoRA.

For LoRA a wrapper of our own, not peft's: the same result (tested) at two thirds of the step time
on small layers, because it casts once, has no dropout or adapter bookkeeping, and the optimizer
sees one parameter instead of two per layer.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from onmodel.families.held import HeldLinear
from onmodel.families.protocol import Family, Linear
from onmodel.lora.tensors import Factors, Lora, lora_payload
from onmodel.randomness import generator
from onmodel.weights import Payload


class LoraLinear(nn.Module):
    """A frozen linear layer plus scale · up @ down. Products are taken in `dtype`, the factors stay
    float32. `low` is down and scale · up in `dtype` while they are cast already."""

    _weight: Tensor
    low: tuple[Tensor, Tensor] | None = None

    def __init__(
        self,
        base: nn.Linear | nn.Conv2d,
        down: nn.Parameter,
        up: nn.Parameter,
        scale: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.base, self.down, self.up, self.scale, self.dtype = base, down, up, scale, dtype
        if not isinstance(base, HeldLinear):
            self.register_buffer("_weight", base.weight.detach().to(dtype), persistent=False)
        self._bias = None if base.bias is None else base.bias.detach().to(dtype)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Down and scale · up in `dtype`."""
        return self.low or (self.down.to(self.dtype), (self.up * self.scale).to(self.dtype))

    def forward(self, x: Tensor) -> Tensor:
        x_low = x.to(self.dtype)
        down, up = self.factors()
        change = functional.linear(functional.linear(x_low, down), up)
        if isinstance(self.base, HeldLinear):
            return (self.base(x_low) + change).to(x.dtype)
        return (functional.linear(x_low, self._weight, self._bias) + change).to(x.dtype)


class LoraConv(LoraLinear):
    """A frozen convolution plus scale · up @ down (LoCon): down is a convolution with the same
    kernel, up one of a single pixel."""

    base: nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        x_low = x.to(self.dtype)
        down, up = self.factors()
        kernel = down.view(len(down), *self._weight.shape[1:])
        stride, padding = self.base.stride, self.base.padding
        change = functional.conv2d(
            functional.conv2d(x_low, kernel, None, stride, padding), up[..., None, None]
        )
        whole = functional.conv2d(x_low, self._weight, self._bias, stride, padding)
        return (whole + change).to(x.dtype)


class Trained(ABC):
    """What a run trains: tensors of every layer, by their role, as views into one flat float32
    tensor.

    One tensor with one gradient makes a step of the optimizer, the norm of the gradient, an average
    of the weights and the state of a run single operations.
    """

    def __init__(self, layers: Mapping[str, Mapping[str, Tensor]], device: torch.device) -> None:
        pieces = [tensor.float() for parts in layers.values() for tensor in parts.values()]
        self.flat = nn.Parameter(torch.cat([piece.reshape(-1) for piece in pieces]).to(device))
        self.flat.grad = torch.zeros_like(self.flat)
        self.parts: dict[str, dict[str, nn.Parameter]] = {}
        offset = 0
        for name, parts in layers.items():
            self.parts[name] = {}
            for role, tensor in parts.items():
                span = slice(offset, offset := offset + tensor.numel())
                view = nn.Parameter(self.flat.detach()[span].view(tensor.shape))
                view.grad = self.gradient[span].view(
                    tensor.shape
                )  # autograd adds into it, so the flat gradient fills
                self.parts[name][role] = view

    def span(self, names: Sequence[str]) -> nn.Parameter:
        """The tensors of layers that follow each other, as one flat view."""
        views = [view for name in names for view in self.parts[name].values()]
        first, last = views[0].storage_offset(), views[-1].storage_offset() + views[-1].numel()
        view = nn.Parameter(self.flat.detach()[first:last])
        view.grad = self.gradient[first:last]
        return view

    @property
    def gradient(self) -> Tensor:
        """Of the flat tensor."""
        if self.flat.grad is None:
            self.flat.grad = torch.zeros_like(self.flat)
        return self.flat.grad

    def free_gradient(self) -> None:
        """Drop the gradient; the views have none from now on. The backward pass in `low_precision`
        makes that of the flat tensor anew, when the activations are gone."""
        self.flat.grad = None
        for view in self.tensors():
            view.grad = None

    def tensors(self) -> list[nn.Parameter]:
        """The views, for what needs matrices."""
        return [view for parts in self.parts.values() for view in parts.values()]

    def low_precision(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Within the context, a forward pass and its backward pass, layers may share one copy of
        what is trained in `dtype`."""
        return nullcontext()

    @abstractmethod
    def wrapped(self, name: str, layer: nn.Module, dtype: torch.dtype) -> nn.Module:
        """The layer with its change, large products taken in `dtype`."""

    @abstractmethod
    def payload(self, dtype: str) -> Payload:
        """The tensors of a checkpoint as they are now, in F32, BF16 or F16; write it before the
        next step."""


class Adapters(Trained):
    """The factors of a LoRA."""

    def __init__(self, factors: Mapping[str, Factors], device: torch.device) -> None:
        super().__init__(
            {name: {"down": row.down, "up": row.up} for name, row in factors.items()}, device
        )
        self._alphas = {name: row.alpha for name, row in factors.items()}
        self.layers = {name: (parts["down"], parts["up"]) for name, parts in self.parts.items()}
        self._wrapped: dict[str, LoraLinear] = {}

    def scale(self, name: str) -> float:
        return self._alphas[name] / self.layers[name][0].shape[0]

    def wrapped(self, name: str, layer: nn.Module, dtype: torch.dtype) -> nn.Module:
        factors, scale = self.layers[name], self.scale(name)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        kind = LoraConv if isinstance(layer, nn.Conv2d) else LoraLinear
        wrapped = kind(layer, *factors, scale, dtype)
        self._wrapped[name] = wrapped
        return wrapped

    @contextmanager
    def low_precision(self, dtype: torch.dtype) -> Iterator[None]:
        """A cast and a gradient for all layers together: five operations, not eight a layer."""
        views = self.tensors()
        scales = [self.scale(name) for name in self.layers]
        sizes = [view.numel() for view in views]
        if all(scale == 1 for scale in scales):
            flat = self.flat.to(dtype)
        else:
            flat = _ScaledUps.apply(self.flat, sizes, scales, dtype)
        pieces = iter(zip(flat.split(sizes), views, strict=True))
        try:
            for name in self.layers:
                (down, down_like), (up, up_like) = next(pieces), next(pieces)
                self._wrapped[name].low = down.view_as(down_like), up.view_as(up_like)
            yield
        finally:
            for layer in self._wrapped.values():
                layer.low = None

    def payload(self, dtype: str) -> Payload:
        return lora_payload(self.lora(), dtype=dtype)

    def lora(self) -> Lora:
        """A copy of the factors as they are now, on the CPU."""
        return Lora(
            {
                name: Factors(
                    down.detach().cpu().clone(), up.detach().cpu().clone(), self._alphas[name]
                )
                for name, (down, up) in self.layers.items()
            }
        )


class _ScaledUps(torch.autograd.Function):
    """A copy in `dtype` of down, up, down, … of these sizes, the ups times their scales."""

    @staticmethod
    def forward(
        ctx: Any, flat: Tensor, sizes: list[int], scales: list[float], dtype: torch.dtype
    ) -> Tensor:
        ctx.sizes, ctx.scales = sizes, scales
        pieces = list(flat.split(sizes))
        pieces[1::2] = torch._foreach_mul(pieces[1::2], scales)
        return torch.cat(pieces).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].to(torch.float32, copy=True)
        torch._foreach_mul_(list(gradient.split(ctx.sizes))[1::2], ctx.scales)
        return gradient, None, None, None


def fresh_factors(
    linears: Sequence[Linear], rank_alphas: Mapping[str, tuple[int, float]], seed: int
) -> dict[str, Factors]:
    """Factors of each layer's (rank, alpha) that change nothing yet: down uniform in ±1/√in as PEFT
    draws it, up zero. Drawn per layer.
    """
    factors = {}
    for linear in linears:
        rank, alpha = rank_alphas[linear.name]
        down = uniform((rank, linear.in_features), seed, "lora", linear.name)
        factors[linear.name] = Factors(down, torch.zeros(linear.out_features, rank), alpha)
    return factors


def uniform(shape: tuple[int, int], seed: int, purpose: str, layer: str) -> Tensor:
    """A matrix with values uniform in ±1/√columns, drawn by counter."""
    bound = shape[1] ** -0.5
    return torch.from_numpy(generator(seed, purpose, layer).uniform(-bound, bound, shape)).float()


@contextmanager
def attached(family: Family, adapters: Trained, dtype: torch.dtype) -> Iterator[None]:
    """Within the context the base, frozen, computes with the adapters; then its own layers are back
    in place."""
    rows = [row for row in family.spec.lora_linears if row.name in adapters.parts]
    models = {name: family.component(name) for name in {None, *(row.component for row in rows)}}
    for model in models.values():
        model.requires_grad_(False)
    originals = {row: models[row.component].get_submodule(row.diffusers) for row in rows}
    try:
        for row, layer in originals.items():
            wrapped = adapters.wrapped(row.name, layer, dtype)
            models[row.component].set_submodule(row.diffusers, wrapped)
        yield
    finally:
        for row, layer in originals.items():
            models[row.component].set_submodule(row.diffusers, layer)
