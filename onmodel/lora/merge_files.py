"""LoRA files in, one LoRA file out, layer by layer: the memory is that of one layer, however large
the files.

The recipe's stages and the commands both come through here: `merge_files` writes a result with its
history, `merge_draft` one that is only measured. A rank by energy or by size needs every layer's
singular values first (`survey`), so those go over the files twice.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
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
from onmodel.lora.factors import (
    Factors,
    LayerShape,
    Merged,
    Stack,
    cosines,
    factor_dense,
    merge_module,
)
from onmodel.lora.file import LoraFile
from onmodel.lora.layouts import BLOCKS_KEY
from onmodel.lora.methods import Blend
from onmodel.lora.writing import FileFormat, LoraTensors, lora_entries, rank_words
from onmodel.weights import SIZES

Alpha = Literal["from-parent"] | float
# an energy with as many digits as any: the header's room is known before the energy is
LONGEST = 0.123456


@dataclass(frozen=True)
class MergeInput:
    """An input: its name and its open file."""

    name: str
    file: LoraFile

    @cached_property
    def lineage(self) -> Lineage:
        """Its history; a file of another tool is one node of unknown origin with its hash. Raises
        VerifyError when the history is damaged."""
        known = header.RECIPE_KEY in self.file.metadata
        return header.lineage_of(self.file, "" if known else sha256_file(self.file.source))

    @cached_property
    def trained_alpha(self) -> float | None:
        return self.file.trained_alpha

    @property
    def ranks(self) -> list[int]:
        """The ranks that its layers have, in ascending order."""
        return sorted({layer.rank for layer in self.file.layers.values()})

    @property
    def largest_rank(self) -> int:
        """The rank that stands for the file where its layers have several."""
        return self.ranks[-1]

    @property
    def gauge(self) -> float:
        """alpha / rank of its training."""
        return (self.trained_alpha or self.largest_rank) / self.largest_rank


@dataclass(frozen=True)
class MergeSize:
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
class MergeJob:
    """A merge before it is done: sources, method, the model's layers, and how the result is
    written."""

    sources: Sequence[MergeInput]
    blend: Blend
    spec: FamilySpec
    size: MergeSize = MergeSize()
    alpha: Alpha = "from-parent"
    format: FileFormat = field(default_factory=FileFormat)

    @cached_property
    def linears(self) -> dict[str, Linear]:
        """Every layer that any input changes, in the model's order."""
        found = {name for source in self.sources for name in source.file.layers}
        return {linear.name: linear for linear in self.spec.linears if linear.name in found}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        return {name: (one.out_features, one.in_features) for name, one in self.linears.items()}

    @cached_property
    def full_ranks(self) -> dict[str, int]:
        """Σ rᵢ of every layer: the rank of the exact sum."""
        ranks: dict[str, int] = dict.fromkeys(self.linears, 0)
        for source in self.sources:
            for name, layer in source.file.layers.items():
                ranks[name] += layer.rank
        return ranks

    def layers(self, ranks: Mapping[str, int]) -> dict[str, LayerShape]:
        """The result's layers at these ranks."""
        return {name: LayerShape(*self.shapes[name], rank) for name, rank in ranks.items()}

    def having(self, name: str) -> list[int]:
        """The inputs that change a layer; for the others ΔW is zero there."""
        return [i for i, source in enumerate(self.sources) if name in source.file.layers]

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
def open_sources(files: Sequence[tuple[str, Path]], spec: FamilySpec) -> Iterator[list[MergeInput]]:
    """Open (name, path) inputs. Raises what `LoraFile` raises."""
    with ExitStack() as stack:
        yield [MergeInput(name, stack.enter_context(LoraFile(path, spec))) for name, path in files]


def inner_products(job: MergeJob) -> np.ndarray:
    """The inner products [K, K] of the inputs' ΔW, over all layers. Nothing is merged."""
    total = np.zeros((len(job.sources), len(job.sources)))
    for name in job.linears:
        total += job.spread(name, Stack(job.parts(name)[0]).inner)
    return total


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
        return dict.fromkeys(job.linears, size.rank)
    return share_out(job, seen or survey(job, events), header_bytes)


