"""Lineage: a Merkle DAG of how a result was made. Every artifact and every LoRA header contains it.

A node is `{"type": …, "used": [ids of its parents], **facts}` and its id is the SHA-256 of its
canonical JSON. So an id proves the whole history below it, and two histories are joined by a union
of dictionaries. Node types follow W3C PROV: `run` is an activity, all others are entities that were
made from the `used` ones.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from onmodel.errors import VerifyError
from onmodel.hashing import hash_json
from onmodel.reading import parse_json

# What a history of others may hold. The largest of ours has some hundred nodes.
LARGEST = 8 * 2**20  # bytes of JSON
MOST_FACTS, MOST_NODES, MOST_EDGES, DEEPEST = 250_000, 5_000, 50_000, 500
ACTIVITIES = frozenset({"run"})
NAMES = ("name", "stage", "title", "file")  # the facts that may name a node, best first

Node = dict[str, Any]
Lineage = dict[str, Node]


def add(parents: Iterable[Lineage], type: str, **facts: Any) -> Lineage:
    """Put one node on top of its parents' histories. Facts must be JSON values; no clock, no path
    of a machine."""
    parents = list(parents)
    joined: Lineage = {}
    for lineage in parents:
        joined.update(lineage)
    node: Node = {"type": type, "used": sorted({root(lineage) for lineage in parents}), **facts}
    joined[hash_json(node)] = node
    return joined


def root(lineage: Mapping[str, Node]) -> str:
    """The id of the one node that no other node used. Raises VerifyError when there is not exactly
    one."""
    used = {parent for node in lineage.values() for parent in node["used"]}
    tops = [id for id in lineage if id not in used]
    if len(tops) != 1:
        raise VerifyError("lineage", f"expected one newest node, found {len(tops)}")
    return tops[0]


def parse(data: bytes, where: str) -> Lineage:
    """A history from JSON that anyone may have written, checked. Raises VerifyError naming `where`
    and the node."""
    try:
        if len(data) > LARGEST:
            raise ValueError(f"is longer than {LARGEST >> 20} MiB")
        lineage: Lineage = parse_json(data.decode(), MOST_FACTS)
    except ValueError as error:
        raise VerifyError(where, f"is not a history that can be read ({error})") from error
    check_at(lineage, where)
    return lineage


def check_at(lineage: Any, where: str) -> None:
    """`check` a history in the file or header field `where`; an error names it and the node."""
    try:
        check(lineage)
    except VerifyError as error:
        raise VerifyError(f"{where}, {error.node}", error.what) from error


def check(lineage: Any) -> None:
    """Recompute every id and follow every edge. Raises VerifyError naming the first node that does
    not match.

    Takes any JSON value. A node that matches its id has no cycle below it: no hash can be made to
    hold itself.
    """
    if not isinstance(lineage, dict):
        raise VerifyError("lineage", "is not a table of nodes")
    for id, node in lineage.items():
        if not _is_node(node):
            raise VerifyError(
                f"node {id[:12]}",
                "is not a node: it has no type or no list of the ids that it used",
            )
        if not _has_id(node, id):
            raise VerifyError(f"{node['type']} {id[:12]}", "its content does not match its id")
        for parent in node["used"]:
            if parent not in lineage:
                raise VerifyError(
                    f"{node['type']} {id[:12]}", f"its parent {parent[:12]} is missing"
                )
    if (
        len(lineage) > MOST_NODES
        or sum(len(node["used"]) for node in lineage.values()) > MOST_EDGES
    ):
        raise VerifyError("lineage", f"has more than {MOST_NODES} nodes or {MOST_EDGES} relations")
    depth: dict[str, int] = {}
    for id in ordered(lineage):
        depth[id] = max((depth[parent] + 1 for parent in lineage[id]["used"]), default=1)
    if max(depth.values(), default=0) > DEEPEST:
        raise VerifyError("lineage", f"has more than {DEEPEST} steps one after the other")
    root(lineage)


def _is_node(node: Any) -> bool:
    return (
        isinstance(node, dict)
        and isinstance(node.get("type"), str)
        and isinstance(node.get("used"), list)
        and all(isinstance(parent, str) for parent in node["used"])
    )


def _has_id(node: Node, id: str) -> bool:
    try:
        return hash_json(node) == id
    except (
        ValueError
    ):  # NaN, a number beyond 2**53 or half a surrogate pair: no canonical JSON, so no id
        return False


@contextmanager
def facts_of_others(where: str) -> Iterator[None]:
    """Within the context, a missing fact or one of the wrong type is a VerifyError: anyone may have
    written the nodes. A node that matches its id need not be from onmodel."""
    try:
        yield
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
        RecursionError,
    ) as error:
        what = (
            f"holds something that onmodel does not write ({type(error).__name__}:"
            f" {str(error)[:200]})"
        )
        raise VerifyError(where, what) from error


def ordered(lineage: Mapping[str, Node]) -> list[str]:
    """Ids with parents before children; ties by id, so the order is always the same."""
    done: dict[str, None] = {}
    todo = sorted(lineage, reverse=True)
    while todo:  # no recursion: a history may be longer than Python's stack
        id = todo[-1]
        waiting = (
            [] if id in done else [parent for parent in lineage[id]["used"] if parent not in done]
        )
        if waiting:
            todo += reversed(waiting)
        else:
            done[id] = None
            todo.pop()
    return list(done)


def title_of(lineage: Mapping[str, Node], id: str) -> str:
    """What a node is called: the first fact that names it; a checkpoint by its run and epoch; else
    by its type."""
    node, epochs = lineage[id], ""
    while not any(node.get(key) for key in NAMES) and "epoch" in node and len(node["used"]) == 1:
        node, epochs = lineage[node["used"][0]], f"@{node['epoch']}{epochs}"
    name = next((str(node[key]) for key in NAMES if node.get(key)), None)
    if name is None and node.get("origin") == "unknown":
        name = f"{node['type']} {node['sha256'][:8]}"
    return (name or str(node["type"])) + epochs


def relations(lineage: Mapping[str, Node]) -> dict[str, list[dict[str, str]]]:
    """Every edge as one of PROV's relations, sorted: used, wasGeneratedBy, wasDerivedFrom.

    https://www.w3.org/TR/prov-dm/
    """
    found: dict[str, list[dict[str, str]]] = {
        "used": [],
        "wasGeneratedBy": [],
        "wasDerivedFrom": [],
    }
    for id in sorted(lineage):
        for parent in lineage[id]["used"]:
            if lineage[id]["type"] in ACTIVITIES:
                found["used"].append({"activity": id, "entity": parent})
            elif lineage[parent]["type"] in ACTIVITIES:
                found["wasGeneratedBy"].append({"entity": id, "activity": parent})
            else:
                found["wasDerivedFrom"].append({"generatedEntity": id, "usedEntity": parent})
    return found


def ancestors(lineage: Mapping[str, Node], id: str) -> Lineage:
    """A node with its whole history, as the lineage that it had when it was made."""
    found: Lineage = {}
    todo = [id]
    while todo:
        id = todo.pop()
        if id not in found:
            found[id] = lineage[id]
            todo += lineage[id]["used"]
    return found
