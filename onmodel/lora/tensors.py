"""A whole LoRA in memory as torch tensors, for what trains and applies it. file.py reads files,
writing.py writes them.

In memory a layer is called by its name in the base's own files and its factors are float32. ΔW =
alpha/r · up @ down.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.protocol import Family, FamilySpec
from onmodel.lora.factors import Factors, LayerShape
from onmodel.lora.file import LENGTHS, LoraFile, check_shapes
from onmodel.lora.kinds import expand
from onmodel.lora.layouts import Layout
from onmodel.lora.peft_config import alpha_of
from onmodel.lora.writing import FileFormat, LoraTensors, rank_words
from onmodel.randomness import normal
from onmodel.weights import Payload

__all__ = [
    "Factors",
    "Lora",
    "applied",
    "change_weight",
    "changes_text",
    "check_backbone_alone",
    "check_fits",
    "lora_payload",
    "read_lora",
    "rescale",
    "write_lora",
]

_ROWS = 128  # of a weight that are changed at a time


@dataclass(frozen=True)
class Compact:
    """A LoHa or LoKr layer or a whole difference as its file has it, role → matrix, with its scale
    in one of them. Its plain factors may take a thousand times the memory, so they are made when
    they are asked for. With a magnitude it is DoRA, as in `Factors`.
    """

    parts: Mapping[str, Tensor]
    alpha: float
    rank: int
    magnitude: Tensor | None = None

    @property
    def changes_nothing(self) -> bool:
        """Whether ΔW is zero."""
        return not all(part.any() for part in self.parts.values())

    def factors(self) -> Factors[Tensor]:
        """The plain factors of the same change."""
        down, up = expand({role: part.numpy() for role, part in self.parts.items()})
        up = up / np.float32(self.alpha / self.rank) if self.alpha else up
        return Factors(torch.from_numpy(down), torch.from_numpy(up), self.alpha, self.magnitude)

    def delta(self, device: torch.device) -> Tensor:
        """ΔW [out, in]."""
        parts = {role: part.to(device) for role, part in self.parts.items()}
        if "diff" in parts:
            return parts["diff"]
        if "hada_w1_a" in parts:
            first = parts["hada_w1_a"] @ parts["hada_w1_b"]
            return first * (parts["hada_w2_a"] @ parts["hada_w2_b"])
        one, other = (
            parts[side] if side in parts else parts[f"{side}_a"] @ parts[f"{side}_b"]
            for side in ("lokr_w1", "lokr_w2")
        )
        return torch.kron(one, other)


class _Modules(Mapping[str, Factors[Tensor]]):
    """Layers by name, in the model's order. The plain factors of those that are compact are made
    at each access, so that one layer's are in memory at a time."""

    def __init__(self, layers: Mapping[str, Factors[Tensor] | Compact]) -> None:
        self.layers = layers

    def __getitem__(self, name: str) -> Factors[Tensor]:
        found = self.layers[name]
        return found.factors() if isinstance(found, Compact) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)


@dataclass(frozen=True)
class Lora:
    """The layers that a LoRA changes, by the base's own names and in the model's order, and its
    header's words."""

    modules: Mapping[str, Factors[Tensor]]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def layers(self) -> Mapping[str, Factors[Tensor] | Compact]:
        """The same layers, LoHa and LoKr as small as in their file."""
        return self.modules.layers if isinstance(self.modules, _Modules) else self.modules

    @property
    def trained_alpha(self) -> float | None:
        """The alpha of its training, `alpha_of`."""
        scaled = (
            one
            for one in self.layers.values()
            if isinstance(one, Factors) or "diff" not in one.parts
        )
        return alpha_of(self.metadata, (one.alpha for one in scaled))


