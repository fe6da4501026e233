"""Exact algebra on LoRA factors: weighted sums, the best sum of a smaller rank, inner products; never a dense ΔW.

A module of K inputs is ΔW = Σ wᵢ·(αᵢ/rᵢ)·upᵢ·downᵢ: the factors stacked, B [out, R] and A [R, in] with R = Σ rᵢ. Its
best approximation of a smaller rank needs only the R×R Gram matrices of A and B. Everything is computed in fp64,
once, and rounded once to fp32. Reading and writing files is not done here, and one call knows one module only, so
that a caller may go through files of any size module by module.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from onmodel.errors import InputError
from onmodel.models.lora import Factors
from onmodel.randomness import normal

# Gram matrices square the condition number: σ is known to about 1e-8·‖A‖‖B‖. Where the inputs cancel so far that this
# is no longer small beside ‖ΔW‖, a QR decomposition (twice the work, error 1e-16·‖A‖‖B‖) gives the same core.
CANCELLATION = 1e-6
# A singular value below these shares of the largest one, or of ‖A‖‖B‖, is rounding noise; its direction means nothing.
NOISE, NOISE_OF_INPUTS = 1e-7, 1e-13


@dataclass(frozen=True)
class Merged:
    """One merged module. Energies are squared Frobenius norms: `kept` of the result, `total` of the exact sum.

    `inner` [K, K] holds the inner products of the inputs' ΔW at strength 1: wᵀ·inner·w = total.
    """

    factors: Factors
    kept: float
    total: float
    inner: np.ndarray


def merge_module(parts: Sequence[tuple[Factors, float]], rank: int | None = None, gauge: float = 1.0) -> Merged:
    """Sum K ≥ 1 inputs of one module, each with its weight.

    `rank` None gives the exact sum with rank Σ rᵢ: the inputs' own `down` rows, each weight (its sign too) in `up`
    alone. Otherwise the truncated SVD of that sum, balanced (√σ on both sides); rows past the sum's own rank are
    padded with up = 0 and a random down, which adds nothing and can still learn. `gauge` is alpha / rank of the
    result: it divides the factors, never ΔW. The same inputs give the same bytes. Raises InputError when an input or
    the result is not finite.
    """
    down, up = _stack(parts)  # A [R, in], B [out, R], at weight 1
    weights = np.concatenate([np.full(factors.rank, weight) for factors, weight in parts])
    gram_down, gram_up = down @ down.T, up.T @ up
    inner = _block_sums(gram_down * gram_up, [factors.rank for factors, _ in parts])
    each = np.array([weight for _, weight in parts])
    total = float(each @ inner @ each)
    if rank is None:
        return Merged(_factors(down, up * (weights / gauge), gauge), total, total, inner)

    up = up * weights
    size = float(np.trace(gram_down) * (weights**2 @ np.diag(gram_up)))  # ‖A‖²‖B‖²
    if total < CANCELLATION * size:
        sigma, mix = _core_qr(down, up)
        total = float(np.sum(sigma**2))
    else:
        sigma, mix = _core_gram(gram_down, gram_up * np.outer(weights, weights))
    sigma = sigma[sigma > max(NOISE * sigma[0], NOISE_OF_INPUTS * np.sqrt(size))][:rank]

    # Left singular vectors as ΔW·V/σ, made orthonormal, then ΔW projected on them: an error in V enters squared.
    left = _orthonormal(up @ (mix[:, : len(sigma)] / sigma))
    left *= np.where(left[np.abs(left).argmax(0), np.arange(len(sigma))] < 0, -1.0, 1.0)
    projected = (left.T @ up) @ down
    lengths = np.linalg.norm(projected, axis=1)
    new_up, new_down = left * np.sqrt(lengths / gauge), projected / np.sqrt(lengths * gauge)[:, None]
    new_up, new_down = _pad(new_up, new_down, rank)
    return Merged(_factors(new_down, new_up, gauge), float(np.sum(lengths**2)), total, inner)


def cosines(inner: np.ndarray) -> np.ndarray:
    """Cosines between inputs from their summed inner products [K, K]; 0 where an input is zero."""
    lengths = np.sqrt(np.clip(np.diag(inner), 0, None))
    product = np.outer(lengths, lengths)
    return np.divide(inner, product, out=np.zeros_like(inner), where=product > 0)


def _stack(parts: Sequence[tuple[Factors, float]]) -> tuple[np.ndarray, np.ndarray]:
    """A [R, in] and B [out, R] in fp64, each input's own alpha / rank in B."""
    down = np.concatenate([factors.down.double().numpy() for factors, _ in parts])
    up = np.concatenate([factors.up.double().numpy() * (factors.alpha / factors.rank) for factors, _ in parts], axis=1)
    if not (np.isfinite(down).all() and np.isfinite(up).all()):
        raise InputError("models", "a weight that is not finite", "leave out the damaged file, or save it again")
    return down, up


def _block_sums(matrix: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    edges = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.add.reduceat(np.add.reduceat(matrix, edges, axis=0), edges, axis=1)


def _core_gram(gram_down: np.ndarray, gram_up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Singular values of B·A, largest first, and A·V [R, R] for its right singular vectors V.

    A·Aᵀ = root·rootᵀ by eigenvectors, since copies in the stack make it singular and Cholesky fails.
    """
    values, vectors = np.linalg.eigh(gram_down)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    energies, right = np.linalg.eigh(root.T @ gram_up @ root)
    return np.sqrt(np.clip(energies[::-1], 0, None)), root @ right[:, ::-1]


def _core_qr(down: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same as `_core_gram`, from A and B themselves."""
    root = np.asarray(np.linalg.qr(down.T, mode="r")).T
    _, sigma, right = np.linalg.svd(np.linalg.qr(up, mode="r") @ root)
    return sigma, root @ right.T


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    """The nearest orthonormal columns [out, r] (Löwdin), which keeps order and signs. Twice, for 1e-16."""
    for _ in range(2):
        values, vectors = np.linalg.eigh(columns.T @ columns)
        columns = columns @ (vectors / np.sqrt(values)) @ vectors.T
    return columns


def _pad(up: np.ndarray, down: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    missing = rank - len(down)
    if missing == 0:
        return up, down
    scale = np.sqrt(np.mean(down**2)) if len(down) else 1 / np.sqrt(down.shape[1])
    random = normal((missing, down.shape[1]), 0, "merge padding", rank) * scale
    return np.pad(up, ((0, 0), (0, missing))), np.concatenate([down, random])


def _factors(down: np.ndarray, up: np.ndarray, gauge: float) -> Factors:
    """Round once to fp32: what follows may be training, and fp16 overflows."""
    with np.errstate(over="ignore"):
        down32, up32 = down.astype(np.float32), up.astype(np.float32)
    if not (np.isfinite(down32).all() and np.isfinite(up32).all()):
        raise InputError("weights", "a merge beyond the range of fp32", "use smaller weights")
    return Factors(torch.from_numpy(down32), torch.from_numpy(up32), gauge * len(down32))
