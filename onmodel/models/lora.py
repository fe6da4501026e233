"""A LoRA in memory, its reader for every layout that Anima LoRAs come in, and its writer.

In memory a layer is called by its name in the base's own files and its factors are float32. ΔW = alpha/r · up @ down.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.models.family import FamilySpec
from onmodel.models.foreign import recognise
from onmodel.models.keys import REFUSED, Layout, name_table, parse_key, written_keys
from onmodel.models.lycoris import expand_loha, expand_lokr
from onmodel.models.weights import PAYLOAD_KEY, open_weights, payload_sha256, write_weights
from onmodel.randomness import normal


@dataclass(frozen=True, slots=True)
class Factors:
    """The low-rank change of one layer: down [r, in], up [out, r], float32."""

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """ΔW [out, in]."""
        return self.scale * (self.up @ self.down)


@dataclass(frozen=True)
class Lora:
    """The layers that a LoRA changes, by the base's own names and in the model's order, and its header's words."""

    modules: Mapping[str, Factors]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def trained_alpha(self) -> float | None:
        """The alpha of its training: the header's `ss_network_alpha` (the common layout folds alpha away), else its
        own; None when the layers differ."""
        try:
            return float(self.metadata["ss_network_alpha"])
        except (KeyError, ValueError):
            alphas = {factors.alpha for factors in self.modules.values()}
            return alphas.pop() if len(alphas) == 1 else None


def read_lora(path: Path, spec: FamilySpec) -> Lora:
    """Read a LoRA for the model that `spec` describes: a safetensors file or a PEFT folder, any known layout.

    Raises InputError when the file is torn or lies about itself, when a key is unknown, when it was made for another
    model or another number of blocks, when it is DoRA or OFT, or when a factor does not fit or is not finite.
    """
    source, config = path, {}
    if path.is_dir():
        source, config = path / "adapter_model.safetensors", _read_config(path / "adapter_config.json")
    table = name_table(spec)
    found: dict[str, dict[str, Tensor]] = defaultdict(dict)
    unknown: list[str] = []
    with open_weights(source, "lora") as file:
        metadata: dict[str, str] = dict(file.metadata() or {})
        keys = list(file.keys())
        _refuse_other_kinds(path, keys)
        for key in keys:
            parsed = parse_key(key, table)
            if parsed is None:
                unknown.append(key)
                continue
            linear, role = parsed
            if role in found[linear.name]:
                raise InputError("lora", path, f"names {linear.name} twice ({key})")
            found[linear.name][role] = file.get_tensor(key).to(torch.float32, copy=True)  # not the mapped file
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
    _refuse_unknown(path, unknown, shapes, spec)
    if PAYLOAD_KEY in metadata and metadata[PAYLOAD_KEY] != payload_sha256(source):
        raise InputError("lora", path, "its tensors are not those that its header was written for; get it again")
    declared = _peft_scale(path, config or _header_config(metadata))
    modules = {
        linear.name: _factors(path, linear.name, found[linear.name], declared)
        for linear in spec.linears
        if linear.name in found
    }
    check_fits(modules, spec, path)
    _check_blocks(path, modules, spec)
    return Lora(modules, metadata)


