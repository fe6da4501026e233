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
from onmodel.models.keys import REFUSED, Layout, name_table, parse_key, written_keys
from onmodel.models.lycoris import expand_loha, expand_lokr
from onmodel.models.weights import PAYLOAD_KEY, open_weights, payload_sha256, write_weights
from onmodel.randomness import normal

BLOCKS_KEY = "onmodel.blocks"  # how many blocks the base has that a LoRA was made for


@dataclass(frozen=True, slots=True)
class Factors:
    """The low-rank change of one layer: down [r, in], up [out, r], float32.

    With a magnitude [out] it is DoRA: W + ΔW with its rows brought to these lengths.
    """

    down: Tensor
    up: Tensor
    alpha: float
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        """ΔW [out, in]."""
        return self.scale * (self.up @ self.down)

    def add_to(self, weight: Tensor, strength: float) -> None:
        """Change a base's weight [out, in] in place: W + strength·(what the layer becomes − W), without gradients."""
        delta = self.up.to(weight.device) @ self.down.to(weight.device)
        if self.magnitude is None:
            weight.add_(delta, alpha=strength * self.scale)
            return
        whole = weight.float() + self.scale * delta
        whole *= (self.magnitude.to(weight.device) / whole.norm(dim=1)).unsqueeze(1)
        weight.add_(whole - weight.float(), alpha=strength)


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


def read_lora(path: Path, spec: FamilySpec, *, dora: bool = False) -> Lora:
    """Read a LoRA for the model that `spec` describes: a safetensors file or a PEFT folder, any known layout.

    `dora`: can the caller do with a change that depends on the base, which cannot be merged? Raises InputError when
    the file is torn or lies about itself, when a key is unknown, when it was made for another model or another number
    of blocks, when it is DoRA (unless asked for) or OFT, or when a factor does not fit or is not finite.
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
        _refuse_other_kinds(path, keys, dora)
        for key in keys:
            parsed = parse_key(key, table)
            if parsed is None:
                unknown.append(key)
                continue
            linear, role = parsed
            if role in found[linear.name]:
                raise InputError("lora", path, f"names {linear.name} twice ({key})")
            found[linear.name][role] = file.get_tensor(key).to(torch.float32, copy=True)  # not the mapped file
    _refuse_unknown(path, unknown, len(keys), spec)
    if PAYLOAD_KEY in metadata and metadata[PAYLOAD_KEY] != payload_sha256(source):
        raise InputError("lora", path, "its tensors are not those that its header was written for; get it again")
    declared = _peft_scale(path, config or _header_config(metadata), dora)
    modules = {
        linear.name: _factors(path, linear.name, found[linear.name], declared)
        for linear in spec.linears
        if linear.name in found
    }
    check_fits(modules, spec, path)
    _check_blocks(path, modules, spec, metadata.get(BLOCKS_KEY))
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
    `ss_network_alpha`. A magnitude stands in it twice, since each of the two reads it under another name.
    Raises InputError when a value does not fit `dtype`.
    """
    tensors: dict[str, Tensor] = {}
    for name, factors in lora.modules.items():
        down_key, up_key, alpha_key = written_keys(name, layout)
        tensors[down_key] = factors.down.to(dtype)
        tensors[up_key] = (factors.up if alpha_key else factors.up * factors.scale).to(dtype)
        if alpha_key:
            tensors[alpha_key] = torch.tensor(factors.alpha)
        if factors.magnitude is not None:
            stem = up_key.partition(".lora_")[0]
            tensors[f"{stem}.dora_scale"] = factors.magnitude.unsqueeze(1).to(dtype)
            if layout == "common":
                tensors[f"{stem}.lora_magnitude_vector"] = factors.magnitude.to(dtype)
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


