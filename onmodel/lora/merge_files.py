"""LoRA files in, one LoRA file out, layer by layer: the memory is that of one layer, however large
the files.

The recipe's merge stage and the commands both come through here. A rank by energy or by size needs
every layer's singular values first (`survey`), so those go over the files twice.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.hashing import sha256_file
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.lora import header
from onmodel.lora.factors import Merged, Stack, cosines, factor_dense, merge_module
from onmodel.lora.file import Factors, LoraFile, lora_entries, rank_words, stream_lora
from onmodel.lora.layouts import BLOCKS_KEY, Layout
from onmodel.lora.methods import Blend
from onmodel.weights import SIZES

Alpha = Literal["from-parent"] | float
# an energy with as many digits as any: the header's room is known before the energy is
LONGEST = 0.123456


@dataclass(frozen=True)
class Source:
    """An input: what it is called, its open file and its history."""

    name: str
    file: LoraFile
    lineage: Lineage

    @cached_property
    def trained_alpha(self) -> float | None:
        return self.file.trained_alpha


@dataclass(frozen=True)
class Size:
    """How large the result may be: one `rank` for all layers, the share of `energy` to keep (0…1),
    or the file's `bytes`; nothing of it keeps the exact sum. Energy and bytes share the ranks out
    over the layers."""

    rank: int | None = None
    energy: float | None = None
    bytes: int | None = None

    def __post_init__(self) -> None:
        given = [key for key in ("rank", "energy", "bytes") if getattr(self, key) is not None]
        if len(given) > 1:
            raise InputError(
                given[1], getattr(self, given[1]), f"{given[0]} is given too; choose one"
            )
        if self.rank is not None and self.rank < 1:
            raise InputError("rank", self.rank, "must be 1 or more")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise InputError("energy", self.energy, "must be above 0 and at most 1, e.g. 0.95")

    @property
    def exact(self) -> bool:
        return self.rank is None and self.energy is None and self.bytes is None


@dataclass(frozen=True)
class Survey:
    """What one pass over the inputs tells: per layer the singular values of the sum and the inputs'
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


@dataclass(frozen=True)
class Job:
    """A merge before it is done: sources, method, the model's layers, and how the result is
    written."""

    sources: Sequence[Source]
    blend: Blend
    spec: FamilySpec
    size: Size = Size()
    alpha: Alpha = "from-parent"
    layout: Layout = "common"
    dtype: str = "F32"

    @cached_property
    def linears(self) -> dict[str, Linear]:
        """Every layer that any input changes, in the model's order."""
        found = {name for source in self.sources for name in source.file.ranks}
        return {linear.name: linear for linear in self.spec.linears if linear.name in found}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        return {name: (one.out_features, one.in_features) for name, one in self.linears.items()}

    @cached_property
    def full_ranks(self) -> dict[str, int]:
        """Σ rᵢ of every layer: the rank of the exact sum."""
        return {
            name: sum(source.file.ranks.get(name, 0) for source in self.sources)
            for name in self.linears
        }

    def having(self, name: str) -> list[int]:
        """The inputs that change a layer; for the others ΔW is zero there."""
        return [i for i, source in enumerate(self.sources) if name in source.file.ranks]

    def parts(self, name: str) -> tuple[list[Factors[np.ndarray]], np.ndarray]:
        """The factors of a layer from every input that has it, and their weights."""
        having = self.having(name)
        weights = self.blend.in_layer(self.linears[name])[having]
        return [self.sources[i].file.factors(name) for i in having], weights

    def spread(self, name: str, inner: np.ndarray) -> np.ndarray:
        """Inner products of the inputs that have a layer as [K, K] of all."""
        found = np.zeros((len(self.sources), len(self.sources)))
        having = self.having(name)
        found[np.ix_(having, having)] = inner
        return found

    def merge(self, name: str, rank: int | None, gauge: float) -> Merged:
        """One layer of the result; `rank` None is the exact sum."""
        factors, weights = self.parts(name)
        method = self.blend.method
        if method.elements is None:
            merged = merge_module(list(zip(factors, weights, strict=True)), rank, gauge, method.mix)
        else:
            assert rank is not None
            dense = method.elements(factors, weights, self.blend.density, name)
            made, kept = factor_dense(dense, rank, gauge, name)
            total = float(np.einsum("ij,ij->", dense, dense, dtype=np.float64))
            merged = Merged(made, kept, max(total, kept), Stack(factors).inner)
        return replace(merged, inner=self.spread(name, merged.inner))


