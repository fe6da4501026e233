"""A merge before it is done: its inputs, method and size, and one layer of its result."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.hashing import sha256_file
from onmodel.ledger.lineage import Lineage
from onmodel.lora import header
from onmodel.lora.factors import (
    Factors,
    LayerShape,
    Merged,
    Stack,
    factor_dense,
    merge_module,
)
from onmodel.lora.file import LoraFile
from onmodel.lora.methods import Blend
from onmodel.lora.writing import FileFormat

Alpha = Literal["from-parent"] | float


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
        return header.lineage_of(self.file.metadata, "" if known else sha256_file(self.file.source))

    @cached_property
    def trained_alpha(self) -> float | None:
        return self.file.trained_alpha

    @property
    def ranks(self) -> list[int]:
        """The ranks that its layers have, in ascending order."""
        return sorted({layer.rank for layer in self.file.layers.values()})

    @property
    def largest_rank(self) -> int:
        """The rank of the file; the largest where layers have several."""
        return self.ranks[-1]

    @property
    def scale(self) -> float:
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
        return {linear.name: linear for linear in self.spec.lora_linears if linear.name in found}

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

    def merge(self, name: str, rank: int | None, scale: float) -> Merged:
        """One layer of the result; `rank` None is the exact sum."""
        factors, weights = self.parts(name)
        method = self.blend.method
        if method.elements is None:
            merged = merge_module(list(zip(factors, weights, strict=True)), rank, scale, method.mix)
        else:
            assert rank is not None
            dense = method.elements(factors, weights, self.blend.density, name)
            made, kept = factor_dense(dense, rank, scale, name)
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


def scale_of(job: MergeJob, ranks: Mapping[str, int]) -> float:
    """alpha / rank of the result: the given one, or the mean of the inputs', weighted by the size
    of their weights."""
    if job.alpha != "from-parent":
        if job.alpha <= 0:
            raise InputError("alpha", job.alpha, "must be above 0")
        return job.alpha / max(ranks.values())
    weights = np.abs(job.blend.weights)
    scales = [source.scale for source in job.sources]
    return float(np.average(scales, weights=weights if weights.any() else None))


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
