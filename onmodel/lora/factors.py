"""Exact algebra on LoRA factors: weighted sums, the best sum of a smaller rank, inner products;
never a dense ΔW.

A module of K inputs is ΔW = Σ wᵢ·(αᵢ/rᵢ)·upᵢ·downᵢ: the factors stacked, B [out, R] and A [R, in]
with R = Σ rᵢ. Its best approximation of a smaller rank needs only the R×R Gram matrices of A and B.
Everything is computed in fp64, once, and rounded once to fp32. Reading and writing files is not
done here, and one call knows one module only, so that a caller may go through files of any size
module by module.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from onmodel.errors import InputError
from onmodel.randomness import normal

# Gram matrices square the condition number: the factors of a singular value σ are off by about
# 1e-16·‖A‖²‖B‖²/σ. Where that is no longer small beside ‖ΔW‖, a QR decomposition (three times the
# work, off by 1e-16·‖A‖‖B‖) takes its place.
UNSURE = 1e-8
# A singular value below these shares of the largest one, or of ‖A‖‖B‖, is rounding noise; its
# direction means nothing.
NOISE, NOISE_OF_INPUTS = 1e-7, 1e-13

Array = TypeVar("Array")  # a numpy array or a torch tensor


@dataclass(frozen=True, slots=True)
class LayerShape:
    """The size of one layer's change: ΔW [out, in], as a product of `rank`."""

    out: int
    in_: int
    rank: int

    @property
    def size(self) -> tuple[int, int]:
        """(out, in)."""
        return self.out, self.in_


@dataclass(frozen=True, slots=True)
class Factors(Generic[Array]):
    """The low-rank change of one layer: down [r, in], up [out, r], float32.

    With a magnitude [out] it is DoRA: W + ΔW with its rows brought to these lengths.
    """

    down: Array
    up: Array
    alpha: float
    magnitude: Array | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]  # type: ignore[attr-defined]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def changes_nothing(self) -> bool:
        """Whether ΔW is zero."""
        return not (self.up.any() and self.down.any())  # type: ignore[attr-defined]

    def delta(self) -> Array:
        """ΔW [out, in]."""
        return self.scale * (self.up @ self.down)  # type: ignore[operator]


@dataclass(frozen=True)
class Merged:
    """One merged module. Energies are squared Frobenius norms: `kept` of the result, `total` of the
    exact sum.

    `inner` [K, K] holds the inner products of the inputs' ΔW at strength 1: wᵀ·inner·w = total.
    """

    factors: Factors[np.ndarray]
    kept: float
    total: float
    inner: np.ndarray


