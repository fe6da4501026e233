"""The manifest and the Merkle root of a data set."""

import hashlib
from pathlib import Path

import pytest
from made_items import item

from onmodel.dataset.manifest import NAME, Refusal, merkle_root, read_items, write_manifest
from onmodel.errors import StateError
from onmodel.hashing import canonical_json


def test_it_comes_back(tmp_path: Path) -> None:
    items = [item(sha256="a" * 64), item(sha256="b" * 64, subset="more", split="heldout")]
    refused = [Refusal("x.png", "the file is empty")]
    manifest = write_manifest(tmp_path, items, {"base": "the look", "more": ""}, refused, {})
    assert read_items(tmp_path) == items
    assert manifest["subsets"]["more"] == {"purpose": "", "count": 1, "heldout": 1}
    assert manifest["refused"] == [{"file": "x.png", "reason": "the file is empty"}]


def test_a_damaged_manifest_is_an_error(tmp_path: Path) -> None:
    for text in ("{", '{"items": [{"image": 1}]}', "{}"):
        (tmp_path / NAME).write_text(text)
        with pytest.raises(StateError, match=NAME):
            read_items(tmp_path)


def test_the_root_knows_every_fact_and_no_order() -> None:
    items = [item(sha256=f"{i:064x}") for i in range(7)]
    root = merkle_root(items)
    assert merkle_root(items[::-1]) == root
    for change in ({"tags": "1boy"}, {"sentence": "x"}, {"subset": "x"}, {"origin": "x"}, {"sha256": "f" * 64}):
        assert merkle_root([*items[:-1], item(**({"sha256": items[-1].sha256} | change))]) != root
    assert merkle_root([*items[:-1], item(sha256=items[-1].sha256, group=3, split="heldout")]) == root
    assert len({merkle_root(items[:n]) for n in range(8)}) == 8


def test_the_root_of_three_by_hand() -> None:
    def h(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    items = [item(sha256=f"{i:064x}") for i in range(3)]
    leaves = sorted(h(b"\0" + canonical_json([one.sha256, "1girl", "", "base", "toon"])) for one in items)
    assert merkle_root(items) == h(b"\1" + h(b"\1" + leaves[0] + leaves[1]) + leaves[2]).hex()
