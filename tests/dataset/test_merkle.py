"""Roots over pictures: what they know, and the proof of one picture."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onmodel.dataset.manifest import exposure_leaf, leaf
from onmodel.dataset.merkle import merkle_path, merkle_root, root_from
from onmodel.hashing import canonical_json
from tests.support.items import item


def test_the_root_knows_every_fact_and_no_order() -> None:
    items = [item(sha256=f"{i:064x}") for i in range(7)]

    def root(*more: dict[str, str]) -> str:
        return merkle_root(
            [leaf(one) for one in items[:-1]]
            + [leaf(item(**({"sha256": items[-1].sha256} | m))) for m in more]
        )

    whole = root({})
    assert merkle_root([leaf(one) for one in items[::-1]]) == whole
    for change in (
        {"tags": "1boy"},
        {"sentence": "x"},
        {"subset": "x"},
        {"origin": "x"},
        {"sha256": "f" * 64},
    ):
        assert root(change) != whole
    assert root({"group": 3, "split": "heldout"}) == whole
    assert len({merkle_root([leaf(one) for one in items[:n]]) for n in range(8)}) == 8


def test_a_training_knows_the_weight_and_what_was_held_out() -> None:
    used = exposure_leaf(item(), "base", 4)
    assert used["weight"] == 4 and exposure_leaf(item(split="heldout"), "base", 4)["weight"] == 0
    assert merkle_root([used]) != merkle_root([{**used, "weight": 2}])


def test_the_root_of_three_by_hand() -> None:
    def h(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    items = [item(sha256=f"{i:064x}") for i in range(3)]
    facts = [
        {"image": one.sha256, "tags": "1girl", "sentence": "", "subset": "base", "origin": "toon"}
        for one in items
    ]
    leaves = sorted(h(b"\0" + canonical_json(one)) for one in facts)
    assert (
        merkle_root(map(leaf, items))
        == h(b"\1" + h(b"\1" + leaves[0] + leaves[1]) + leaves[2]).hex()
    )


@given(st.integers(1, 40), st.data())
def test_every_leaf_of_every_tree_can_be_proven_and_no_other(
    count: int, data: st.DataObject
) -> None:
    leaves = [{"image": f"{i:064x}", "weight": i} for i in range(count)]
    one = leaves[data.draw(st.integers(0, count - 1))]
    path = merkle_path(leaves, one)
    assert root_from(one, path) == merkle_root(leaves)
    assert len(path) <= (count - 1).bit_length()
    assert root_from({**one, "weight": -1}, path) != merkle_root(leaves)
    for at, (side, beside) in enumerate(path):
        turned = [*path[:at], ("left" if side == "right" else "right", beside), *path[at + 1 :]]
        assert root_from(one, turned) != merkle_root(leaves)
    with pytest.raises(ValueError, match="not in list"):
        merkle_path(leaves, {**one, "weight": -1})


def test_an_inner_node_is_no_leaf() -> None:
    """A path that starts one level too high leads elsewhere: leaves and inner nodes are hashed
    apart."""
    leaves = [{"image": f"{i:064x}"} for i in range(4)]
    path = merkle_path(leaves, leaves[0])
    assert root_from(leaves[0], path[1:]) != merkle_root(leaves)
    with pytest.raises(ValueError, match="left or right"):
        root_from(leaves[0], [("up", "00")])
