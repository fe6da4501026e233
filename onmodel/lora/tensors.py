"""A whole LoRA in memory as torch tensors, for what trains and applies it. file.py reads files,
writing.py writes them.

In memory a layer is called by its name in the base's own files and its factors are float32. ΔW =
alpha/r · up @ down.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from onmodel.errors import InputError
from onmodel.families.protocol import Family, FamilySpec
from onmodel.lora.factors import Factors, LayerShape
from onmodel.lora.file import LoraFile, alpha_of, check_shapes
from onmodel.lora.layouts import Layout
from onmodel.lora.writing import FileFormat, LoraTensors, rank_words
from onmodel.randomness import normal
from onmodel.weights import Payload

__all__ = [
    "Factors",
    "Lora",
    "applied",
    "change_weight",
    "check_fits",
    "lora_payload",
    "read_lora",
    "rescale",
    "write_lora",
]


@dataclass(frozen=True)
class Lora:
    """The layers that a LoRA changes, by the base's own names and in the model's order, and its
    header's words."""

    modules: Mapping[str, Factors[Tensor]]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def trained_alpha(self) -> float | None:
        """The alpha of its training, `alpha_of`."""
        return alpha_of(self.metadata, (factors.alpha for factors in self.modules.values()))


def read_lora(path: Path, spec: FamilySpec, *, dora: bool = False) -> Lora:
    """Read a LoRA for the model that `spec` describes, or (with `dora`) a DoRA; raises what
    `LoraFile` raises."""
    with LoraFile(path, spec, dora=dora) as file:
        modules = {}
        for name in file.layers:
            one = file.factors(name)
            magnitude = None if one.magnitude is None else torch.from_numpy(one.magnitude)
            modules[name] = Factors(
                torch.from_numpy(one.down), torch.from_numpy(one.up), one.alpha, magnitude
            )
        return Lora(modules, file.metadata)


def write_lora(
    path: Path,
    lora: Lora,
    metadata: Mapping[str, str],
    layout: Layout = "common",
    dtype: str = "F32",
) -> None:
    """Write a LoRA; rank and trained alpha are added to the words (`lora_payload`)."""
    lora_payload(lora, layout, dtype).write(path, metadata)


def lora_payload(lora: Lora, layout: Layout = "common", dtype: str = "F32") -> Payload:
    """The tensors of a LoRA's file, with its rank and trained alpha as words. Raises InputError
    when a value does not fit `dtype`."""

    def factors(name: str) -> Factors:
        one = lora.modules[name]
        magnitude = None if one.magnitude is None else one.magnitude.float().numpy()
        return Factors(one.down.float().numpy(), one.up.float().numpy(), one.alpha, magnitude)

    layers = {
        name: LayerShape(one.up.shape[0], one.down.shape[1], one.rank)
        for name, one in lora.modules.items()
    }
    alphas = {name: one.alpha for name, one in lora.modules.items()}
    dora = any(one.magnitude is not None for one in lora.modules.values())
    tensors = LoraTensors(layers, alphas, factors, FileFormat(layout, dtype, dora))
    return replace(tensors.payload(), words=rank_words(layers, lora.trained_alpha))


def change_weight(weight: Tensor, factors: Factors[Tensor], strength: float) -> None:
    """Change a base's weight [out, in] in place: W + strength·(what the layer becomes − W), without
    gradients."""
    delta = factors.up.to(weight.device) @ factors.down.to(weight.device)
    if factors.magnitude is None:
        weight.add_(delta, alpha=strength * factors.scale)
        return
    whole = weight.float() + factors.scale * delta
    whole *= (factors.magnitude.to(weight.device) / whole.norm(dim=1)).unsqueeze(1)
    weight.add_(whole - weight.float(), alpha=strength)


@contextmanager
def applied(family: Family, lora: Lora, weight: float) -> Iterator[None]:
    """Within the context the base has weight·ΔW added. At its end the exact weights of before are
    back. Raises InputError when the LoRA does not fit the base."""
    check_fits(lora.modules, family.spec, "applied")
    linears = {linear.name: linear for linear in family.spec.lora_linears}
    weights: dict[str, Tensor] = {}
    for name in lora.modules:
        linear = linears[name]
        layer = family.component(linear.component).get_submodule(linear.diffusers)
        assert isinstance(layer, nn.Linear), "a base is not changed while adapters are attached"
        weights[name] = layer.weight
    saved = {name: one.detach().clone() for name, one in weights.items()}
    changes_text = any(linears[name].component is not None for name in lora.modules)
    try:
        with torch.no_grad():
            for name, factors in lora.modules.items():
                change_weight(weights[name], factors, weight)
        # Prompts, negative and unconditional ones too, are encoded again with the changed weights.
        with family.text_changed() if changes_text else nullcontext():
            yield
    finally:
        with torch.no_grad():
            for name, original in saved.items():
                weights[name].copy_(original)


def check_fits(modules: Mapping[str, Factors[Tensor]], spec: FamilySpec, source: object) -> None:
    """Raise InputError unless every layer exists in the model, has its size, and there is one at
    all."""
    check_shapes(
        {name: (one.up.shape[0], one.down.shape[1]) for name, one in modules.items()}, spec, source
    )


def rescale(lora: Lora, rank_alphas: Mapping[str, tuple[int, float]], seed: int) -> Lora:
    """The same ΔW written with each layer's (rank, alpha), so that training goes on at the run's
    own step size.

    Alpha sets the size of a training step, so a file's factors must not be trained under another
    alpha as they are. The scale goes into `up`; new rows of `down` are random, new columns of `up`
    zero (both zero never learns). Raises InputError when a rank is smaller than the LoRA's, or
    alpha is not above 0.
    """
    modules = {}
    for name, factors in lora.modules.items():
        rank, alpha = rank_alphas[name]
        if alpha <= 0:
            raise InputError("alpha", alpha, "must be above 0")
        if factors.rank > rank:
            raise InputError(
                "rank",
                rank,
                f"the LoRA has rank {factors.rank} at {name}; merge it to {rank} first",
            )
        extra, size = rank - factors.rank, factors.down.shape[1]
        rows = torch.from_numpy(normal((extra, size), seed, "pad rank", name)) / size**0.5
        up = factors.up * (factors.scale / (alpha / rank))
        down, up = (
            torch.cat([factors.down, rows]),
            torch.cat([up, up.new_zeros(up.shape[0], extra)], dim=1),
        )
        modules[name] = Factors(down, up, alpha, factors.magnitude)
    return Lora(modules)
