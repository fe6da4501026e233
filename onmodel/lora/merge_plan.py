"""Plan of a merge: cosines, energy by rank, size, strength, alpha, warnings.

Nothing is written. `compare` shows how two LoRAs differ, by block and type of layer.
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from onmodel.events import Events
from onmodel.families.protocol import Linear
from onmodel.ledger.lineage import root
from onmodel.lora import header
from onmodel.lora.factors import Stack, cosines
from onmodel.lora.merge_files import words_room
from onmodel.lora.merge_job import MergeInput, MergeJob, rounded, rounded_rows, scale_of
from onmodel.lora.merge_ranks import Survey, choose_ranks, survey, table_bytes
from onmodel.weights import SIZES

LADDER = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ALIKE, LITTLE_KEPT, CANCELS, FAR = 0.999, 0.9, 0.3, 2.0  # where a plan begins to warn


def plan(job: MergeJob, facts: header.Facts, events: Events | None = None) -> dict[str, object]:
    """A merge's plan as JSON values. Sizes of files are a little too large, never too small. Raises
    as a run does."""
    elements = job.blend.method.elements is not None
    room = words_room(job, facts)
    seen = None if elements else survey(job, events)
    ranks = choose_ranks(job, room, events, seen)
    scale = scale_of(job, ranks)
    whole = max(job.full_ranks.values())

    def size_of(chosen: Mapping[str, int]) -> int:
        tensors = (
            sum(rank * sum(job.shapes[name]) for name, rank in chosen.items())
            * SIZES[job.format.dtype]
        )
        return tensors + room + table_bytes(job)

    inner = np.zeros((len(job.sources),) * 2)
    if seen is not None:
        inner = np.sum(list(seen.inners.values()), axis=0)
    strengths = np.sqrt(np.clip(np.diag(inner), 0, None))

    def capped(rank: int) -> dict[str, int]:
        """One rank for all layers, as far as the exact sum has it."""
        return {name: min(rank, full) for name, full in job.full_ranks.items()}

    ladder = [rank for rank in LADDER if rank < whole] + [whole]
    found: dict[str, object] = {
        **job.blend.facts(),
        "paper": job.blend.method.paper,
        "layers": len(job.linears),
        "models": [
            {
                "name": source.name,
                "weight": weight,
                "strength": rounded(strength) if seen else None,
                "layers": len(source.file.layers),
                "rank": source.largest_rank,
                "alpha": source.trained_alpha,
                "origin": source.lineage[root(source.lineage)].get("origin", "known"),
            }
            for source, weight, strength in zip(
                job.sources, job.blend.weights, strengths, strict=True
            )
        ],
        "cosines": rounded_rows(cosines(inner)) if seen else None,
        "blocks": by_block(job.linears, seen.inners) if seen else None,
        "exact": job.size.exact,
        "rank": max(ranks.values()),
        "alpha": scale * max(ranks.values()),
        "bytes": size_of(ranks),
        "energy_kept": rounded(seen.energy_at(ranks)) if seen else None,
        "strength": rounded(np.sqrt(seen.total * seen.energy_at(ranks))) if seen else None,
        "energy": (
            [
                {
                    "rank": rank,
                    "energy_kept": rounded(seen.energy_at(chosen)),
                    "bytes": size_of(chosen),
                }
                for rank, chosen in zip(ladder, map(capped, ladder), strict=True)
            ]
            if seen
            else None
        ),
    }
    if job.size.energy is not None or job.size.bytes is not None:
        found["ranks"] = ranks
    found["warnings"] = _warnings(job, ranks, scale, seen, inner)
    return found


def by_block(
    linears: Mapping[str, Linear], inners: Mapping[str, np.ndarray]
) -> list[dict[str, object]]:
    """For each block, and for the layers outside them: ‖ΔW‖ of every input, and the mean cosine of
    two inputs. `inners` are the inputs' inner products [K, K] by layer."""
    sums: dict[str, np.ndarray] = {}
    for name, inner in inners.items():
        block = linears[name].block
        key = "outside" if block is None else str(block)
        sums[key] = sums.get(key, 0) + inner
    rows: list[dict[str, object]] = []
    for key, inner in sums.items():
        pairs = cosines(inner)[np.triu_indices(len(inner), 1)]
        strengths = [rounded(value) for value in np.sqrt(np.clip(np.diag(inner), 0, None))]
        cosine = rounded(pairs.mean()) if len(pairs) else None
        rows.append({"block": key, "strengths": strengths, "cosine": cosine})
    return rows


