"""DoRA and LoKr: PEFT's own layers, whose parameters are views into the run's flat tensor.

They cost more than plain LoRA (LOG.md), so LoRA has its own layer in adapters.py.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from peft import LoKrConfig, LoraConfig
from peft.tuners import lokr, lora
from torch import Tensor, nn

from onmodel.families.protocol import Family, Linear
from onmodel.lora.kinds import lokr_payload
from onmodel.lora.tensors import Factors, Lora, lora_payload
from onmodel.train.adapters import Trained, uniform
from onmodel.weights import Payload


class _InPrecision(nn.Module):
    """A layer whose products are taken in `dtype`; what goes in and comes out keeps its own."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.dtype = layer, dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, self.dtype, enabled=self.dtype is torch.bfloat16):
            y: Tensor = self.layer(x)
        return y.to(x.dtype)


class DoraAdapters(Trained):
    """LoRA with the length of every row of W + ΔW trained apart from its direction
    (https://arxiv.org/abs/2402.09353).

    The length begins as it is, or as a DoRA that is trained on says.
    """

    def __init__(
        self, family: Family, factors: Mapping[str, Factors], device: torch.device
    ) -> None:
        linears = {linear.name: linear for linear in family.spec.lora_linears}
        parts = {}
        for name, row in factors.items():
            magnitude = row.magnitude
            if magnitude is None:
                linear = linears[name]
                model = family.component(linear.component)
                weight = model.get_submodule(linear.diffusers).weight
                assert isinstance(weight, Tensor)
                magnitude = (weight.detach().float().cpu() + row.delta()).norm(dim=1)
            parts[name] = {"down": row.down, "up": row.up, "magnitude": magnitude}
        super().__init__(parts, device)
        self._alphas = {name: row.alpha for name, row in factors.items()}

    def wrapped(self, name: str, layer: nn.Module, dtype: torch.dtype) -> nn.Module:
        assert isinstance(layer, nn.Linear)
        down, up, magnitude = self.parts[name].values()
        config = LoraConfig(use_dora=True)
        with torch.device(
            "meta"
        ):  # PEFT would draw factors and measure the base's rows for nothing
            like = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            alpha: Any = self._alphas[name]  # PEFT declares an int and takes a float
            wrapper = lora.Linear(like, "run", config=config, r=down.shape[0], lora_alpha=alpha)
        wrapper.base_layer = layer
        wrapper.lora_A["run"].weight, wrapper.lora_B["run"].weight = down, up
        wrapper.lora_magnitude_vector["run"].weight = magnitude
        return _InPrecision(wrapper, dtype)

    def payload(self, dtype: str) -> Payload:
        return lora_payload(self.lora(), dtype=dtype)

    def lora(self) -> Lora:
        """A copy of the tensors as they are now, on the CPU."""
        copies = {}
        for name, row in self.parts.items():
            copies[name] = [view.detach().cpu().clone() for view in row.values()]
        return Lora(
            {
                name: Factors(down, up, self._alphas[name], magnitude)
                for name, (down, up, magnitude) in copies.items()
            }
        )


class LokrAdapters(Trained):
    """ΔW = alpha/r · W1 ⊗ W2, W2 a product of rank r where that is smaller
    (https://arxiv.org/abs/2309.14859).

    Begins at no change, as LyCORIS does: W1 random, W2 (or its second factor) zero.
    """

    def __init__(
        self,
        linears: Sequence[Linear],
        rank_alphas: Mapping[str, tuple[int, float]],
        factor: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self._rank_alphas, self._factor = rank_alphas, factor
        parts: dict[str, dict[str, Tensor]] = {}
        for linear in linears:
            shapes = lokr_shapes(linear, rank_alphas[linear.name][0], factor)
            parts[linear.name] = {
                role: torch.zeros(shape)
                if role in ("lokr_w2", "lokr_w2_b")
                else uniform((shape[0], shape[1]), seed, role, linear.name)
                for role, shape in shapes.items()
            }
        super().__init__(parts, device)

    def wrapped(self, name: str, layer: nn.Module, dtype: torch.dtype) -> nn.Module:
        assert isinstance(layer, nn.Linear)
        wrapper = _lokr_layer(layer, *self._rank_alphas[name], self._factor)
        for role, found in _lokr_roles(wrapper):
            found["run"] = self.parts[name][role]
        return _InPrecision(wrapper, dtype)

    def payload(self, dtype: str) -> Payload:
        layers = {}
        for name, row in self.parts.items():
            layers[name] = {role: part.detach().cpu().numpy() for role, part in row.items()}
        return lokr_payload(layers, self._rank_alphas, dtype)


def lokr_shapes(linear: Linear, rank: int, factor: int) -> dict[str, tuple[int, ...]]:
    """Role → shape of a LoKr of this layer, as PEFT makes it."""
    like = _lokr_layer(
        nn.Linear(linear.in_features, linear.out_features, device="meta"), rank, 1.0, factor
    )
    return {role: tuple(found["run"].shape) for role, found in _lokr_roles(like)}


def _lokr_layer(layer: nn.Linear, rank: int, alpha: float, factor: int) -> lokr.Linear:
    config = LoKrConfig(decompose_factor=factor)
    return lokr.Linear(
        layer, "run", config=config, r=rank, alpha=alpha
    ).eval()  # in training mode it draws numbers


def _lokr_roles(layer: lokr.Linear) -> list[tuple[str, nn.ParameterDict]]:
    """What PEFT keeps of this layer, by LyCORIS's names."""
    return [
        (role, found)
        for role in layer.adapter_layer_names
        if "run" in (found := getattr(layer, role))
    ]
