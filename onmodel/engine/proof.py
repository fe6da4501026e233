"""Prove on request that one picture was, or was not, trained on, without showing any other; and
check such a proof.

The history publishes Merkle roots only. The proof of a picture holds its own captions, subset and
weight, and the hashes beside its way up to each root that knows it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onmodel.dataset.manifest import exposure_leaf, leaf, read_items
from onmodel.dataset.merkle import Leaf, merkle_path, root_from
from onmodel.engine.project import Project
from onmodel.errors import InputError, VerifyError
from onmodel.hashing import read_json, sha256_file
from onmodel.ledger.lineage import Lineage, Node, facts_of_others, ordered, root
from onmodel.reading import read_json_of_others

TYPE = "urn:onmodel:picture-proof:1"


def prove(picture: Path, lineage: Lineage, project: Project) -> dict[str, Any]:
    """The proofs of a picture, one for each place that it has in a data set or training of this
    history.

    Raises InputError when the project has none of the data sets, or the picture is in none of them.
    """
    if not picture.is_file():
        raise InputError("picture", picture, "no such file")
    sha256, proofs = sha256_file(picture), []
    folders = _folders(lineage, project)
    with facts_of_others("lineage"):
        for id in ordered(lineage):
            leaves = list(_leaves(lineage, id, folders))
            proofs += [
                {"node": id, "leaf": one, "path": merkle_path(leaves, one)}
                for one in leaves
                if one["image"] == sha256
            ]
    if not proofs:
        raise InputError(
            "picture",
            picture,
            f"none of the {len(folders)} data sets of this history has a file with these bytes",
        )
    return {"type": TYPE, "proofs": proofs}


def check_proof(path: Path, lineage: Lineage, picture: Path | None = None) -> list[str]:
    """What a proof proves about a history, a line for each root. Raises VerifyError for the first
    that fails, and for a `picture` that is not the one that was proven."""
    table = read_json_of_others(path, "proof")
    with facts_of_others(path.name):
        if table["type"] != TYPE:
            raise VerifyError(path.name, f"is no proof of a picture but {table['type']!r}")
        said = []
        for id, one, steps in [(row["node"], row["leaf"], row["path"]) for row in table["proofs"]]:
            node = lineage.get(id, {})
            if root_from(one, steps) != node.get("root"):
                raise VerifyError(
                    path.name,
                    f"does not lead to the root of {node.get('name', 'an unknown node')} {id[:12]}",
                )
            if picture and sha256_file(picture) != one["image"]:
                raise VerifyError(picture.name, "is not the picture that was proven")
            said.append(_said(node, one))
    if not said:
        raise VerifyError(path.name, "proves nothing")
    return said


def _folders(lineage: Lineage, project: Project) -> dict[str, Path]:
    """The project's folder of every data set of the history that it has, by the node's id."""
    wanted = {id for id, node in lineage.items() if node["type"] == "dataset"}
    found = {}
    for artifact in project.artifacts("dataset"):
        id = root(read_json(artifact.path / "lineage.json"))
        if id in wanted:
            found[id] = artifact.path
    if not found:
        raise InputError(
            "project",
            project.folder,
            "has none of the data sets of this history; name the one that made it",
        )
    return found


def _leaves(lineage: Lineage, id: str, folders: Mapping[str, Path]) -> Iterator[Leaf]:
    """The leaves under a node's root, as its stage hashed them; none for a node without
    pictures."""
    node = lineage[id]
    if id in folders:
        yield from map(leaf, read_items(folders[id]))
    if node["type"] == "run" and "root" in node:
        named = {lineage[parent]["name"]: parent for parent in node["used"] if parent in folders}
        for share in node["shares"]:
            dataset = named.get(share["stage"] or node["settings"]["dataset"])
            label = f"{share['stage']}/{share['subset']}" if share["stage"] else share["subset"]
            exposures = node["exposures"][label] // node["settings"]["epochs"]
            if dataset:
                for item in read_items(folders[dataset]):
                    if item.subset == share["subset"]:
                        yield exposure_leaf(item, label, exposures)


def _said(node: Node, one: Leaf) -> str:
    picture = f"picture {one['image'][:12]}"
    if "weight" not in one:
        return (
            f"data set {node['name']}: {picture} is in subset {one['subset']}, tags: {one['tags']}"
        )
    if one["weight"] == 0:
        return (
            f"training {node['name']}: {picture} of {one['subset']} was held out, never trained on"
        )
    weight = f"weight {one['weight']} × {node['settings']['epochs']} epochs"
    return f"training {node['name']}: {picture} of {one['subset']} was trained on, {weight}"