class Stack:
    """The K inputs of one module stacked at strength 1, in fp64: A `down` [R, in], B `up` [out, R],
    their Gram matrices, and `inner` [K, K], the inner products of the inputs' ΔW.

    Raises InputError when an input is not finite.
    """

    def __init__(self, parts: Sequence[Factors[np.ndarray]]) -> None:
        self.ranks = [part.rank for part in parts]
        edges = np.concatenate([[0], np.cumsum(self.ranks)])
        self.down = np.empty((edges[-1], parts[0].down.shape[1]))
        self.up = np.empty((parts[0].up.shape[0], edges[-1]))
        for part, start, end in zip(parts, edges, edges[1:], strict=False):
            self.down[start:end] = part.down
            np.multiply(part.up, part.scale, out=self.up[:, start:end])
        with np.errstate(invalid="ignore", over="ignore"):  # said below, once
            self.gram_down, self.gram_up = self.down @ self.down.T, self.up.T @ self.up
            product = self.gram_down * self.gram_up
        self.inner = np.add.reduceat(
            np.add.reduceat(product, edges[:-1], axis=0), edges[:-1], axis=1
        )
        if not np.isfinite(self.inner).all():
            raise InputError(
                "models",
                "a weight that is not finite",
                "leave out the damaged file, or save it again",
            )

    def exact(self, weights: np.ndarray, scale: float) -> Factors[np.ndarray]:
        """The sum with rank R: the inputs' own `down` rows, each weight (its sign too) in `up`
        alone."""
        return _factors(self.down, self.up * (np.repeat(weights, self.ranks) / scale), scale)

    def spectrum(self, weights: np.ndarray) -> np.ndarray:
        """All singular values of the sum, largest first, noise left out."""
        each = np.repeat(weights, self.ranks)
        try:
            root = np.linalg.cholesky(self.gram_down)
        except np.linalg.LinAlgError:  # copies in the stack make it singular
            return self._core_qr(each)[1]
        energies = np.linalg.eigvalsh(root.T @ (self.gram_up * np.outer(each, each)) @ root)[::-1]
        total, size = float(weights @ self.inner @ weights), self._size(each)
        sure = energies > UNSURE**2 * size**2 / max(total, 1e-300)
        if total <= 0 or not sure[0]:
            return self._core_qr(each)[1]
        return np.sqrt(energies[sure])

    def truncated(
        self, weights: np.ndarray, rank: int, scale: float
    ) -> tuple[Factors[np.ndarray], float]:
        """The truncated SVD of the sum, balanced (√σ on both sides), and the energy that it keeps.

        Rows past the sum's own rank are padded with up = 0 and a random down, which adds nothing
        and can still learn.
        """
        each = np.repeat(weights, self.ranks)
        core = self._core_gram(each, rank)
        if core is None:
            left, sigma, right_t = self._core_qr(each)
            left, sigma, right_t = left[:, :rank], sigma[:rank], right_t[:rank]
            sides = _signs(right_t.T) * np.sqrt(sigma / scale)
            up, down = left * sides, right_t * sides[:, None]
        else:
            to_up, sigma, to_down = core
            up, down = self.up @ (to_up / np.sqrt(scale)), (to_down / np.sqrt(scale)) @ self.down
        if len(sigma) < rank:
            up, down = _pad(up, down, rank)
        return _factors(down, up, scale), float(np.sum(sigma**2))

    def _core_gram(
        self, each: np.ndarray, rank: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """(P, σ, Q): up·P and Q·down are the balanced factors of the best sum of that rank. None
        where it is unsure.

        With A·Aᵀ = L·Lᵀ the right singular vectors are V = Aᵀ·L⁻ᵀ·q for the eigenvectors q of
        Lᵀ·(Bᵀ·B)·L; the left ones are B·L·q/σ, and √σ·Vᵀ = (B·L·q/√σ)ᵀ·B·A/σ needs no inverse.
        """
        try:
            root = np.linalg.cholesky(self.gram_down)
        except np.linalg.LinAlgError:
            return None
        half = (self.gram_up * np.outer(each, each)) @ root
        energies, vectors = np.linalg.eigh(root.T @ half)
        energies, vectors = energies[::-1][:rank], vectors[:, ::-1][:, :rank]
        if len(energies) < rank or energies[-1] <= 0:
            return None
        sigma = np.sqrt(energies)
        total = float(np.sum(np.outer(each, each) * self.gram_down * self.gram_up))
        if sigma[-1] * np.sqrt(max(total, 0.0)) < UNSURE * self._size(each):
            return None
        mix = root @ vectors
        signs = _signs(mix)
        return (
            each[:, None] * mix * (signs / np.sqrt(sigma)),
            sigma,
            (half @ vectors * (signs / sigma**1.5)).T,
        )

    def _core_qr(self, each: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sum's SVD (U, σ, Vᵀ) without noise, from orthogonal bases of A and B themselves."""
        left, right = np.linalg.qr(self.up * each), np.linalg.qr(self.down.T)
        u, sigma, v_t = np.linalg.svd(left.R @ right.R.T, full_matrices=False)
        count = int(
            np.sum(sigma > max(NOISE * sigma[0], NOISE_OF_INPUTS * np.sqrt(self._size(each))))
        )
        return left.Q @ u[:, :count], sigma[:count], v_t[:count] @ right.Q.T

    def _size(self, each: np.ndarray) -> float:
        """‖A‖²‖B‖²: how large ΔW could be without cancellation."""
        return float(np.trace(self.gram_down) * (each**2 @ np.diag(self.gram_up)))


def merge_module(
    parts: Sequence[tuple[Factors[np.ndarray], float]],
    rank: int | None = None,
    scale: float = 1.0,
    mix: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> Merged:
    """Sum K ≥ 1 inputs of one module, each with its weight; exactly, or the best sum of a smaller
    rank.

    `mix(inner, weights)` may set the weights from the inputs' inner products. `scale` is alpha /
    rank of the result: it divides the factors, never ΔW. The same inputs give the same bytes.
    Raises InputError when an input or the result is not finite.
    """
    stack = Stack([factors for factors, _ in parts])
    weights = np.array([weight for _, weight in parts], float)
    if mix is not None:
        weights = mix(stack.inner, weights)
    total = max(float(weights @ stack.inner @ weights), 0.0)
    if rank is None:
        return Merged(stack.exact(weights, scale), total, total, stack.inner)
    factors, kept = stack.truncated(weights, rank, scale)
    return Merged(factors, kept, max(total, kept), stack.inner)


def factor_dense(
    matrix: np.ndarray, rank: int, scale: float, name: str
) -> tuple[Factors[np.ndarray], float]:
    """The truncated SVD of a dense ΔW [out, in] float32, balanced, and the energy that it keeps.

    Subspace iteration from a fixed random start, until the kept energy stands still to 1e-6.
    https://arxiv.org/abs/0909.4061, algorithm 4.4
    """
    width = min(rank + 16, *matrix.shape)
    basis = normal((matrix.shape[1], width), 0, "factor dense", name)
    kept = -1.0
    for _ in range(30):
        basis = np.linalg.qr(matrix @ basis).Q
        projected = basis.T @ matrix  # [width, in]
        before, kept = (
            kept,
            float(np.sum(np.linalg.svd(projected @ projected.T, compute_uv=False)[:rank])),
        )
        if kept - before <= 1e-6 * kept:
            break
        basis = np.linalg.qr(projected.T).Q
    projected64 = projected.astype(np.float64)
    one = Factors(projected64, basis.astype(np.float64), float(width))
    merged = merge_module([(one, 1.0)], min(rank, width), scale)
    if rank > width:
        down, up = merged.factors.down, merged.factors.up
        up, down = _pad(up.astype(np.float64), down.astype(np.float64), rank)
        return _factors(down, up, scale), merged.kept
    return merged.factors, merged.kept


def cosines(inner: np.ndarray) -> np.ndarray:
    """Cosines between inputs from their summed inner products [K, K]; 0 where an input is zero."""
    lengths = np.sqrt(np.clip(np.diag(inner), 0, None))
    product = np.outer(lengths, lengths)
    return np.divide(inner, product, out=np.zeros_like(inner), where=product > 0)


def _signs(columns: np.ndarray) -> np.ndarray:
    """What makes the largest entry of every column positive: an SVD leaves the signs open."""
    return np.where(columns[np.abs(columns).argmax(0), np.arange(columns.shape[1])] < 0, -1.0, 1.0)


def _pad(up: np.ndarray, down: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    missing = rank - len(down)
    scale = np.sqrt(np.mean(down**2)) if len(down) else 1 / np.sqrt(down.shape[1])
    random = normal((missing, down.shape[1]), 0, "merge padding", rank) * scale
    return np.pad(up, ((0, 0), (0, missing))), np.concatenate([down, random])


def _factors(down: np.ndarray, up: np.ndarray, scale: float) -> Factors[np.ndarray]:
    """Round once to fp32: what follows may be training, and fp16 overflows."""
    with np.errstate(over="ignore"):
        down32, up32 = down.astype(np.float32), up.astype(np.float32)
    if not (np.isfinite(down32).all() and np.isfinite(up32).all()):
        raise InputError("weights", "a merge beyond the range of fp32", "use smaller weights")
    return Factors(down32, up32, scale * len(down32))
