"""The rank of every layer of a merge: one for all, or shared out by energy or file size.

A rank by energy or size needs every layer's singular values first (`survey`), so such a merge reads
its inputs twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.lora.factors import (
    Stack,
)
from onmodel.lora.merge_job import MergeJob, task
from onmodel.lora.writing import lora_entries
from onmodel.weights import SIZES


@dataclass(frozen=True)
class Survey:
    """The result of one pass over the inputs, by layer: singular values of the sum, and the inputs'
    inner products."""

    sigmas: Mapping[str, np.ndarray]
    inners: Mapping[str, np.ndarray]

    @property
    def total(self) -> float:
        """The energy of the exact sum."""
        return float(sum(np.sum(sigma**2) for sigma in self.sigmas.values()))

    def energy_at(self, ranks: Mapping[str, int]) -> float:
        """The share of energy that these ranks keep."""
        kept = sum(np.sum(sigma[: ranks.get(name, 0)] ** 2) for name, sigma in self.sigmas.items())
        return float(kept / max(self.total, 1e-300))


def survey(job: MergeJob, events: Events | None = None) -> Survey:
    """One pass over the inputs. Raises InputError for a method that works on entries of ΔW: it has
    no such sum."""
    if job.blend.method.elements is not None:
        raise InputError(
            "method",
            job.blend.name,
            "leaves no low-rank sum to look into; give it a --rank and run it",
        )
    sigmas, inners = {}, {}
    with task(events, "look", len(job.linears)) as advance:
        for name in job.linears:
            factors, weights = job.parts(name)
            stack = Stack(factors)
            if job.blend.method.mix is not None:
                weights = job.blend.method.mix(stack.inner, weights)
            sigmas[name], inners[name] = stack.spectrum(weights), job.spread(name, stack.inner)
            advance()
    return Survey(sigmas, inners)


def share_out(job: MergeJob, seen: Survey, header_bytes: int) -> dict[str, int]:
    """A rank for every layer, at least 1: the singular values with the most energy per byte first,
    over all layers, until the file is as large as it may be or the share of energy is kept.

    Raises InputError when rank 1 everywhere already makes a larger file.
    """
    names = list(job.linears)
    cost = {name: sum(job.shapes[name]) * SIZES[job.format.dtype] for name in names}
    owner = np.concatenate(
        [np.full(max(len(seen.sigmas[name]), 1), i) for i, name in enumerate(names)]
    )
    energies = np.concatenate(
        [seen.sigmas[name] ** 2 if len(seen.sigmas[name]) else [0.0] for name in names]
    )
    costs = np.array([cost[name] for name in names])[owner]
    first = np.concatenate([[True], owner[1:] != owner[:-1]])
    order = np.lexsort(
        (np.arange(len(owner)), -energies / costs, ~first)
    )  # every layer's first, then by gain
    if job.size.bytes is not None:
        beside = header_bytes + table_bytes(job)
        taken = np.cumsum(costs[order]) <= job.size.bytes - beside
        if not taken[: len(names)].all():
            least = int(costs[first].sum()) + beside
            raise InputError(
                "size",
                f"{job.size.bytes} bytes",
                f"rank 1 everywhere takes up to {least}; allow more",
            )
    else:
        assert job.size.energy is not None
        before = np.cumsum(energies[order]) - energies[order]
        taken = before < job.size.energy * energies.sum() * (1 - 1e-12)
        taken[: len(names)] = True
    counts = np.bincount(owner[order[taken]], minlength=len(names))
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def choose_ranks(
    job: MergeJob, header_bytes: int, events: Events | None = None, seen: Survey | None = None
) -> dict[str, int]:
    """The rank of every layer of the result. `header_bytes` is room for the header's words."""
    size = job.size
    if job.blend.method.elements is not None and size.rank is None:
        raise InputError(
            "rank", "none given", f"{job.blend.name} works on entries of ΔW; give the result a rank"
        )
    if size.exact:
        return dict(job.full_ranks)
    if size.rank is not None:
        most = max(min(shape) for shape in job.shapes.values())
        if size.rank > most:
            raise InputError("rank", size.rank, f"no layer has a rank above {most}; give less")
        return dict.fromkeys(job.linears, size.rank)
    return share_out(job, seen or survey(job, events), header_bytes)


def table_bytes(job: MergeJob) -> int:
    """Room for a file's table of tensors and its alphas, never too small: as if the ranks were
    whole."""
    entries, _ = lora_entries(job.layers(job.full_ranks), job.format)
    digits = len(str(sum(entry.bytes for entry in entries.values())))
    row = len('"":{"data_offsets":[,],"dtype":"BF16","shape":[,]},') + 2 * digits + 10
    return sum(row + len(key) for key in entries) + 4 * len(job.linears) + 300
