"""The drawn lineage: parents left of children, no box on another, the same picture every time."""

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from onmodel.ledger.lineage import Lineage, add
from onmodel.report.lineage_svg import BOX_HEIGHT, anchor, draw_lineage, facts, lay_out
from onmodel.report.source import ReportSource


@st.composite
def lineages(draw: st.DrawFn) -> Lineage:
    """A random history: each node stands on some of those before it, the last on all that nobody
    used."""
    made = [add([], "base", name="base")]
    for index in range(draw(st.integers(1, 12))):
        parents = draw(st.lists(st.sampled_from(range(len(made))), max_size=3, unique=True))
        made.append(add([made[at] for at in parents], "checkpoint", name=f"node {index}"))
    return add(made, "release", name="all")


@given(lineages())
@settings(max_examples=30, deadline=None)
def test_children_stand_right_of_parents_and_no_box_on_another(lineage: Lineage) -> None:
    plan = lay_out(lineage)
    layer = {key: at for at, keys in enumerate(plan.layers) for key in keys}
    assert all(layer[parent] < layer[id] for id, node in lineage.items() for parent in node["used"])
    assert all(
        b - a == 1
        for route in plan.routes.values()
        for a, b in pairwise(layer[key] for key in route)
    )
    for keys in plan.layers:
        heights = sorted(plan.y[key] for key in keys if isinstance(key, str))
        assert all(low - high >= BOX_HEIGHT for high, low in pairwise(heights))
    height = float(re.findall(r'height="([\d.]+)"', str(draw_lineage(lineage)))[0])
    assert min(plan.y.values()) > 0 and max(plan.y.values()) < height


def test_every_node_is_drawn_once_and_links_to_its_facts(source: ReportSource) -> None:
    assert source.lineage is not None
    drawn = str(draw_lineage(source.lineage))
    rows = facts(source.lineage)
    assert sorted(re.findall(r'href="#([^"]+)"', drawn)) == sorted(
        str(row["anchor"]) for row in rows
    )
    assert len(rows) == len(source.lineage)
    assert "preview@20" in [row["title"] for row in rows], (
        "a checkpoint is called by its run and epoch"
    )


def test_order_of_the_dictionary_does_not_matter(source: ReportSource) -> None:
    assert source.lineage is not None
    turned = dict(reversed(source.lineage.items()))
    assert draw_lineage(turned) == draw_lineage(source.lineage)


def test_facts_are_escaped() -> None:
    lineage = add([], "base", name="<script>alert(1)</script>")
    drawn = str(draw_lineage(lineage))
    assert "<script>" not in drawn and "&lt;script&gt;" in drawn
    assert anchor(next(iter(lineage))) in drawn
