"""LoHa and LoKr layers of LyCORIS (https://github.com/KohakuBlueleaf/LyCORIS) and whole differences
of weights as plain factors, exactly.

A Hadamard or Kronecker product of two low-rank matrices is itself low-rank: its factors are
products of theirs. A whole difference is its product with an identity.
"""

import math
from collections.abc import Mapping

import numpy as np

from onmodel.errors import InputError
from onmodel.lora.layouts import written_stem
from onmodel.weights import Entry, Payload, encode, finite

# The matrices whose first side is the rank that alpha is divided by; the last that a layer has.
LOW_RANK = ("hada_w1_b", "lokr_w1_b", "lokr_w2_b")
# The matrix that takes a scale of the whole product: the first that a layer has.
SCALED = ("hada_w2_b", "lokr_w2", "lokr_w2_b", "diff")


def expand(parts: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The plain factors (down, up) of a LoHa or LoKr layer, or of a whole difference."""
    if "diff" in parts:
        up, down = _thin(parts["diff"])
        return down, up
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the values
        return (_expand_loha if "hada_w1_a" in parts else _expand_lokr)(parts)


def _expand_loha(parts: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(W1a·W1b) ∘ (W2a·W2b), ranks p and q → down [pq, in], up [out, pq]."""
    up = np.einsum("op,oq->opq", parts["hada_w1_a"], parts["hada_w2_a"]).reshape(
        len(parts["hada_w1_a"]), -1
    )
    down = np.einsum("pi,qi->pqi", parts["hada_w1_b"], parts["hada_w2_b"]).reshape(
        -1, parts["hada_w1_b"].shape[1]
    )
    return down, up


def _expand_lokr(parts: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """W1 ⊗ W2, each whole or a product of two → down, up."""
    sides = [
        _thin(parts[side]) if side in parts else (parts[f"{side}_a"], parts[f"{side}_b"])
        for side in ("lokr_w1", "lokr_w2")
    ]
    (up_1, down_1), (up_2, down_2) = sides
    return np.kron(down_1, down_2), np.kron(up_1, up_2)


def as_matrix(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a factor or weight, a convolution's with its kernel in the columns."""
    return (shape[0], math.prod(shape[1:])) if len(shape) == 4 else shape


def expanded_shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int, int]:
    """(out, in, rank) of a layer's plain factors, from the shapes of the matrices that a file holds
    of it.

    Raises KeyError for a part that is missing, ValueError when the parts are of no known kind,
    ArithmeticError when they cannot be multiplied.
    """
    kinds = {role.partition("_")[0] for role in shapes}
    if kinds == {"down", "up"}:
        return _product(shapes["up"], shapes["down"])
    if kinds == {"diff"}:
        rows, columns = shapes["diff"]
        return rows, columns, min(rows, columns)
    if kinds == {"hada"}:
        one = _product(shapes["hada_w1_a"], shapes["hada_w1_b"])
        other = _product(shapes["hada_w2_a"], shapes["hada_w2_b"])
        if one[:2] != other[:2]:
            raise ArithmeticError
        return one[0], one[1], one[2] * other[2]
    if kinds == {"lokr"}:
        sides = []
        for side in ("lokr_w1", "lokr_w2"):
            if side in shapes and f"{side}_a" in shapes:
                raise ValueError
            if side in shapes:
                rows, columns = shapes[side]
                sides.append((rows, columns, min(rows, columns)))
            else:
                sides.append(_product(shapes[f"{side}_a"], shapes[f"{side}_b"]))
        (out_1, in_1, rank_1), (out_2, in_2, rank_2) = sides
        return out_1 * out_2, in_1 * in_2, rank_1 * rank_2
    raise ValueError


def _product(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, int, int]:
    if left[1] != right[0]:
        raise ArithmeticError
    return left[0], right[1], right[0]


def lokr_payload(
    layers: Mapping[str, Mapping[str, np.ndarray]],
    rank_alphas: Mapping[str, tuple[int, float]],
    dtype: str,
) -> Payload:
    """LoKr layers (name → role → matrix) of (rank, alpha) as LyCORIS writes them:
    `lora_unet_….lokr_w1`, with an alpha for each layer.

    alpha/rank goes into W2, and alpha is written as rank, because tools differ in how they read
    another alpha: they ignore it where both matrices are whole, and LyCORIS 4.1.3 applies it twice
    where W2 is a product. `dtype` is F32, BF16 or F16. Raises InputError when a value does not fit
    it.
    """
    arrays: dict[str, np.ndarray] = {}
    entries: dict[str, Entry] = {}
    for name, parts in layers.items():
        rank, alpha = rank_alphas[name]
        stem = written_stem(name, "kohya")
        for role, matrix in parts.items():
            scaled = (
                matrix * np.float32(alpha / rank) if role in ("lokr_w2", "lokr_w2_b") else matrix
            )
            key = f"{stem}.{role}"
            arrays[key], entries[key] = encode(scaled, dtype), Entry(dtype, matrix.shape)
            if not finite(arrays[key], dtype):
                raise InputError("dtype", dtype, f"{name} overflows; write bfloat16 or float32")
        key = f"{stem}.alpha"
        arrays[key], entries[key] = np.array(rank, np.float32), Entry("F32", ())
    return Payload(entries, arrays)


def _thin(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A matrix as a product with an identity on its shorter side."""
    rows, columns = matrix.shape
    if columns <= rows:
        return matrix, np.eye(columns, dtype=np.float32)
    return np.eye(rows, dtype=np.float32), matrix
