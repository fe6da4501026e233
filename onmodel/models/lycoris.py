"""LoHa and LoKr layers of LyCORIS (https://github.com/KohakuBlueleaf/LyCORIS) as plain factors, exactly.

A Hadamard or Kronecker product of two low-rank matrices is itself low-rank: its factors are products of theirs.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from onmodel.errors import InputError
from onmodel.models.weights import write_weights


def expand_loha(parts: Mapping[str, Tensor], alpha: float | None) -> tuple[Tensor, Tensor, float]:
    """(W1a·W1b) ∘ (W2a·W2b), ranks p and q → (down [pq, in], up [out, pq], alpha)."""
    up = torch.einsum("op,oq->opq", parts["hada_w1_a"], parts["hada_w2_a"]).flatten(1)
    down = torch.einsum("pi,qi->pqi", parts["hada_w1_b"], parts["hada_w2_b"]).flatten(0, 1)
    rank = parts["hada_w1_b"].shape[0]
    return down, up, (alpha / rank if alpha is not None else 1.0) * down.shape[0]


def expand_lokr(parts: Mapping[str, Tensor], alpha: float | None) -> tuple[Tensor, Tensor, float]:
    """W1 ⊗ W2, each whole or a product of two → (down, up, alpha). A whole matrix takes no part in the scale."""
    sides, rank = [], None
    for side in ("lokr_w1", "lokr_w2"):
        if side in parts:
            sides.append(_thin(parts[side]))
        else:
            sides.append((parts[f"{side}_a"], parts[f"{side}_b"]))
            rank = parts[f"{side}_b"].shape[0]
    (up_1, down_1), (up_2, down_2) = sides
    down, up = torch.kron(down_1, down_2), torch.kron(up_1, up_2)
    scale = alpha / rank if alpha is not None and rank is not None else 1.0
    return down, up, scale * down.shape[0]


def write_lokr(
    path: Path,
    layers: Mapping[str, Mapping[str, Tensor]],
    gauges: Mapping[str, tuple[int, float]],
    metadata: Mapping[str, str],
    dtype: torch.dtype,
) -> None:
    """Write LoKr layers (name → role → tensor) of (rank, alpha) as LyCORIS does: `lora_unet_….lokr_w1`, alpha beside.

    alpha/rank goes into W2 and alpha says rank, for tools differ in what they make of another alpha: none of it where
    both matrices are whole, and LyCORIS 4.1.3 applies it twice where W2 is a product. Raises InputError when a value
    does not fit `dtype`.
    """
    tensors: dict[str, Tensor] = {}
    for name, parts in layers.items():
        rank, alpha = gauges[name]
        stem = f"lora_unet_{name.replace('.', '_')}"
        for role, tensor in parts.items():
            scaled = tensor * (alpha / rank) if role in ("lokr_w2", "lokr_w2_b") else tensor
            if not scaled.to(dtype).isfinite().all():
                raise InputError("save_precision", dtype, f"{name} overflows; the training has diverged")
            tensors[f"{stem}.{role}"] = scaled.to(dtype)
        tensors[f"{stem}.alpha"] = torch.tensor(float(rank))
    write_weights(path, tensors, metadata)


def _thin(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as a product with an identity on its shorter side."""
    rows, columns = matrix.shape
    if columns <= rows:
        return matrix, torch.eye(columns)
    return torch.eye(rows), matrix
