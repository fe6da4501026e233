"""Lineage: a Merkle DAG of what a thing was made from. It travels inside every artifact and every LoRA header.

A node is `{"type": …, "used": [ids of its parents], **facts}` and its id is the SHA-256 of its canonical JSON, so a
node's id vouches for its whole history, and joining two histories is a union of dictionaries. Node types follow W3C
PROV's view: `run` is an activity, everything else an entity that was made with the `used` others.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from onmodel.errors import VerifyError
from onmodel.hashing import hash_json

ACTIVITIES = frozenset({"run"})
NAMES = ("name", "stage", "title", "file")  # the facts that may name a node, best first

Node = dict[str, Any]
Lineage = dict[str, Node]


def add(parents: Iterable[Lineage], type: str, **facts: Any) -> Lineage:
    """Put one node on top of its parents' histories. Facts must be JSON values; no clock, no path of a machine."""
    parents = list(parents)
    joined: Lineage = {}
    for lineage in parents:
        joined.update(lineage)
    node: Node = {"type": type, "used": sorted({root(lineage) for lineage in parents}), **facts}
    joined[hash_json(node)] = node
    return joined


def root(lineage: Mapping[str, Node]) -> str:
    """The id of the one node that no other node used. Raises VerifyError when there is not exactly one."""
    used = {parent for node in lineage.values() for parent in node["used"]}
    tops = [id for id in lineage if id not in used]
    if len(tops) != 1:
        raise VerifyError("lineage", f"expected one newest node, found {len(tops)}")
    return tops[0]


def check(lineage: Mapping[str, Node]) -> None:
    """Recompute every id and follow every edge. Raises VerifyError naming the first node that does not match."""
    for id, node in lineage.items():
        if hash_json(node) != id:
            raise VerifyError(f"{node.get('type', '?')} {id[:12]}", "its content does not match its id")
        for parent in node["used"]:
            if parent not in lineage:
                raise VerifyError(f"{node['type']} {id[:12]}", f"its parent {parent[:12]} is missing")
    root(lineage)


def ordered(lineage: Mapping[str, Node]) -> list[str]:
    """Ids with parents before children; ties by id, so the order is always the same."""
    done: dict[str, None] = {}

    def visit(id: str) -> None:
        if id not in done:
            for parent in lineage[id]["used"]:
                visit(parent)
            done[id] = None

    for id in sorted(lineage):
        visit(id)
    return list(done)


def title_of(lineage: Mapping[str, Node], id: str) -> str:
    """What a node is called: the first fact that names it; a checkpoint by its run and epoch; else by its type."""
    node = lineage[id]
    name = next((str(node[key]) for key in NAMES if node.get(key)), None)
    if name is None and "epoch" in node and len(node["used"]) == 1:
        name = f"{title_of(lineage, node['used'][0])}@{node['epoch']}"
    if name is None and node.get("origin") == "unknown":
        name = f"{node['type']} {node['sha256'][:8]}"
    return name or str(node["type"])


def relations(lineage: Mapping[str, Node]) -> dict[str, list[dict[str, str]]]:
    """Every edge as one of PROV's relations, sorted: used, wasGeneratedBy, wasDerivedFrom.

    https://www.w3.org/TR/prov-dm/
    """
    found: dict[str, list[dict[str, str]]] = {"used": [], "wasGeneratedBy": [], "wasDerivedFrom": []}
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
