"""A LoRA moved to a relative of its base that was made by inserting copies of blocks.

Which block each block of the larger base was copied from is found by comparing weights. The result
is not the same model, and nothing here measures how well it works.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.protocol import FamilySpec
from onmodel.hashing import sha256_file, tree_hash
from onmodel.lora import header
from onmodel.lora.convert import encoded, layout_tensors, smallest_dtype, write_tensors
from onmodel.lora.file import LoraFile
from onmodel.lora.full_checkpoints import Checkpoint, open_checkpoint
from onmodel.lora.layouts import BASE_KEY, BLOCKS_KEY, WIDTH_KEY, split_key, written_stem
from onmodel.lora.merge_job import rounded, task

REMAP_KEY = "onmodel.remapped"  # a header's word: the block map, and that nothing was measured
ALIKE = 0.9  # least cosine of a block with the one that it was copied from
APART = 0.2  # least distance of that cosine from the second highest
_ROWS = 32  # compared of every layer: 0.004 is the standard deviation of unrelated ones' cosines


@dataclass(frozen=True)
class BlockMatch:
    """A block of the larger base: the `source` block of the smaller one that it is most like, the
    cosine of their weights, and the `second` highest cosine."""

    block: int
    source: int
    cosine: float
    second: float


@dataclass(frozen=True)
class RemapReport:
    """What was written. `layers`: number before and after; `copied`: blocks of the larger base that
    share their source block with the one before them."""

    blocks: tuple[BlockMatch, ...]
    layers: tuple[int, int]
    copied: tuple[int, ...]


def remap(
    source: Path, smaller: Path, base: Path, out: Path, events: Events | None = None
) -> RemapReport:
    """Write a LoRA of `smaller` for `base`, both files of whole transformers: every block gets the
    change of the block that it was copied from, layers outside the blocks keep theirs.

    Raises InputError when the bases do not belong together, when a block is like no source block or
    like two, when the order of blocks differs, or when a block that the LoRA changes has no copy.
    """
    few, many = open_checkpoint(smaller, "--from"), open_checkpoint(base, "--base")
    with few.file, many.file:
        if many.spec.blocks <= few.spec.blocks:
            what = f"has {many.spec.blocks} blocks, {smaller} has {few.spec.blocks}"
            raise InputError("--base", base, f"{what}; name the smaller base with --from")
        with LoraFile(source, few.spec) as lora:
            matches = match_blocks(few, many, events)
            tensors = layout_tensors(lora, few.spec, "common")
            past = header.lineage_of(
                lora.metadata, tree_hash(source) if source.is_dir() else sha256_file(source)
            )
            changed, metadata = set(lora.layers), dict(lora.metadata)
    names = moved_names(few.spec, many.spec, matches)
    _check_kept(changed, set(names.values()), source, base)
    moved = {}
    layers = [name for name, origin in names.items() if origin in changed]
    by_stem: dict[str, dict[str, np.ndarray]] = {}
    for key, array in tensors.items():
        stem = split_key(key)[0]
        by_stem.setdefault(stem, {})[key.removeprefix(stem)] = array
    for name in layers:
        for ending, array in by_stem[written_stem(names[name], "common")].items():
            moved[written_stem(name, "common") + ending] = array
    block_map = [match.source for match in matches]
    metadata.pop(BASE_KEY, None)
    metadata |= {
        BLOCKS_KEY: str(many.spec.blocks),
        WIDTH_KEY: str(many.spec.width),
        REMAP_KEY: f"moved from {few.spec.blocks} to {many.spec.blocks} blocks, not measured;"
        f" source blocks {','.join(map(str, block_map))}",
    }
    facts = {
        "block_map": block_map,
        "least_cosine": min(match.cosine for match in matches),
        "from_sha256": sha256_file(smaller),
        "base_sha256": sha256_file(base),
    }
    payload = encoded(moved, smallest_dtype(source, moved))
    write_tensors(out, payload, metadata, past, "remap", facts)
    copied = [i for i in range(1, len(matches)) if block_map[i] == block_map[i - 1]]
    return RemapReport(matches, (len(changed), len(layers)), tuple(copied))


def match_blocks(
    few: Checkpoint, many: Checkpoint, events: Events | None = None
) -> tuple[BlockMatch, ...]:
    """The source block of every block of the larger base: the median over its layers of the cosines
    of their first rows. A layer of zeros, as some insertions begin with, does not count."""
    found: list[BlockMatch] = []
    with task(events, "compare blocks", few.spec.blocks + many.spec.blocks) as advance:
        rows: list[list[np.ndarray]] = []
        for block in range(few.spec.blocks):
            rows.append(_directions(few, block))
            _check_sizes(rows[-1], rows[0], block, few)
            advance()
        layers = [np.stack(layer) for layer in zip(*rows, strict=True)]
        for block in range(many.spec.blocks):
            own = _directions(many, block)
            _check_sizes(own, rows[0], block, many)
            cosines = [layer @ row for layer, row in zip(layers, own, strict=True) if row.any()]
            score = np.median(cosines, axis=0) if cosines else np.zeros(few.spec.blocks)
            best = int(np.argmax(score))
            second = max(np.delete(score, best), default=0.0)
            found.append(BlockMatch(block, best, rounded(score[best]), rounded(second)))
            _check_clear(found, few, many)
            advance()
    return tuple(found)


def _directions(checkpoint: Checkpoint, block: int) -> list[np.ndarray]:
    """The first rows of every layer of a block, each as one vector of length 1, or of zeros."""
    found = []
    for row in checkpoint.spec.linears:
        if row.block == block:
            vector = checkpoint.file.first_rows(checkpoint.keys[row.name], _ROWS).ravel()
            size = float(np.linalg.norm(vector))
            if not np.isfinite(size):
                what = f"{row.name} holds values that are not finite; get the file again"
                raise InputError(checkpoint.file.field, checkpoint.file.path, what)
            found.append(vector / (size or 1.0))
    return found


def _check_sizes(
    own: Sequence[np.ndarray], first: Sequence[np.ndarray], block: int, checkpoint: Checkpoint
) -> None:
    """Raise InputError unless a block has the layers of the smaller base's first one."""
    if [row.shape for row in own] != [row.shape for row in first]:
        what = f"block {block} has layers of other sizes than block 0 of the smaller base"
        remedy = "name a base and the one that it was made from"
        raise InputError(checkpoint.file.field, checkpoint.file.path, f"{what}; {remedy}")


