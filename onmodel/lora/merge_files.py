"""Merge LoRA files into one, layer by layer: the memory is that of one layer, however large the
files.

The recipe's stages and the commands both use this: `merge_files` writes a result with its history,
`merge_draft` one that is only measured.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onmodel.events import Events
from onmodel.families.protocol import FamilySpec
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.lora import header
from onmodel.lora.factors import (
    Factors,
    cosines,
)
from onmodel.lora.layouts import BASE_KEY, BLOCKS_KEY, WIDTH_KEY
from onmodel.lora.merge_job import MergeInput, MergeJob, rounded, rounded_rows, scale_of, task
from onmodel.lora.merge_ranks import choose_ranks
from onmodel.lora.methods import Blend
from onmodel.lora.writing import LoraTensors, rank_words

# An energy with as many digits as any: the size of the header is needed before the energy is known.
LONGEST = 0.123456


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
    extra: Mapping[str, object] | None = None,
    events: Events | None = None,
) -> tuple[Lineage, MergeReport]:
    """Write the merge to `out`; returns its history and a report.

    `reasons` are histories of what chose the inputs, `extra` are more facts for the merge's own
    node.
    """
    extra = extra or {}
    ranks = choose_ranks(job, words_room(job, facts, reasons, extra), events)
    scale = scale_of(job, ranks)

    def words(energy_kept: float) -> tuple[Lineage, dict[str, str]]:
        return _words(job, facts, reasons, extra, _Outcome(ranks, scale, energy_kept))

    sums = _stream(out, job, ranks, scale, lambda kept: words(kept)[1], events)
    lineage, _ = words(sums.energy_kept)
    strengths = np.sqrt(np.clip(np.diag(sums.inner), 0, None))
    report = MergeReport(
        blend=job.blend,
        exact=job.size.exact,
        rank=max(ranks.values()),
        alpha=scale * max(ranks.values()),
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
    scale = scale_of(job, ranks)
    words = {
        BLOCKS_KEY: str(job.spec.blocks),
        **rank_words(job.layers(ranks), scale * max(ranks.values())),
    }
    _stream(out, job, ranks, scale, lambda kept: words, events)


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
    scale: float,
    words: Callable[[float], Mapping[str, str]],
    events: Events | None,
) -> _Sums:
    """Merge and write layer by layer. `words(energy kept)` are the header's."""
    sums = _Sums(np.zeros((len(job.sources), len(job.sources))))
    with task(events, "merge", len(ranks)) as advance:

        def factors(name: str) -> Factors[np.ndarray]:
            merged = job.merge(name, None if job.size.exact else ranks[name], scale)
            sums.kept, sums.total = sums.kept + merged.kept, sums.total + merged.total
            sums.inner = sums.inner + merged.inner
            advance()
            return merged.factors

        alphas = {name: scale * rank for name, rank in ranks.items()}
        tensors = LoraTensors(job.layers(ranks), alphas, factors, job.format)
        tensors.stream(out, words(LONGEST), lambda: words(sums.energy_kept))
    return sums


@dataclass(frozen=True)
class _Outcome:
    """The result of a merge, as its header records it: ranks, alpha / rank, energy kept (0…1)."""

    ranks: Mapping[str, int]
    scale: float
    energy_kept: float


def words_room(
    job: MergeJob,
    facts: header.Facts,
    reasons: Sequence[Lineage] = (),
    extra: Mapping[str, object] | None = None,
) -> int:
    """Upper limit of the bytes that the header's fields need."""
    whole = _Outcome(job.full_ranks, scale_of(job, job.full_ranks), LONGEST)
    _, words = _words(job, facts, reasons, extra or {}, whole)
    return sum(
        len(json.dumps({key: value}, ensure_ascii=False).encode()) for key, value in words.items()
    )


def _words(
    job: MergeJob,
    facts: header.Facts,
    reasons: Sequence[Lineage],
    extra: Mapping[str, object],
    outcome: _Outcome,
) -> tuple[Lineage, dict[str, str]]:
    """The result's history and the words of its header."""
    parts = [
        {"model": root(source.lineage), "name": source.name, "weight": weight}
        for source, weight in zip(job.sources, job.blend.weights, strict=True)
    ]
    rank = max(outcome.ranks.values())
    alpha = outcome.scale * rank
    node = {
        "name": facts.title,
        **extra,
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
    """Header facts of a merge of plain files, from the headers of its inputs.

    Licence, width and base are set only when all inputs have the same one. The date is the newest
    of theirs: no clock may change the bytes.
    """

    def said(key: str) -> list[str]:
        return list(
            dict.fromkeys(source.file.metadata.get(f"modelspec.{key}", "") for source in sources)
        )

    def alike(key: str) -> str:
        found = {source.file.metadata.get(key, "") for source in sources}
        return found.pop() if len(found) == 1 else ""

    triggers, authors, width = said("trigger_phrase"), said("author"), alike(WIDTH_KEY)
    return header.Facts(
        title=title,
        author=", ".join(filter(None, authors)),
        license=alike("modelspec.license"),
        trigger=", ".join(filter(None, triggers)),
        architecture=spec.architecture,
        resolution=largest_side(sources),
        date=max(said("date")),
        blocks=spec.blocks if any(BLOCKS_KEY in source.file.metadata for source in sources) else 0,
        width=int(width) if re.fullmatch("[0-9]{1,9}", width) else 0,
        base_sha256=alike(BASE_KEY),
    )


def largest_side(sources: Sequence[MergeInput]) -> int:
    """The largest training resolution (side in pixels) in the inputs' headers; 0 when none has
    it."""
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
