"""manifest.json: the pictures of a data set, their captions, subsets and held-out split, and what was refused.

The Merkle root over the pictures is what a release publishes: it vouches for every picture, caption and subset without
showing any, and one picture can be proven on request. Repeats are no part of it; they belong to a training.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onmodel.errors import StateError
from onmodel.hashing import canonical_json, read_json, write_json
from onmodel.records import Item

NAME = "manifest.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that was set aside, and why. `file` is its name, without the folders of the machine."""

    file: str
    reason: str


def write_manifest(
    folder: Path,
    items: Sequence[Item],
    purposes: Mapping[str, str],
    refused: Sequence[Refusal],
    shown: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Write manifest.json. Subsets stand in the order of `purposes`; `shown` is what is said of how they are shown."""
    subsets: dict[str, dict[str, Any]] = {}
    for name, purpose in purposes.items():
        splits = Counter(item.split for item in items if item.subset == name)
        subsets[name] = {"purpose": purpose, "count": splits.total(), "heldout": splits["heldout"]}
        if name in shown:
            subsets[name]["shown"] = dict(shown[name])
    manifest = {
        "subsets": subsets,
        "items": [item.as_dict() for item in items],
        "refused": [{"file": row.file, "reason": row.reason} for row in refused],
    }
    write_json(folder / NAME, manifest)
    return manifest


def read_items(folder: Path) -> list[Item]:
    """The pictures of a data set, in its order. Raises StateError when the manifest is missing or damaged."""
    try:
        return [Item(**row) for row in read_json(folder / NAME)["items"]]
    except (KeyError, TypeError) as error:
        raise StateError(folder / NAME, f"is no manifest of a data set ({error})") from error


def read_subsets(folder: Path) -> dict[str, dict[str, Any]]:
    """Subset → purpose, count, heldout and, where something is said of it, shown. Raises StateError."""
    try:
        subsets: dict[str, dict[str, Any]] = read_json(folder / NAME)["subsets"]
    except (KeyError, TypeError) as error:
        raise StateError(folder / NAME, f"is no manifest of a data set ({error})") from error
    return subsets


def merkle_root(items: Iterable[Item]) -> str:
    """Root of the Merkle tree over the sorted leaves H(picture ‖ captions ‖ subset ‖ origin ‖ mask), 64 hex digits.

    Leaves and inner nodes are hashed with different first bytes, and an odd node goes up as it is (RFC 6962), so that
    no inner node can pass for a leaf.
    """
    level = sorted(_hash(b"\0", _leaf(item)) for item in items)
    if not level:
        return hashlib.sha256(b"").hexdigest()
    while len(level) > 1:
        pairs = [_hash(b"\1", a + b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0].hex()


def _leaf(item: Item) -> bytes:
    mask = [item.mask] if item.mask else []  # named by its content
    return canonical_json([item.sha256, item.tags, item.sentence, item.subset, item.origin, *mask])


def _hash(prefix: bytes, data: bytes) -> bytes:
    return hashlib.sha256(prefix + data).digest()