@contextmanager
def open_sources(files: Sequence[tuple[str, Path]], spec: FamilySpec) -> Iterator[list[Source]]:
    """Open (name, path) inputs with their histories; a file of another tool is a node of unknown
    origin."""
    with ExitStack() as stack:
        sources = []
        for name, path in files:
            file = stack.enter_context(LoraFile(path, spec))
            known = header.RECIPE_KEY in file.metadata
            sources.append(
                Source(
                    name, file, header.lineage_of(file, "" if known else sha256_file(file.source))
                )
            )
        yield sources


def survey(job: Job, events: Events | None = None) -> Survey:
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


def share_out(job: Job, seen: Survey, header_bytes: int) -> dict[str, int]:
    """A rank for every layer, at least 1: the singular values with the most energy per byte first,
    over all layers, until the file is as large as it may be or the share of energy is kept.

    Raises InputError when rank 1 everywhere already makes a larger file.
    """
    names = list(job.linears)
    cost = {name: sum(job.shapes[name]) * SIZES[job.dtype] for name in names}
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
    job: Job, header_bytes: int, events: Events | None = None, seen: Survey | None = None
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
        return dict.fromkeys(job.linears, size.rank)
    return share_out(job, seen or survey(job, events), header_bytes)


def table_bytes(job: Job) -> int:
    """Room for a file's table of tensors and its alphas, never too small: as if the ranks were
    whole."""
    entries, _ = lora_entries(job.full_ranks, job.shapes, job.layout, job.dtype)
    digits = len(str(sum(entry.bytes for entry in entries.values())))
    row = len('"":{"data_offsets":[,],"dtype":"BF16","shape":[,]},') + 2 * digits + 10
    return sum(row + len(key) for key in entries) + 4 * len(job.linears) + 300


def gauge_of(job: Job, ranks: Mapping[str, int]) -> float:
    """alpha / rank of the result: the one asked for, or the mean of the inputs' by the size of
    their weights.

    A file whose layers have several ranks is measured by its largest.
    """
    if job.alpha != "from-parent":
        if job.alpha <= 0:
            raise InputError("alpha", job.alpha, "must be above 0")
        return job.alpha / max(ranks.values())
    largest = [max(source.file.ranks.values()) for source in job.sources]
    weights = np.abs(job.blend.weights)
    gauges = [
        (source.trained_alpha or rank) / rank
        for source, rank in zip(job.sources, largest, strict=True)
    ]
    return float(np.average(gauges, weights=weights if weights.any() else None))


def merge_files(
    out: Path,
    job: Job,
    facts: header.Facts,
    reasons: Sequence[Lineage] = (),
    told: Mapping[str, Any] | None = None,
    events: Events | None = None,
) -> tuple[Lineage, dict[str, Any]]:
    """Write the merge to `out`; returns its history and a report of it as JSON values.

    `reasons` are histories of what chose the inputs, `told` are more facts for the merge's own
    node. The report has method, rank, alpha, energy kept, strength ‖ΔW‖, and each input with its
    weight and strength, and their cosines.
    """
    sources, blend, told = job.sources, job.blend, told or {}
    ranks = choose_ranks(job, words_room(job, facts, reasons, told), events)
    gauge = gauge_of(job, ranks)
    kept = total = 0.0
    inner = np.zeros((len(sources), len(sources)))

    with task(events, "merge", len(ranks)) as advance:

        def factors(name: str) -> Factors[np.ndarray]:
            nonlocal kept, total, inner
            merged = job.merge(name, None if job.size.exact else ranks[name], gauge)
            kept, total, inner = kept + merged.kept, total + merged.total, inner + merged.inner
            advance()
            return merged.factors

        def final() -> tuple[Lineage, dict[str, str]]:
            return _words(job, facts, reasons, told, ranks, gauge, kept / max(total, 1e-300))

        alphas = {name: gauge * rank for name, rank in ranks.items()}
        draft = _words(job, facts, reasons, told, ranks, gauge, LONGEST)[1]
        stream_lora(
            out,
            ranks,
            job.shapes,
            alphas,
            factors,
            draft,
            job.layout,
            job.dtype,
            lambda: final()[1],
        )
    lineage, _ = final()
    node = lineage[root(lineage)]
    strengths = [rounded(np.sqrt(max(energy, 0))) for energy in np.diag(inner)]
    report = {
        **blend.facts(),
        **{key: node[key] for key in ("exact", "rank", "alpha", "energy_kept")},
        "paper": blend.method.paper,
        "strength": rounded(np.sqrt(kept)),
        "models": [
            {**part, "strength": strength}
            for part, strength in zip(node["parts"], strengths, strict=True)
        ],
        "cosines": [[rounded(value) for value in row] for row in cosines(inner)],
    }
    if job.size.energy is not None or job.size.bytes is not None:
        report["ranks"] = ranks
    return lineage, report


