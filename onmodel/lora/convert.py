"""Write a LoRA in another key layout, with the same ΔW of every layer and the header's fields and
history.

`common` loads in ComfyUI and diffusers; `kohya` is for kohya's trainer and A1111; `diffusers` has
diffusers' own names, which ComfyUI does not read. No base model is needed: names come from the
family's table, sizes from the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.hashing import sha256_file, tree_hash
from onmodel.ledger.lineage import add
from onmodel.lora import header
from onmodel.lora.author_paths import without_author_paths
from onmodel.lora.layouts import written_keys
from onmodel.lora.specs import spec_of_loras
from onmodel.lora.tensors import Factors, Lora, read_lora
from onmodel.weights import lora_weights, read_header, tensor_payload

Target = Literal["common", "kohya", "diffusers"]
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


def convert(source: Path, target: Path, layout: Target) -> tuple[Lora, torch.dtype]:
    """Write `source` (a file or a PEFT folder) as `target`; what was read, and the dtype that was
    written.

    The file's own dtype is kept where it holds every number exactly; folding alpha/rank may need
    float32. Raises InputError for what read_lora refuses, and when `target` exists.
    """
    if target.exists():
        raise InputError("out", target, "exists already; name a new file")
    spec = spec_of_loras([source])
    lora = read_lora(source, spec)
    sha256 = tree_hash(source) if source.is_dir() else sha256_file(source)
    past = header.lineage_of(lora, sha256)
    tensors = _tensors(lora, spec, layout)
    if broken := next(
        (key for key, tensor in tensors.items() if not tensor.isfinite().all()), None
    ):
        raise InputError(
            "lora", source, f"{broken} overflows in the {layout} layout; correct ss_network_alpha"
        )
    dtype = _smallest(source, tensors)
    payload = tensor_payload(
        {
            key: tensor if key.endswith(".alpha") else tensor.to(dtype)
            for key, tensor in tensors.items()
        }
    )
    # PEFT's own config would be applied again on top of what is folded in now.
    dropped = ("lora_adapter_metadata", *header.HISTORY_KEYS)
    words = {
        key: without_author_paths(value)
        for key, value in lora.metadata.items()
        if key not in dropped
    }
    words["sshs_model_hash"] = payload.sha256
    held = header.held(payload.sha256, payload.table_sha256, words)
    history = add([past], "conversion", layout=layout, **held)
    payload.write(target, {**words, **header.history_words(history)})
    return lora, dtype


def _tensors(lora: Lora, spec: FamilySpec, layout: Target) -> dict[str, Tensor]:
    """The tensors of a layout, float32."""
    tensors: dict[str, Tensor] = {}
    alpha = lora.trained_alpha
    for linear in spec.linears:
        factors = lora.modules[linear.name]
        down, up, alpha_key = _keys(linear, layout)
        tensors[down] = factors.down
        if (
            alpha_key
        ):  # the alpha of its training, which the common layout folds away, is unfolded again
            factors = (
                Factors(factors.down, factors.up * (factors.scale * factors.rank / alpha), alpha)
                if alpha
                else factors
            )
            tensors[alpha_key] = torch.tensor(factors.alpha)
        tensors[up] = factors.up if alpha_key else factors.up * factors.scale
    return tensors


def _keys(linear: Linear, layout: Target) -> tuple[str, str, str | None]:
    if layout == "diffusers":
        return (
            f"transformer.{linear.diffusers}.lora_A.weight",
            f"transformer.{linear.diffusers}.lora_B.weight",
            None,
        )
    return written_keys(linear.name, layout)


def _smallest(source: Path, tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The source's own dtype when it holds every tensor exactly, else float32."""
    entries, _ = read_header(lora_weights(source), "lora")
    names = {entry.dtype for key, entry in entries.items() if not key.endswith(".alpha")}
    dtype = _DTYPES.get(names.pop(), torch.float32) if len(names) == 1 else torch.float32
    exact = all(
        torch.equal(t.to(dtype).float(), t)
        for key, t in tensors.items()
        if not key.endswith(".alpha")
    )
    return dtype if exact else torch.float32
