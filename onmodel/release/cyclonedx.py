"""A history as a CycloneDX 1.6 ML-BOM: the released LoRA with its model card, everything it depends
on as components.

https://cyclonedx.org/docs/1.6/json/ — nothing here knows a clock, so one history gives one file.
What a stranger's header claims stands among the properties under `onmodel:claim:`, what was
recorded here under `onmodel:`.
"""

import json
import uuid
from collections.abc import Mapping

from onmodel.ledger.lineage import Lineage, Node, ordered, title_of
from onmodel.release.provenance import Provenance

MODELS = frozenset(
    {"base", "checkpoint", "checkpoints", "merge", "model", "service", "weights", "release"}
)
DATA = frozenset({"dataset", "pictures"})


def cyclonedx(provenance: Provenance) -> dict[str, object]:
    """The bill of materials as JSON values, valid under the CycloneDX 1.6 schema."""
    lineage, newest = provenance.lineage, provenance.newest
    others = [id for id in ordered(lineage) if id != newest]
    libraries = _libraries(lineage)
    depends = [{"ref": id, "dependsOn": sorted(lineage[id]["used"])} for id in ordered(lineage)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": (
            f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'urn:onmodel:lineage:{newest}')}"
        ),
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "onmodel", **_version(lineage)}]
            },
            "component": _component(lineage, newest, provenance.name) | _released(provenance),
        },
        "components": [_component(lineage, id, title_of(lineage, id)) for id in others] + libraries,
        "dependencies": depends + [{"ref": library["bom-ref"]} for library in libraries],
    }


def _component(lineage: Lineage, id: str, name: str) -> dict[str, object]:
    node = lineage[id]
    type = node["type"]
    made: dict[str, object] = {
        "type": "machine-learning-model" if type in MODELS else "data",
        "bom-ref": id,
        "name": name,
        "description": f"{type} of the history",
        "properties": _properties(node),
    }
    sha256 = node.get("sha256") or node.get("payload_sha256")
    if sha256:
        made["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if type in DATA:
        made["data"] = [
            {"type": "dataset", "name": name, "classification": "private; known by its Merkle root"}
        ]
    elif made["type"] == "data":
        made["data"] = [
            {"type": "configuration" if type in ("recipe", "character") else "other", "name": name}
        ]
    return made


def _released(provenance: Provenance) -> dict[str, object]:
    """The BOM's entry of the released LoRA: hash, licence, model card."""
    lineage, node = provenance.lineage, provenance.lineage[provenance.newest]
    if node["type"] not in MODELS:
        return {}
    data = [id for id in ordered(lineage) if lineage[id]["type"] == "dataset"]
    card: dict[str, object] = {
        "modelParameters": {
            "task": "text-to-image",
            "architectureFamily": "diffusion transformer",
            "modelArchitecture": "low-rank adapter (LoRA)",
            "datasets": [{"ref": id} for id in data],
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "image"}],
        }
    }
    if metrics := _metrics(provenance):
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    found: dict[str, object] = {"modelCard": card}
    weights = sorted(name for name in provenance.files if name.endswith(".safetensors"))
    if weights:
        found["hashes"] = [{"alg": "SHA-256", "content": provenance.files[weights[0]]}]
    if node.get("license"):
        found["licenses"] = [{"license": {"name": node["license"]}}]
    if node.get("author"):
        found["authors"] = [{"name": node["author"]}]
    return found


def _metrics(provenance: Provenance) -> list[dict[str, object]]:
    """The published numbers of the released model, with their 95 % intervals. An evaluation knows
    it by the name of the node that the released file was frozen from."""
    if provenance.evaluation is None:
        return []
    lineage = provenance.lineage
    names = {
        title_of(lineage, source)
        for id in provenance.generated.values()
        for source in lineage[id]["used"]
    }
    return [
        {
            "type": axis,
            "value": repr(score.value),
            "slice": f"{score.n} prompts, {score.signature}",
            "confidenceInterval": {
                "lowerBound": repr(score.low),
                "upperBound": repr(score.high),
            },
        }
        for row in provenance.evaluation.models
        if row.name in names
        for axis, score in row.scores.items()
    ]


def _libraries(lineage: Lineage) -> list[dict[str, object]]:
    """The libraries of every environment that took part, each version once."""
    found = {
        (name, version)
        for node in lineage.values()
        if node["type"] == "environment"
        for name, version in node["packages"].items()
    }
    return [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "name": name,
            "version": version,
            "purl": f"pkg:pypi/{name}@{version.replace('+', '%2B')}",
        }
        for name, version in sorted(found)
    ]


def _properties(node: Node) -> list[dict[str, str]]:
    rows = []
    for key, value in sorted(node.items()):
        if key == "used":
            continue
        inner: Mapping[str, object] = value if isinstance(value, dict) else {"": value}
        word = "onmodel:claim" if key == "claims" else f"onmodel:{key}"
        rows += [
            {
                "name": f"{word}:{name}" if name else word,
                "value": (
                    one
                    if isinstance(one, str)
                    else json.dumps(one, ensure_ascii=False, sort_keys=True)
                ),
            }
            for name, one in sorted(inner.items())
        ]
    return rows


def _version(lineage: Lineage) -> dict[str, str]:
    versions = sorted({str(node["version"]) for node in lineage.values() if node["type"] == "code"})
    return {"version": ", ".join(versions)} if versions else {}