def _warnings(
    job: MergeJob, ranks: Mapping[str, int], scale: float, seen: Survey | None, inner: np.ndarray
) -> list[str]:
    """Warnings before a merge, one line each."""
    said = []
    names = [source.name for source in job.sources]
    for source in job.sources:
        if source.lineage[root(source.lineage)].get("origin") == "unknown":
            said.append(
                f"{source.name}: its origin is unknown; the history will say so, with its hash"
            )
        said += [f"{source.name}: {note}" for note in source.file.notes]
        missing = len(job.linears) - len(source.file.layers)
        if missing:
            said.append(
                f"{source.name}: has no change for {missing} of {len(job.linears)} layers; they"
                " count as zero"
            )
    licences = {
        source.file.metadata.get("modelspec.license", "none named") for source in job.sources
    }
    if len(licences) > 1:
        said.append(f"the licences differ ({', '.join(sorted(licences))}); the result names none")
    scales = [source.scale for source in job.sources]
    if max(scales) > FAR * min(scales):
        said.append(
            f"alpha / rank of the inputs differ ({min(scales):g} to {max(scales):g}); the result"
            f" takes {scale:g}"
        )
    if job.alpha != "from-parent" and not 1 / FAR < scale / np.mean(scales) < FAR:
        said.append(
            f"alpha / rank changes from {np.mean(scales):g} to {scale:g}: training it on would step"
            f" {scale / np.mean(scales):.2g} times as far; leave alpha at from-parent before a"
            " refinement"
        )
    if job.format.dtype != "F32":
        said.append(
            "written in 16 bits: fine to use, but write float32 if training or another merge"
            " follows"
        )
    if seen is None:
        return said
    close = cosines(inner)
    for i, one in enumerate(names):
        for j in range(i + 1, len(names)):
            if close[i, j] > ALIKE:
                said.append(f"{one} and {names[j]} are nearly the same (cosine {close[i, j]:.5f})")
    weights = np.array(job.blend.weights)
    parts = float(np.sum(weights**2 * np.diag(inner)))
    if parts > 0 and seen.total < CANCELS**2 * parts:
        said.append(
            f"the inputs cancel: {np.sqrt(seen.total / parts):.2g} of the strength of unrelated"
            " ones is left"
        )
    mean = float(np.mean(np.sqrt(np.diag(inner))))
    ratio = np.sqrt(seen.total) / max(mean, 1e-300)
    if ratio > 1.5 or ratio < 1 / FAR:
        said.append(
            f"the result is {ratio:.2g} times as strong as its parents on average (sum of weights"
            f" {weights.sum():g})"
        )
    kept = seen.energy_at(ranks)
    if kept < LITTLE_KEPT:
        enough = next(
            (
                rank
                for rank in range(1, max(job.full_ranks.values()) + 1)
                if seen.energy_at(dict.fromkeys(ranks, rank)) >= LITTLE_KEPT
            ),
            0,
        )
        said.append(f"only {100 * kept:.1f} % of the energy is kept; rank {enough} would keep 90 %")
    return said


def compare(one: MergeInput, other: MergeInput, linears: Mapping[str, Linear]) -> dict[str, object]:
    """How two LoRAs differ: ‖ΔW‖ of each, their cosine and ‖difference‖ / mean strength; in all, by
    block, by type of layer. `linears` are those that either changes."""
    groups: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros((2, 2)))
    for name, linear in linears.items():
        having = [i for i, source in enumerate((one, other)) if name in source.file.layers]
        inner = np.zeros((2, 2))
        inner[np.ix_(having, having)] = Stack(
            [(one, other)[i].file.factors(name) for i in having]
        ).inner
        block = "outside" if linear.block is None else str(linear.block)
        for group in (
            ("all", "all"),
            ("block", block),
            ("type", name.split(".", 2)[-1] if linear.block is not None else name),
        ):
            groups[group] += inner
    tables: dict[str, dict[str, dict[str, object]]] = {"all": {}, "block": {}, "type": {}}
    for (table, key), inner in groups.items():
        lengths = np.sqrt(np.clip(np.diag(inner), 0, None))
        apart = np.sqrt(max(inner[0, 0] + inner[1, 1] - 2 * inner[0, 1], 0.0))
        tables[table][key] = {
            "strengths": [rounded(length) for length in lengths],
            "cosine": rounded(cosines(inner)[0, 1]),
            "difference": rounded(apart / max(lengths.mean(), 1e-300)),
        }
    sources = (one, other)
    return {
        "models": [source.name for source in sources],
        **tables["all"]["all"],
        "blocks": tables["block"],
        "types": tables["type"],
        "only_in": {
            source.name: sorted(set(source.file.layers) - set(rest.file.layers))
            for source, rest in (sources, sources[::-1])
        },
        "ranks": [source.ranks for source in sources],
        "alphas": [source.trained_alpha for source in sources],
        "words": _different_words(one.file.metadata, other.file.metadata),
    }


def _different_words(
    one: Mapping[str, str], other: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """The words that differ between two headers, without hashes and histories; "" for none."""
    both = {key: (one.get(key, ""), other.get(key, "")) for key in sorted({*one, *other})}
    return {
        key: (mine, theirs)
        for key, (mine, theirs) in both.items()
        if mine != theirs and not key.startswith("onmodel.") and "hash" not in key
    }
