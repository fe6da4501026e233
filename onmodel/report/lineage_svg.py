"""A lineage drawn: parents left, children right, in layers, with few crossings; and its facts as
texts for a list.

Layers by longest path, long edges through invisible way-points, order by barycentres (Sugiyama,
Tagawa, Toda 1981). Nothing is random and ties are broken by id, so one lineage is one picture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from onmodel.errors import VerifyError
from onmodel.ledger.lineage import Lineage, Node, ordered, root, title_of
from onmodel.report.svg import element, number

BOX_WIDTH, BOX_HEIGHT = 164.0, 60.0
LAYER_GAP, ROW_GAP, MARGIN = 40.0, 14.0, 6.0
SWEEPS = 12
MOST_POINTS = 20_000
TITLE_LENGTH, FACT_LENGTH = 20, 240

Edge = tuple[str, str]
WayPoint = tuple[str, str, int]  # parent, child, layer of an invisible point on their edge


@dataclass(frozen=True)
class Layout:
    """Where the nodes stand: centre y and layer by key; `routes`: edge → the keys it passes."""

    layers: Sequence[Sequence[str | WayPoint]]
    y: Mapping[str | WayPoint, float]
    routes: Mapping[Edge, Sequence[str | WayPoint]]


def draw_lineage(lineage: Lineage, **attributes: str) -> Markup:
    """The DAG of what `drawn` leaves, as SVG at its natural size; every node links to `#node-<first
    12 of its id>`."""
    shown = drawn(lineage)
    plan = lay_out(shown)
    layer_of = {key: index for index, layer in enumerate(plan.layers) for key in layer}
    x = {key: MARGIN + index * (BOX_WIDTH + LAYER_GAP) for key, index in layer_of.items()}
    edges = [
        element("path", class_="edge", d=_edge(route, x, plan.y)) for route in plan.routes.values()
    ]
    boxes = [_box(lineage, id, x[id], plan.y[id]) for id in ordered(shown)]
    width = 2 * MARGIN + len(plan.layers) * (BOX_WIDTH + LAYER_GAP) - LAYER_GAP
    height = max(y + _half(key) for key, y in plan.y.items()) + MARGIN
    return element(
        "svg",
        *edges,
        *boxes,
        class_="lineage",
        width=width,
        height=height,
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="group",
        aria_label="lineage",
        **attributes,
    )


def drawn(lineage: Lineage) -> Lineage:
    """The part of a history that a picture shows; its ids no longer prove the content.

    Recipe, code and environment are left to the list of nodes. A node without other parents is
    drawn below its character. A checkpoint that only an evaluation read is replaced by its run.
    """
    taken = {
        parent
        for node in lineage.values()
        if node["type"] != "checkpoints"
        for parent in node["used"]
    }
    idle = {id for id, node in lineage.items() if node["type"] == "checkpoint" and id not in taken}
    top = root(lineage)
    passed = {id for id, node in lineage.items() if node["type"] == "checkpoints" or id in idle} - {
        top
    }
    hidden = {
        id for id, node in lineage.items() if node["type"] in ("recipe", "code", "environment")
    } - {top}

    @cache
    def parents(id: str) -> list[str]:
        found: dict[str, None] = {}
        for parent in lineage[id]["used"]:
            if parent in passed:
                found.update(dict.fromkeys(parents(parent)))
            elif parent not in hidden:
                found[parent] = None
        return list(found)

    def characters(id: str) -> list[str]:
        sheets = [
            above
            for parent in lineage[id]["used"]
            if parent in hidden
            for above in lineage[parent]["used"]
        ]
        return [sheet for sheet in sheets if lineage[sheet]["type"] == "character"]

    kept = {id: node for id, node in lineage.items() if id not in hidden and id not in passed}
    return {id: {**node, "used": parents(id) or characters(id)} for id, node in kept.items()}


def facts(lineage: Lineage) -> list[dict[str, object]]:
    """Every node in words, parents first: `id`, `anchor`, `type`, `title`, `used` (titles and
    anchors), `facts`."""
    found = []
    for id in ordered(lineage):
        node = lineage[id]
        used = [
            {"anchor": anchor(parent), "title": title_of(lineage, parent)}
            for parent in node["used"]
        ]
        found.append(
            {
                "id": id,
                "anchor": anchor(id),
                "type": node["type"],
                "title": title_of(lineage, id),
                "used": used,
                "facts": _facts(node),
            }
        )
    return found


def in_words(value: Any) -> str:
    """A fact or setting as people read it; a share of a training as `base ×4`; nothing of a table
    that is empty."""
    if isinstance(value, Mapping):
        if "subset" in value and "repeats" in value:
            place = f"{value['stage']}/" if value.get("stage") else ""
            return f"{place}{value['subset']} ×{value['repeats']}"
        filled = {key: one for key, one in value.items() if one not in (None, "", [], {})}
        return f"({', '.join(f'{key} {in_words(one)}' for key, one in filled.items())})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " + ".join(map(in_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def anchor(id: str) -> str:
    return f"node-{id[:12]}"


def lay_out(lineage: Lineage) -> Layout:
    """Layers, rows and routes of the nodes."""
    layer = _layers(lineage)
    points = sum(
        layer[id] - layer[parent] for id, node in lineage.items() for parent in node["used"]
    )
    if points > MOST_POINTS:
        raise VerifyError(
            "lineage", f"is too large to be drawn ({points} points); print it as text"
        )
    layers: list[list[str | WayPoint]] = [[] for _ in range(max(layer.values()) + 1)]
    routes: dict[Edge, list[str | WayPoint]] = {}
    for id in ordered(lineage):
        layers[layer[id]].append(id)
        for parent in lineage[id]["used"]:
            passed: list[str | WayPoint] = [
                (parent, id, at) for at in range(layer[parent] + 1, layer[id])
            ]
            for at, point in enumerate(passed, layer[parent] + 1):
                layers[at].append(point)
            routes[parent, id] = [parent, *passed, id]
    before: dict[str | WayPoint, list[str | WayPoint]] = {}
    after: dict[str | WayPoint, list[str | WayPoint]] = {}
    for route in routes.values():
        for left, right in pairwise(route):
            after.setdefault(left, []).append(right)
            before.setdefault(right, []).append(left)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        _sort(layers if down else layers[::-1], before if down else after)
    return Layout(layers, _rows(layers, before, after), routes)


def _layers(lineage: Lineage) -> dict[str, int]:
    """Longest path from a source; a source itself stands just left of its first child."""
    layer: dict[str, int] = {}
    for id in ordered(lineage):
        layer[id] = max((layer[parent] + 1 for parent in lineage[id]["used"]), default=0)
    children: dict[str, list[int]] = {}
    for id, node in lineage.items():
        for parent in node["used"]:
            children.setdefault(parent, []).append(layer[id])
    return {
        id: at if lineage[id]["used"] or id not in children else min(children[id]) - 1
        for id, at in layer.items()
    }


def _sort(
    layers: Sequence[list[str | WayPoint]],
    towards: Mapping[str | WayPoint, Sequence[str | WayPoint]],
) -> None:
    """Order each layer by the mean position of its neighbours in the layer before it."""
    for fixed, moving in pairwise(layers):
        at = {key: index for index, key in enumerate(fixed)}
        old = {key: index for index, key in enumerate(moving)}
        moving.sort(key=lambda key: _mean([at[n] for n in towards.get(key, ())], float(old[key])))


def _rows(
    layers: Sequence[Sequence[str | WayPoint]],
    before: Mapping[str | WayPoint, Sequence[str | WayPoint]],
    after: Mapping[str | WayPoint, Sequence[str | WayPoint]],
) -> dict[str | WayPoint, float]:
    """Centre heights: each node drawn to the mean of its neighbours, none closer than its size
    allows."""
    y: dict[str | WayPoint, float] = {}
    for layer in layers:
        _settle(layer, dict.fromkeys(layer, 0.0), y)
    for sweep in range(2 * SWEEPS):
        towards = before if sweep % 2 == 0 else after
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            wanted = {}
            for key in layer:
                wanted[key] = _mean([y[other] for other in towards.get(key, ())], y[key])
            _settle(layer, wanted, y)
    top = min(value - _half(key) for key, value in y.items())
    return {key: value - top + MARGIN for key, value in y.items()}


def _settle(
    layer: Sequence[str | WayPoint],
    wanted: Mapping[str | WayPoint, float],
    y: dict[str | WayPoint, float],
) -> None:
    """Place a layer in its order as near to the wanted heights as the sizes allow.

    Half of the result pushed down from the top, half pushed up from the bottom, so that neither end
    wins.
    """
    down: list[float] = []
    for index, key in enumerate(layer):
        floor = down[-1] + _half(layer[index - 1]) + _half(key) + ROW_GAP if index else wanted[key]
        down.append(max(wanted[key], floor))
    up: list[float] = []
    for index, key in enumerate(reversed(layer)):
        roof = (
            up[-1] - _half(layer[len(layer) - index]) - _half(key) - ROW_GAP
            if index
            else wanted[key]
        )
        up.append(min(wanted[key], roof))
    for key, a, b in zip(layer, down, reversed(up), strict=True):
        y[key] = (a + b) / 2


def _half(key: str | WayPoint) -> float:
    return BOX_HEIGHT / 2 if isinstance(key, str) else 2.0


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _edge(
    route: Sequence[str | WayPoint],
    x: Mapping[str | WayPoint, float],
    y: Mapping[str | WayPoint, float],
) -> str:
    """A smooth path from the parent's right side to the child's left side, straight through each
    way-point's column."""
    at_x, at_y = x[route[0]] + BOX_WIDTH, y[route[0]]
    parts = [f"M{number(at_x)} {number(at_y)}"]
    for key in route[1:]:
        to_x, to_y = x[key], y[key]
        middle = number((at_x + to_x) / 2)
        parts.append(
            f"C{middle} {number(at_y)} {middle} {number(to_y)} {number(to_x)} {number(to_y)}"
        )
        at_x, at_y = to_x, to_y
        if not isinstance(key, str):
            at_x += BOX_WIDTH
            parts.append(f"H{number(at_x)}")
    return "".join(parts)