def table_bytes(job: MergeJob) -> int:
    """Room for a file's table of tensors and its alphas, never too small: as if the ranks were
    whole."""
    entries, _ = lora_entries(job.layers(job.full_ranks), job.format)
    digits = len(str(sum(entry.bytes for entry in entries.values())))
    row = len('"":{"data_offsets":[,],"dtype":"BF16","shape":[,]},') + 2 * digits + 10
    return sum(row + len(key) for key in entries) + 4 * len(job.linears) + 300


def gauge_of(job: MergeJob, ranks: Mapping[str, int]) -> float:
    """alpha / rank of the result: the one asked for, or the mean of the inputs' by the size of
    their weights."""
    if job.alpha != "from-parent":
        if job.alpha <= 0:
            raise InputError("alpha", job.alpha, "must be above 0")
        return job.alpha / max(ranks.values())
    weights = np.abs(job.blend.weights)
    gauges = [source.gauge for source in job.sources]
    return float(np.average(gauges, weights=weights if weights.any() else None))


@dataclass(frozen=True)
class MergedInput:
    """An input of a merge that was made: its node in the history, its weight, and ‖ΔW‖ at
    weight 1."""

    model: str
    name: str
    weight: float
    strength: float


@dataclass(frozen=True)
class MergeReport:
    """What a merge gave. `strength` is ‖ΔW‖ of the result, `energy_kept` 0…1 of the exact sum's,
    `cosines` [K, K] those between the inputs; `ranks` by layer, where they were shared out."""

    blend: Blend
    exact: bool
    rank: int
    alpha: float
    energy_kept: float
    strength: float
    models: tuple[MergedInput, ...]
    cosines: list[list[float]]
    ranks: Mapping[str, int] | None

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **self.blend.facts(),
            "exact": self.exact,
            "rank": self.rank,
            "alpha": self.alpha,
            "energy_kept": self.energy_kept,
            "paper": self.blend.method.paper,
            "strength": self.strength,
            "models": [asdict(model) for model in self.models],
            "cosines": self.cosines,
            **({} if self.ranks is None else {"ranks": self.ranks}),
        }


def merge_files(
    out: Path,
    job: MergeJob,
    facts: header.Facts,
    reasons: Sequence[Lineage] = (),
    told: Mapping[str, Any] | None = None,
    events: Events | None = None,
) -> tuple[Lineage, MergeReport]:
    """Write the merge to `out`; returns its history and a report.

    `reasons` are histories of what chose the inputs, `told` are more facts for the merge's own
    node.
    """
    told = told or {}
    ranks = choose_ranks(job, words_room(job, facts, reasons, told), events)
    gauge = gauge_of(job, ranks)

    def words(energy_kept: float) -> tuple[Lineage, dict[str, str]]:
        return _words(job, facts, reasons, told, _Outcome(ranks, gauge, energy_kept))

    sums = _stream(out, job, ranks, gauge, lambda kept: words(kept)[1], events)
    lineage, _ = words(sums.energy_kept)
    strengths = np.sqrt(np.clip(np.diag(sums.inner), 0, None))
    report = MergeReport(
        blend=job.blend,
        exact=job.size.exact,
        rank=max(ranks.values()),
        alpha=gauge * max(ranks.values()),
        energy_kept=rounded(sums.energy_kept),
        strength=rounded(np.sqrt(sums.kept)),
        models=tuple(
            MergedInput(root(source.lineage), source.name, weight, rounded(strength))
            for source, weight, strength in zip(
                job.sources, job.blend.weights, strengths, strict=True
            )
        ),
        cosines=rounded_rows(cosines(sums.inner)),
        ranks=None if job.size.energy is None and job.size.bytes is None else ranks,
    )
    return lineage, report


