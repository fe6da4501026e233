"""Write a LoRA in another key layout, with the same ΔW of every layer and the header's fields and
history.

`common` loads in ComfyUI and diffusers; it is kohya's layout for families of which both read that.
`kohya` is for kohya's trainer and A1111; `diffusers` has diffusers' own names, which ComfyUI does
not read. No base model is needed: names come from the family's table, sizes from the file.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onmodel.errors import InputError
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.hashing import sha256_file, tree_hash
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora import header
from onmodel.lora.author_paths import without_author_paths
from onmodel.lora.factors import Factors
from onmodel.lora.file import LoraFile
from onmodel.lora.kinds import LOW_RANK
from onmodel.lora.layouts import factor_shapes, has_alpha, written_keys, written_stem
from onmodel.lora.specs import spec_of_loras
from onmodel.weights import Entry, Payload, decode, encode, lora_weights, read_header

Target = Literal["common", "kohya", "diffusers"]


@dataclass(frozen=True)
class Converted:
    """What was written: its layers by component (None: the backbone), dtype, and sizes in bytes."""

    layers: Mapping[str | None, int]
    dtype: str
    bytes_before: int
    bytes_after: int


def plain_bytes(source: Path, leave_out: Collection[str] = ()) -> int | None:
    """About the size of the plain LoRA, in float32, of a file that has LoHa or LoKr layers; None
    where it has none."""
    spec = spec_of_loras([source], leave_out=leave_out)
    with LoraFile(source, spec, leave_out=leave_out) as file:
        if not any(map(file.is_compact, file.layers)):
            return None
        return sum(4 * one.rank * (one.out + one.in_) for one in file.layers.values())


def convert(
    source: Path, target: Path, layout: Target, leave_out: Collection[str] = ()
) -> Converted:
    """Write `source` (a file or a PEFT folder) as `target`, without what `leave_out` names
    (`LoraFile`).

    The file's own dtype is kept where it holds every number exactly; folding alpha/rank may need
    float32. A LoHa, a LoKr or a whole difference stays one, but in diffusers' layout, which has
    none: there it becomes the plain LoRA of the same change, which may be a thousand times larger.
    Raises InputError for what LoraFile refuses, for norms in diffusers' layout, and when `target`
    exists.
    """
    if target.exists():
        raise InputError("out", target, "exists already; name a new file")
    spec = spec_of_loras([source], leave_out=leave_out)
    with LoraFile(source, spec, leave_out=leave_out) as file:
        norms = [row.name for row in spec.norms if row.name in file.layers]
        if norms and layout == "diffusers":
            what = (
                f"changes {len(norms)} norms ({norms[0]}), which the diffusers layout cannot hold"
            )
            raise InputError("lora", source, f"{what}; leave them out: --leave-out diff")
        past = header.lineage_of(
            file.metadata, tree_hash(source) if source.is_dir() else sha256_file(source)
        )
        tensors = layout_tensors(file, spec, layout)
        metadata, layers = file.metadata, list(file.layers)
    if broken := next(
        (key for key, array in tensors.items() if not np.isfinite(array).all()), None
    ):
        raise InputError(
            "lora", source, f"{broken} overflows in the {layout} layout; correct ss_network_alpha"
        )
    dtype = smallest_dtype(source, tensors)
    left = {"left_out": sorted(leave_out)} if leave_out else {}
    facts = {"layout": layout, **left}
    write_tensors(target, encoded(tensors, dtype), metadata, past, "conversion", facts)
    by_name = {linear.name: linear.component for linear in spec.lora_linears}
    return Converted(
        Counter(by_name[name] for name in layers),
        dtype,
        lora_weights(source).stat().st_size,
        target.stat().st_size,
    )


def write_tensors(
    target: Path,
    payload: Payload,
    metadata: Mapping[str, str],
    past: Lineage,
    kind: str,
    facts: Mapping[str, Any],
) -> None:
    """Write the tensors of a file in another form, with its header's words `metadata` and one node
    of that kind on top of its history `past`."""
    # PEFT's own config would be applied again on top of what is folded in now.
    dropped = ("lora_adapter_metadata", *header.HISTORY_KEYS)
    words = {
        key: without_author_paths(value) for key, value in metadata.items() if key not in dropped
    }
    words["sshs_model_hash"] = payload.sha256
    held = header.held(payload.sha256, payload.table_sha256, words)
    history = add([past], kind, **{**facts, **held})
    payload.write(target, {**words, **header.history_words(history)})


def encoded(tensors: Mapping[str, np.ndarray], dtype: str) -> Payload:
    """Tensors as a file's payload: alphas in float32, the others in `dtype`."""
    entries, arrays = {}, {}
    for key, array in tensors.items():
        kind = "F32" if key.endswith(".alpha") else dtype
        entries[key], arrays[key] = Entry(kind, array.shape), encode(array, kind)
    return Payload(entries, arrays)