def write_lora(
    path: Path,
    lora: Lora,
    metadata: Mapping[str, str],
    layout: Layout = "common",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a LoRA whole or not at all, with a header that is the same for the same content.

    `common` loads in ComfyUI and in diffusers: no alpha tensors, alpha/rank folded into up, the trained alpha kept as
    `ss_network_alpha`. Raises InputError when a value does not fit `dtype`.
    """
    tensors: dict[str, Tensor] = {}
    for name, factors in lora.modules.items():
        down_key, up_key, alpha_key = written_keys(name, layout)
        tensors[down_key] = factors.down.to(dtype)
        tensors[up_key] = (factors.up if alpha_key else factors.up * factors.scale).to(dtype)
        if alpha_key:
            tensors[alpha_key] = torch.tensor(factors.alpha)
        if not (tensors[down_key].isfinite().all() and tensors[up_key].isfinite().all()):
            raise InputError("dtype", dtype, f"{name} overflows; write bfloat16 or float32")
    write_weights(path, tensors, {**metadata, **_kohya_words(lora)})


def check_fits(modules: Mapping[str, Factors], spec: FamilySpec, source: object) -> None:
    """Raise InputError unless every layer exists in the model, has its size, and there is one at all."""
    linears = {linear.name: linear for linear in spec.linears}
    if not modules:
        raise InputError("lora", source, f"changes no layer of this {spec.name}")
    for name, factors in modules.items():
        if name not in linears:
            raise InputError("lora", source, f"{name} is no layer of this {spec.name}")
        shape = (factors.up.shape[0], factors.down.shape[1])
        wanted = (linears[name].out_features, linears[name].in_features)
        if shape != wanted:
            raise InputError("lora", source, f"{name} is {shape}, this {spec.name} has {wanted} there")


def regauge(lora: Lora, rank: int, alpha: float, seed: int) -> Lora:
    """The same ΔW written with another rank and alpha, so that training goes on at the run's own step size.

    Alpha sets the size of a training step, so a file's factors must not be trained under another alpha as they are.
    The scale goes into `up`; new rows of `down` are random, new columns of `up` zero (both zero never learns).
    Raises InputError when `rank` is smaller than the LoRA's, or alpha is not above 0.
    """
    if alpha <= 0:
        raise InputError("alpha", alpha, "must be above 0")
    modules = {}
    for name, factors in lora.modules.items():
        if factors.rank > rank:
            raise InputError("rank", rank, f"the LoRA has rank {factors.rank} at {name}; merge it to {rank} first")
        extra, size = rank - factors.rank, factors.down.shape[1]
        rows = torch.from_numpy(normal((extra, size), seed, "pad rank", name)) / size**0.5
        up = factors.up * (factors.scale / (alpha / rank))
        modules[name] = Factors(
            torch.cat([factors.down, rows]), torch.cat([up, up.new_zeros(up.shape[0], extra)], dim=1), alpha
        )
    return Lora(modules, {**lora.metadata, "ss_network_dim": str(rank), "ss_network_alpha": f"{alpha:g}"})


def _factors(path: Path, name: str, parts: dict[str, Tensor], declared: tuple[float, bool] | None) -> Factors:
    """The factors of one layer. `declared` is PEFT's (alpha, rank-stabilised), where a config has it."""
    for role, tensor in parts.items():
        if not tensor.isfinite().all():
            raise InputError("lora", path, f"{name} {role} holds values that are not finite; use an earlier checkpoint")
    alpha = float(parts.pop("alpha")) if "alpha" in parts else None
    kinds = {role.partition("_")[0] for role in parts}
    try:
        if kinds == {"down", "up"}:
            down, up = parts["down"], parts["up"]
            if declared is not None and alpha is None:
                value, stabilised = declared
                alpha = value * down.shape[0] ** 0.5 if stabilised else value
        elif kinds == {"hada"}:
            down, up, alpha = expand_loha(parts, alpha)
        elif kinds == {"lokr"}:
            down, up, alpha = expand_lokr(parts, alpha)
        else:
            raise InputError("lora", path, f"{name} has only {', '.join(parts) or 'alpha'}; the file is incomplete")
    except KeyError as error:
        raise InputError("lora", path, f"{name} lacks {error.args[0]}; the file is incomplete") from error
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise InputError("lora", path, f"{name}: up {tuple(up.shape)} · down {tuple(down.shape)} is no product")
    return Factors(down, up, float(down.shape[0]) if alpha is None else alpha)


def _refuse_other_kinds(path: Path, keys: list[str]) -> None:
    for key in keys:
        for part, kind in REFUSED.items():
            if part in key:
                raise InputError("lora", path, f"is {kind} ({key}), not a plain LoRA; export it as one")
        if "llm_adapter" in key or key.startswith("text_conditioner."):
            raise InputError("lora", path, f"changes the text conditioner ({key}); train on the transformer alone")


def _refuse_unknown(path: Path, unknown: list[str], shapes: Mapping[str, tuple[int, ...]], spec: FamilySpec) -> None:
    """Name what was not understood: another model, another number of blocks, or stray keys."""
    total = len(shapes)
    blocks = [int(match[1]) for key in unknown if (match := re.search(r"blocks[._](\d+)[._]", key))]
    if blocks and len(unknown) < total and max(blocks) >= spec.blocks:
        raise InputError("lora", path, f"made for a base of {max(blocks) + 1} blocks; this one has {spec.blocks}")
    if unknown and len(unknown) == total:
        kind = recognise(shapes) or "something unknown"
        what = f"not for {spec.name}" if "LoRA" in kind else f"not a LoRA for {spec.name}"
        first = f"none of its {total} keys names a layer (first: {unknown[0]})"
        raise InputError("lora", path, f"is {kind}, {what}: {first}")
    if unknown:
        raise InputError("lora", path, f"{len(unknown)} of {total} keys are unknown: {', '.join(unknown[:4])}")


def _check_blocks(path: Path, modules: Mapping[str, Factors], spec: FamilySpec) -> None:
    """A LoRA that fills exactly the first blocks was made for a smaller base, where those are all there are."""
    present = {linear.block for linear in spec.linears if linear.name in modules} - {None}
    if present == set(range(len(present))) and 1 < len(present) < spec.blocks:
        raise InputError("lora", path, f"made for a base of {len(present)} blocks; this one has {spec.blocks}")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("lora", path, f"a PEFT folder needs its config ({error})") from error
    return config


def _header_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The PEFT config that diffusers keeps in a header, keys `transformer.…`."""
    try:
        config = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except ValueError:
        return {}
    return {key.removeprefix("transformer."): value for key, value in config.items()}


def _peft_scale(path: Path, config: Mapping[str, Any]) -> tuple[float, bool] | None:
    """(alpha, rank-stabilised) of a PEFT config; None when it says nothing."""
    if config.get("use_dora"):
        raise InputError("lora", path, "is DoRA, not a plain LoRA; export it as one")
    for pattern in ("alpha_pattern", "rank_pattern"):
        if config.get(pattern):
            raise InputError("lora", path, f"its config has a {pattern}; save it with one alpha and rank")
    if "lora_alpha" not in config:
        return None
    return float(config["lora_alpha"]), bool(config.get("use_rslora", False))


def _kohya_words(lora: Lora) -> dict[str, str]:
    """Rank and alpha as kohya's tools write and read them."""
    ranks = {factors.rank for factors in lora.modules.values()}
    words = {"ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic"}
    if (alpha := lora.trained_alpha) is not None:
        words["ss_network_alpha"] = f"{alpha:g}"
    return words