def words_room(
    job: Job,
    facts: header.Facts,
    reasons: Sequence[Lineage] = (),
    told: Mapping[str, Any] | None = None,
) -> int:
    """Bytes that the header's words take in the file at most."""
    _, words = _words(
        job, facts, reasons, told or {}, job.full_ranks, gauge_of(job, job.full_ranks), LONGEST
    )
    return sum(
        len(json.dumps({key: value}, ensure_ascii=False).encode()) for key, value in words.items()
    )


def _words(
    job: Job,
    facts: header.Facts,
    reasons: Sequence[Lineage],
    told: Mapping[str, Any],
    ranks: Mapping[str, int],
    gauge: float,
    kept: float,
) -> tuple[Lineage, dict[str, str]]:
    """The result's history and the words of its header."""
    parts = [
        {"model": root(source.lineage), "name": source.name, "weight": weight}
        for source, weight in zip(job.sources, job.blend.weights, strict=True)
    ]
    rank = max(ranks.values())
    node = {
        "name": facts.title,
        **told,
        **job.blend.facts(),
        "parts": parts,
        "exact": job.size.exact,
        "rank": rank,
        "alpha": gauge * rank,
        "energy_kept": round(kept, 6),
    }
    lineage = add([*(source.lineage for source in job.sources), *reasons], "merge", **node)
    facts = replace(facts, merged_from=", ".join(source.name for source in job.sources))
    return lineage, {**header.build(facts, lineage), **rank_words(ranks, gauge * rank)}


def facts_of(sources: Sequence[Source], spec: FamilySpec, title: str) -> header.Facts:
    """What a header can say of a merge of plain files: what its parents' headers say, and no more.

    A licence only when all have the same; the newest date, since a clock may not reach the bytes.
    """

    def said(key: str) -> list[str]:
        return list(
            dict.fromkeys(source.file.metadata.get(f"modelspec.{key}", "") for source in sources)
        )

    licences, triggers, authors = said("license"), said("trigger_phrase"), said("author")
    return header.Facts(
        title=title,
        author=", ".join(filter(None, authors)),
        license=licences[0] if len(licences) == 1 else "",
        trigger=", ".join(filter(None, triggers)),
        architecture=spec.architecture,
        resolution=largest_side(sources),
        date=max(said("date")),
        blocks=spec.blocks if any(BLOCKS_KEY in source.file.metadata for source in sources) else 0,
    )


def largest_side(sources: Sequence[Source]) -> int:
    """The largest side in pixels that an input was trained at, as its header says; 0 when none
    says."""
    words = [source.file.metadata.get("modelspec.resolution", "") for source in sources]
    return max(
        (
            int(side)
            for word in words
            for side in word.split("x")
            if re.fullmatch("[0-9]{1,5}", side)
        ),
        default=0,
    )


def rounded(value: Any) -> float:
    return round(float(value), 6)


@contextmanager
def task(events: Events | None, description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar to advance by one; nothing without `events`."""
    if events is None:
        yield lambda: None
    else:
        with events.task(description, total) as bar:
            yield bar.advance