def regauge(lora: Lora, gauges: Mapping[str, tuple[int, float]], seed: int) -> Lora:
    """The same ΔW written with each layer's (rank, alpha), so that training goes on at the run's own step size.

    Alpha sets the size of a training step, so a file's factors must not be trained under another alpha as they are.
    The scale goes into `up`; new rows of `down` are random, new columns of `up` zero (both zero never learns).
    Raises InputError when a rank is smaller than the LoRA's, or alpha is not above 0.
    """
    modules = {}
    for name, factors in lora.modules.items():
        rank, alpha = gauges[name]
        if alpha <= 0:
            raise InputError("alpha", alpha, "must be above 0")
        if factors.rank > rank:
            raise InputError("rank", rank, f"the LoRA has rank {factors.rank} at {name}; merge it to {rank} first")
        extra, size = rank - factors.rank, factors.down.shape[1]
        rows = torch.from_numpy(normal((extra, size), seed, "pad rank", name)) / size**0.5
        up = factors.up * (factors.scale / (alpha / rank))
        down, up = torch.cat([factors.down, rows]), torch.cat([up, up.new_zeros(up.shape[0], extra)], dim=1)
        modules[name] = Factors(down, up, alpha, factors.magnitude)
    return Lora(modules)


def _factors(path: Path, name: str, parts: dict[str, Tensor], declared: tuple[float, bool] | None) -> Factors:
    """The factors of one layer. `declared` is PEFT's (alpha, rank-stabilised), where a config has it."""
    for role, tensor in parts.items():
        if not tensor.isfinite().all():
            raise InputError("lora", path, f"{name} {role} holds values that are not finite; use an earlier checkpoint")
    alpha = float(parts.pop("alpha")) if "alpha" in parts else None
    lengths = [parts.pop(role) for role in ("dora_scale", "magnitude_vector") if role in parts]
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
    alpha = float(down.shape[0]) if alpha is None else alpha
    return Factors(down, up, alpha, _magnitude(path, name, lengths[0], up.shape[0], kinds) if lengths else None)


def _magnitude(path: Path, name: str, lengths: Tensor, rows: int, kinds: set[str]) -> Tensor:
    """DoRA's row lengths [out]. LyCORIS can also keep lengths of columns, [1, in]."""
    if kinds != {"down", "up"}:
        raise InputError("lora", path, f"is DoRA over {kinds.pop()} ({name}); only DoRA over LoRA is known")
    if lengths.shape not in ((rows,), (rows, 1)):
        raise InputError("lora", path, f"is DoRA over columns ({name}, {list(lengths.shape)}); only rows are known")
    return lengths.reshape(rows)


def _refuse_other_kinds(path: Path, keys: list[str], dora: bool) -> None:
    for key in keys:
        for part, kind in REFUSED.items():
            if part in key and not (dora and kind == "DoRA"):
                raise InputError("lora", path, f"is {kind} ({key}), not a plain LoRA; export it as one")
        if "llm_adapter" in key or key.startswith("text_conditioner."):
            raise InputError("lora", path, f"changes the text conditioner ({key}); train on the transformer alone")


def _refuse_unknown(path: Path, unknown: list[str], total: int, spec: FamilySpec) -> None:
    """Name what was not understood: another model, another number of blocks, or stray keys."""
    blocks = [int(match[1]) for key in unknown if (match := re.search(r"blocks[._](\d+)[._]", key))]
    if blocks and len(unknown) < total and max(blocks) >= spec.blocks:
        raise InputError("lora", path, f"made for a base of {max(blocks) + 1} blocks; this one has {spec.blocks}")
    if unknown and len(unknown) == total:
        raise InputError("lora", path, f"none of its {total} keys names a layer of {spec.name} (first: {unknown[0]})")
    if unknown:
        raise InputError("lora", path, f"{len(unknown)} of {total} keys are unknown: {', '.join(unknown[:4])}")


def _check_blocks(path: Path, modules: Mapping[str, Factors], spec: FamilySpec, said: str | None) -> None:
    """A LoRA is for as many blocks as its header says. One without that word which fills exactly the first blocks was
    made for a smaller base, where those are all there are.
    """
    present = {linear.block for linear in spec.linears if linear.name in modules} - {None}
    first = present == set(range(len(present))) and 1 < len(present) < spec.blocks
    made_for = said if said is not None else str(len(present) if first else spec.blocks)
    if made_for != str(spec.blocks):
        raise InputError("lora", path, f"made for a base of {made_for} blocks; this one has {spec.blocks}")


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


def _peft_scale(path: Path, config: Mapping[str, Any], dora: bool) -> tuple[float, bool] | None:
    """(alpha, rank-stabilised) of a PEFT config; None when it says nothing."""
    if config.get("use_dora") and not dora:
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