def _check_clear(found: Sequence[BlockMatch], few: Checkpoint, many: Checkpoint) -> None:
    """Raise InputError unless the newest match is sure and follows the one before it."""
    match = found[-1]
    what = ""
    if match.cosine < ALIKE:
        what = (
            f"is most like block {match.source} of {few.file.path} (cosine {match.cosine:.2f}),"
            f" which is no copy: at least {ALIKE:g} is needed"
        )
    elif match.cosine - match.second < APART:
        cosines = f"cosines {match.cosine:.2f} and {match.second:.2f}"
        what = f"is like two blocks of {few.file.path} ({cosines})"
    elif len(found) > 1 and match.source < found[-2].source:
        what = (
            f"is a copy of block {match.source} of {few.file.path}, the one before it of"
            f" {found[-2].source}"
        )
    if what:
        said = f"block {match.block} {what}; train on this base instead"
        raise InputError("--base", many.file.path, said)


def moved_names(few: FamilySpec, many: FamilySpec, matches: Sequence[BlockMatch]) -> dict[str, str]:
    """Layer of the larger base → the layer of the smaller one whose change it gets."""
    sources = {match.block: match.source for match in matches}
    known = {row.name for row in few.lora_linears}
    found = {}
    for row in many.lora_linears:
        name = row.name
        if row.block is not None:
            name = row.in_any_block.replace(".*.", f".{sources[row.block]}.", 1)
        if name in known:
            found[row.name] = name
    return found


def _check_kept(changed: set[str], kept: set[str], source: Path, base: Path) -> None:
    if lost := sorted(changed - kept):
        what = f"changes {lost[0]}, of which {base} has no copy ({len(lost)} layers)"
        raise InputError("lora", source, f"{what}; train on that base instead")
