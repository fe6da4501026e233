"""A Merkle tree (RFC 6962, section 2.1): one root commits to all leaves and shows none.

A leaf is a table of JSON values, hashed as canonical JSON. The proof of one leaf is the sibling
hashes on its path to the root. The root can be computed from them; they reveal no other leaf.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onmodel.hashing import canonical_json

Leaf = Mapping[str, Any]  # JSON values
Step = tuple[str, str]  # ("left" or "right", hash of the neighbour on that side)


def merkle_root(leaves: Iterable[Leaf]) -> str:
    """The root over the leaves in the order of their hashes, 64 hex digits.

    Leaves and inner nodes are hashed with different first bytes, so that no inner node can pass for
    a leaf; an odd node goes up as it is.
    """
    level = _hashes(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0].hex() if level else hashlib.sha256(b"").hexdigest()


def merkle_path(leaves: Iterable[Leaf], leaf: Leaf) -> list[Step]:
    """The proof that `leaf` is one of the leaves, from the bottom up. Raises ValueError when it is
    not."""
    level, at, path = _hashes(leaves), 0, []
    at = level.index(_leaf_hash(leaf))
    while len(level) > 1:
        beside = at ^ 1
        if beside < len(level):
            path.append(("left" if beside < at else "right", level[beside].hex()))
        level, at = _above(level), at // 2
    return path


def root_from(leaf: Leaf, path: Sequence[Step]) -> str:
    """The root that a leaf and its proof lead to. Raises ValueError for a step that is none."""
    here = _leaf_hash(leaf)
    for side, beside in path:
        if side not in ("left", "right"):
            raise ValueError(f"a step goes left or right, not {side!r}")
        there = bytes.fromhex(beside)
        here = _hash(b"\1", there + here if side == "left" else here + there)
    return here.hex()


def _hashes(leaves: Iterable[Leaf]) -> list[bytes]:
    return sorted(map(_leaf_hash, leaves))


def _above(level: Sequence[bytes]) -> list[bytes]:
    pairs = [_hash(b"\1", a + b) for a, b in zip(level[::2], level[1::2], strict=False)]
    return [*pairs, *level[len(pairs) * 2 :]]


def _leaf_hash(leaf: Leaf) -> bytes:
    return _hash(b"\0", canonical_json(dict(leaf)))


def _hash(prefix: bytes, data: bytes) -> bytes:
    return hashlib.sha256(prefix + data).digest()