def merge_draft(out: Path, job: MergeJob, events: Events | None = None) -> None:
    """Write the merge to `out` without a history, for a measurement."""
    ranks = choose_ranks(job, 0, events)
    gauge = gauge_of(job, ranks)
    # A file without the number of blocks is refused where it changes the first blocks only.
    words = {
        BLOCKS_KEY: str(job.spec.blocks),
        **rank_words(job.layers(ranks), gauge * max(ranks.values())),
    }
    _stream(out, job, ranks, gauge, lambda kept: words, events)


@dataclass
class _Sums:
    """Sums over the layers that were merged so far: energies, and the inputs' inner products
    [K, K]."""

    inner: np.ndarray
    kept: float = 0.0
    total: float = 0.0

    @property
    def energy_kept(self) -> float:
        return self.kept / max(self.total, 1e-300)


def _stream(
    out: Path,
    job: MergeJob,
    ranks: Mapping[str, int],
    gauge: float,
    words: Callable[[float], Mapping[str, str]],
    events: Events | None,
) -> _Sums:
    """Merge and write layer by layer. `words(energy kept)` are the header's."""
    sums = _Sums(np.zeros((len(job.sources), len(job.sources))))
    with task(events, "merge", len(ranks)) as advance:

        def factors(name: str) -> Factors[np.ndarray]:
            merged = job.merge(name, None if job.size.exact else ranks[name], gauge)
            sums.kept, sums.total = sums.kept + merged.kept, sums.total + merged.total
            sums.inner = sums.inner + merged.inner
            advance()
            return merged.factors

        alphas = {name: gauge * rank for name, rank in ranks.items()}
        tensors = LoraTensors(job.layers(ranks), alphas, factors, job.format)
        tensors.stream(out, words(LONGEST), lambda: words(sums.energy_kept))
    return sums


@dataclass(frozen=True)
class _Outcome:
    """What a header says of a merge that was made: ranks, alpha / rank, energy kept (0…1)."""

    ranks: Mapping[str, int]
    gauge: float
    energy_kept: float


def words_room(
    job: MergeJob,
    facts: header.Facts,
    reasons: Sequence[Lineage] = (),
    told: Mapping[str, Any] | None = None,
) -> int:
    """Bytes that the header's words take in the file at most."""
    whole = _Outcome(job.full_ranks, gauge_of(job, job.full_ranks), LONGEST)
    _, words = _words(job, facts, reasons, told or {}, whole)
    return sum(
        len(json.dumps({key: value}, ensure_ascii=False).encode()) for key, value in words.items()
    )


def _words(
    job: MergeJob,
    facts: header.Facts,
    reasons: Sequence[Lineage],
    told: Mapping[str, Any],
    outcome: _Outcome,
) -> tuple[Lineage, dict[str, str]]:
    """The result's history and the words of its header."""
    parts = [
        {"model": root(source.lineage), "name": source.name, "weight": weight}
        for source, weight in zip(job.sources, job.blend.weights, strict=True)
    ]
    rank = max(outcome.ranks.values())
    alpha = outcome.gauge * rank
    node = {
        "name": facts.title,
        **told,
        **job.blend.facts(),
        "parts": parts,
        "exact": job.size.exact,
        "rank": rank,
        "alpha": alpha,
        "energy_kept": round(outcome.energy_kept, 6),
    }
    lineage = add([*(source.lineage for source in job.sources), *reasons], "merge", **node)
    facts = replace(facts, merged_from=", ".join(source.name for source in job.sources))
    return lineage, {**header.build(facts, lineage), **rank_words(job.layers(outcome.ranks), alpha)}


def facts_of(sources: Sequence[MergeInput], spec: FamilySpec, title: str) -> header.Facts:
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


def largest_side(sources: Sequence[MergeInput]) -> int:
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


def rounded(value: float | np.floating[Any]) -> float:
    """To the 6 decimals that reports and histories have."""
    return round(float(value), 6)


def rounded_rows(matrix: np.ndarray) -> list[list[float]]:
    """A matrix as lists of `rounded` numbers."""
    return [list(map(rounded, row)) for row in matrix]


@contextmanager
def task(events: Events | None, description: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar to advance by one; nothing without `events`."""
    if events is None:
        yield lambda: None
    else:
        with events.task(description, total) as bar:
            yield bar.advance