def _box(lineage: Lineage, id: str, x: float, y: float) -> Markup:
    node, title = lineage[id], title_of(lineage, id)
    lines = "\n".join(f"{key}: {value}" for key, value in _facts(node))
    shown = (
        title
        if len(title) <= TITLE_LENGTH
        else title[: TITLE_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
    return element(
        "a",
        element("title", f"{node['type']} {title}\n{lines}\n{id}"),
        element("rect", x=x, y=y - BOX_HEIGHT / 2, width=BOX_WIDTH, height=BOX_HEIGHT, rx=6),
        element(
            "rect", class_="kind", x=x, y=y - BOX_HEIGHT / 2 + 9, width=3, height=BOX_HEIGHT - 18
        ),
        element("text", shown, x=x + 13, y=y - 10),
        element("text", f"{node['type']} \N{MIDDLE DOT} {id[:8]}", class_="id", x=x + 13, y=y + 6),
        element("text", _brief(node), class_="brief", x=x + 13, y=y + 21),
        href=f"#{anchor(id)}",
        class_=f"node {''.join(c for c in str(node['type']) if c.isalnum())}",
    )


def _brief(node: Node) -> str:
    """What matters most of a step, in the width of a box."""
    settings = node.get("settings", {})
    match node["type"]:
        case "dataset" if "subsets" in node:
            return f"{sum(row['count'] for row in node['subsets'].values())} pictures"
        case "run" if settings:
            return (
                f"rank {settings['rank']}, rate {settings['learning_rate']:g}, {node['steps']}"
                " steps"
            )
        case "checkpoint" if "step" in node:
            return f"step {node['step']}"
        case "merge" if "rank" in node:
            return f"{node['method']}, rank {node['rank']}"
        case "scenes":
            return f"{node['count']} described"
        case "pictures":
            return f"{node['count']} generated, {node['kept']} kept"
        case "evaluation" | "selection":
            return f"{len(node.get('models', ()))} models"
        case "model":
            return (
                f"{node['origin']} origin"
                if node["origin"] == "unknown"
                else f"by another {node['origin']}"
            )
        case "character" if "sheet" in node:
            return str(node["sheet"].get("trigger", ""))
    return str(node.get("date", ""))


def _facts(node: Node) -> list[tuple[str, str]]:
    """A node's facts as short texts, without what the picture says already; a table's rows as
    `settings.rank`."""
    rows = []
    flat = {
        f"{key}.{name}" if name else key: inner
        for key, value in sorted(node.items())
        for name, inner in (
            value.items() if key in ("settings", "claims", "sheet") else (("", value),)
        )
    }
    for key, value in flat.items():
        if key in ("type", "used"):
            continue
        text = in_words(value)
        rows.append(
            (
                key,
                (
                    text
                    if len(text) <= FACT_LENGTH
                    else text[: FACT_LENGTH - 1] + "\N{HORIZONTAL ELLIPSIS}"
                ),
            )
        )
    return rows
