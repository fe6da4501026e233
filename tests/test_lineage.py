import pytest

from onmodel.errors import VerifyError
from onmodel.ledger import lineage


def diamond() -> lineage.Lineage:
    base = lineage.add([], "base", sha256="00")
    left = lineage.add([base], "checkpoint", epoch=1)
    right = lineage.add([base], "checkpoint", epoch=2)
    return lineage.add([left, right], "merge", weights=[0.5, 0.5])


def test_a_merge_holds_the_histories_of_both_parents_once() -> None:
    merged = diamond()
    assert sorted(node["type"] for node in merged.values()) == [
        "base",
        "checkpoint",
        "checkpoint",
        "merge",
    ]
    assert merged[lineage.root(merged)]["type"] == "merge"
    lineage.check(merged)


def test_parents_come_before_children() -> None:
    merged = diamond()
    order = lineage.ordered(merged)
    for id in order:
        assert all(order.index(parent) < order.index(id) for parent in merged[id]["used"])


@pytest.mark.parametrize("type", ["base", "checkpoint", "merge"])
def test_any_changed_fact_is_found_and_named(type: str) -> None:
    merged = diamond()
    id = next(id for id, node in merged.items() if node["type"] == type)
    merged[id] = {**merged[id], "extra": 1}
    with pytest.raises(VerifyError, match=f"{type} {id[:12]}"):
        lineage.check(merged)


def test_a_missing_parent_is_found() -> None:
    merged = diamond()
    del merged[next(id for id, node in merged.items() if node["type"] == "base")]
    with pytest.raises(VerifyError, match="parent"):
        lineage.check(merged)