def read_lora(path: Path, spec: FamilySpec, *, dora: bool = False) -> Lora:
    """Read a LoRA for the model that `spec` describes, or (with `dora`) a DoRA; raises what
    `LoraFile` raises."""
    with LoraFile(path, spec, dora=dora) as file:
        layers: dict[str, Factors[Tensor] | Compact] = {}
        for name, shape in file.layers.items():
            parts = file.compact(name)
            if parts is not None:
                tensors = {role: torch.from_numpy(part) for role, part in parts.items()}
                lengths = [tensors.pop(role).reshape(-1) for role in LENGTHS if role in tensors]
                row_lengths = lengths[0] if lengths else None
                layers[name] = Compact(tensors, file.alpha(name), shape.rank, row_lengths)
                continue
            one = file.factors(name)
            magnitude = None if one.magnitude is None else torch.from_numpy(one.magnitude)
            layers[name] = Factors(
                torch.from_numpy(one.down), torch.from_numpy(one.up), one.alpha, magnitude
            )
        return Lora(_Modules(layers), file.metadata)


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
    dora = frozenset(name for name, one in lora.layers.items() if one.magnitude is not None)
    tensors = LoraTensors(layers, alphas, factors, FileFormat(layout, dtype, dora))
    return replace(tensors.payload(), words=rank_words(layers, lora.trained_alpha))


def change_weight(weight: Tensor, layer: Factors[Tensor] | Compact, strength: float) -> None:
    """Change a base's weight, [out, in], a norm's [out] or a convolution's [out, channels, height,
    width], in place: W + strength·(what the layer becomes − W), without gradients.

    On a processor it is done in groups of rows, whose ΔW fits into the cache: five times as fast,
    and the same bits.
    """
    if weight.ndim == 1:
        weight = weight.unsqueeze(1)
    elif weight.ndim == 4:
        weight = weight.view(len(weight), -1)
    device = weight.device
    count = math.ceil(len(weight) / _ROWS) if device.type == "cpu" else 1
    if isinstance(layer, Compact):
        deltas, scale = iter(layer.delta(device).tensor_split(count)), 1.0
    else:
        down, scale = layer.down.to(device), layer.scale
        deltas = (up.to(device) @ down for up in layer.up.tensor_split(count))
    magnitude = layer.magnitude
    magnitudes = [None] * count if magnitude is None else magnitude.tensor_split(count)
    for rows, delta, lengths in zip(weight.tensor_split(count), deltas, magnitudes, strict=True):
        if lengths is None:
            rows.add_(delta, alpha=strength * scale)
        else:
            whole = rows.float() + scale * delta
            whole *= (lengths.to(device) / whole.norm(dim=1)).unsqueeze(1)
            rows.add_(whole - rows.float(), alpha=strength)


@contextmanager
def applied(family: Family, lora: Lora, weight: float) -> Iterator[None]:
    """Within the context the base has weight·ΔW added. At its end the exact weights of before are
    back. Nothing is kept in memory twice. Raises InputError when the LoRA does not fit the base."""
    layers = lora.layers
    plain = {name: one for name, one in layers.items() if isinstance(one, Factors)}
    if len(plain) == len(layers):  # the others were compared with the base when they were read
        check_fits(plain, family.spec, "applied")
    linears = {linear.name: linear for linear in family.spec.lora_linears}
    with family.changed([linears[name] for name in layers]) as weights:
        with torch.no_grad():
            for name, one in layers.items():
                change_weight(weights[name], one, weight)
        yield


def changes_text(lora: Lora, spec: FamilySpec) -> bool:
    """Does a LoRA change what encodes text?"""
    return any(row.name in lora.layers for row in spec.text_linears)


def check_backbone_alone(
    lora: Lora,
    spec: FamilySpec,
    field: str,
    name: str,
    why: str,
    allowed: Collection[str] = (),
) -> None:
    """Raise InputError when a LoRA called `name` changes text layers or norms too, but for layers
    of the `allowed` components; `why` says in words why it must not."""
    text = tuple(row for row in spec.text_linears if row.component not in allowed)
    rows = [row for row in text + spec.norms if row.name in lora.layers]
    if not rows:
        return
    parts = dict.fromkeys("diff" if row in spec.norms else str(row.component) for row in rows)
    remedy = " ".join(f"--leave-out {part}" for part in parts)
    what = " and of the ".join("norms" if part == "diff" else part for part in parts)
    raise InputError(
        field,
        name,
        f"changes {len(rows)} layers of the {what}, which {why}; onmodel lora convert FILE -o OUT"
        f" {remedy} writes the rest",
    )


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