def layout_tensors(file: LoraFile, spec: FamilySpec, layout: Target) -> dict[str, np.ndarray]:
    """The tensors of a layout, float32."""
    tensors: dict[str, np.ndarray] = {}
    alpha = file.trained_alpha
    for linear in spec.lora_linears:
        if linear.name not in file.layers:
            continue
        parts = None if layout == "diffusers" else file.compact(linear.name)
        if parts is not None and layout != "diffusers":
            stem = written_stem(linear.name, layout)
            tensors |= {f"{stem}.{role}": matrix for role, matrix in parts.items()}
            if "diff" in parts:
                shape = factor_shapes(linear.name, file.layers[linear.name])[2]
                tensors[f"{stem}.diff"] = parts["diff"].reshape(
                    -1 if linear.in_features == 1 else shape
                )
            elif has_alpha(linear.name, layout):  # alpha/rank is 1, which every tool reads alike
                rank = next((len(parts[role]) for role in reversed(LOW_RANK) if role in parts), 1)
                tensors[f"{stem}.alpha"] = np.array(rank, np.float32)
            continue
        factors = file.factors(linear.name)
        down, up, alpha_key = _keys(linear, spec, layout)
        down_shape, up_shape, _ = factor_shapes(linear.name, file.layers[linear.name])
        tensors[down] = factors.down.reshape(down_shape)
        if alpha_key:
            # The alpha of its training, which the common layout folds away, is unfolded again.
            written = factors.alpha
            if alpha:
                factors = Factors(
                    factors.down,
                    factors.up * np.float32(factors.scale * factors.rank / alpha),
                    alpha,
                )
                written = alpha
            tensors[alpha_key] = np.array(written, np.float32)
        changed = factors.up if alpha_key else factors.up * np.float32(factors.scale)
        tensors[up] = changed.reshape(up_shape)
    return tensors


def _keys(linear: Linear, spec: FamilySpec, layout: Target) -> tuple[str, str, str | None]:
    if layout == "diffusers":
        stem = f"{linear.component or spec.backbone}.{linear.diffusers}"
        return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight", None
    return written_keys(linear.name, layout)


def smallest_dtype(source: Path, tensors: Mapping[str, np.ndarray]) -> str:
    """The source's own dtype when it holds every tensor exactly, else F32."""
    entries, _ = read_header(lora_weights(source), "lora")
    names = {entry.dtype for key, entry in entries.items() if not key.endswith(".alpha")}
    dtype = names.pop() if len(names) == 1 else "F32"
    if dtype not in ("BF16", "F16"):
        return "F32"
    for key, array in tensors.items():
        if key.endswith(".alpha"):
            continue
        bits = encode(array, dtype)
        held = decode(bits.reshape(-1).view(np.uint8), Entry(dtype, array.shape))
        if not np.array_equal(held, array):
            return "F32"
    return dtype
