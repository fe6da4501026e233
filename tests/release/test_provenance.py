"""A history is read from what carries it alone, and exported in the forms that other tools
validate."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement as InToto

from onmodel.errors import InputError, VerifyError
from onmodel.evaluate.evaluation import FILE, write_evaluation
from onmodel.hashing import canonical_json, sha256_file, write_json
from onmodel.ledger.lineage import Lineage, add, ancestors, check, root, title_of
from onmodel.lora import header
from onmodel.release.cyclonedx import cyclonedx
from onmodel.release.folder import LINEAGE, Statement, bind
from onmodel.release.provenance import counts, read_provenance
from onmodel.weights import read_metadata, write_weights
from tests.support.release_history import NAMES, evaluation, history

FACTS = header.Facts("Backgwa", "someone", "MIT", "backgwa", "anima-base-v1.0", 96, "2026-11-22")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder with the made-up history and numbers of the card's tests, and a small file."""
    folder, past = tmp_path / "backgwa", history()
    (weights,) = (id for id, node in past.items() if node["type"] == "weights")
    own = ancestors(past, weights)
    write_weights(folder / "backgwa.safetensors", {"a": torch.ones(2, 2)}, header.build(FACTS, own))
    write_evaluation(folder / "evaluation" / FILE, evaluation({NAMES[-1]: "1" * 64}))
    bind(folder, past, {"backgwa.safetensors": weights})
    return folder


def merged(left: Lineage, right: Lineage, name: str) -> Lineage:
    parts = [
        {"model": root(one), "name": title_of(one, root(one)), "weight": 0.5}
        for one in (left, right)
    ]
    return add(
        [left, right],
        "merge",
        name=name,
        method="uniform",
        parts=parts,
        rank=32,
        exact=False,
        alpha=32.0,
        energy_kept=0.98,
    )


def test_folder_file_and_artifact_tell_the_same_history(release: Path, tmp_path: Path) -> None:
    whole = read_provenance(release)
    assert whole.lineage == history() and whole.name == "backgwa"
    assert read_provenance(release / LINEAGE).lineage == whole.lineage
    file = read_provenance(release / "backgwa.safetensors")
    assert set(file.lineage) < set(whole.lineage)
    assert file.files == {"backgwa.safetensors": sha256_file(release / "backgwa.safetensors")}
    write_json(tmp_path / "artifact" / LINEAGE, history())
    assert read_provenance(tmp_path / "artifact").lineage == history()


def test_merges_of_merges_list_all_pictures_and_runs(tmp_path: Path) -> None:
    """Depth 4: sixteen trainings, each on its own data set, merged in pairs, in one header of less
    than 64 KiB."""
    level = []
    for i in range(16):
        data = add(
            [],
            "dataset",
            name=f"data_{i}",
            root=f"{i:064x}",
            subsets={"base": {"count": 10 + i, "heldout": 1}},
            origins={"toon": 10 + i},
        )
        settings = {
            "do": "train",
            "dataset": f"data_{i}",
            "epochs": 20,
            "learning_rate": 1e-5,
            "rank": 32,
            "alpha": 32,
            "batch": 16,
            "schedule": "cosine",
        }
        run = add(
            [data],
            "run",
            name=f"run_{i}",
            steps=100,
            settings=settings,
            shares=[{"subset": "base", "repeats": 2}],
            seed=i,
        )
        level.append(add([run], "checkpoint", epoch=20, step=100, payload_sha256=f"{i:064x}"))
    depth = 0
    while len(level) > 1:
        depth += 1
        level = [
            merged(level[i], level[i + 1], f"merge_{depth}_{i}") for i in range(0, len(level), 2)
        ]
    assert depth == 4
    write_weights(
        tmp_path / "m.safetensors", {"a": torch.ones(2, 2)}, header.build(FACTS, level[0])
    )
    found = counts(read_provenance(tmp_path / "m.safetensors").lineage)
    assert found["trainings"] == 16 and found["data_sets"] == 16 and found["merges"] == 15
    assert found["pictures"] == sum(10 + i for i in range(16))


def test_another_layout_keeps_the_history(release: Path, tmp_path: Path) -> None:
    """Rewriting a file with its words, as every change of layout does, leaves the whole history in
    it."""
    words = read_metadata(release / "backgwa.safetensors")
    write_weights(tmp_path / "other.safetensors", {"lora_unet_a": torch.ones(4, 1)}, words)
    assert (
        read_provenance(tmp_path / "other.safetensors").lineage
        == read_provenance(release / "backgwa.safetensors").lineage
    )


def test_an_unknown_parent_stays_unknown(tmp_path: Path) -> None:
    write_weights(
        tmp_path / "theirs.safetensors",
        {"a": torch.ones(2)},
        {"ss_epoch": "7", "ss_output_name": "theirs"},
    )
    found = read_provenance(tmp_path / "theirs.safetensors")
    assert [node["origin"] for node in found.lineage.values()] == ["unknown"]
    assert found.lineage[found.newest]["claims"]["ss_epoch"] == "7"
    onward = merged(found.lineage, add([], "checkpoint", epoch=1), "ours")
    again = merged(onward, add([], "checkpoint", epoch=2), "again")
    assert counts(again)["of_unknown_origin"] == counts(again)["files_of_others"] == 1


def test_tensors_under_the_history_of_others_are_found(release: Path) -> None:
    file = release / "backgwa.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(VerifyError, match="not those whose history"):
        read_provenance(file)


@pytest.mark.parametrize("name", ["nothing", "notes.txt", "empty"])
def test_what_carries_no_history_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="name a release folder"):
        read_provenance(tmp_path / name)


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"_type": 3}', b"\xff\xfe"])
def test_a_damaged_lineage_is_one_line(damaged: bytes, release: Path) -> None:
    (release / LINEAGE).write_bytes(damaged)
    with pytest.raises(VerifyError, match=LINEAGE):
        read_provenance(release)


def test_the_export_of_a_release_is_its_own_statement_and_in_toto_reads_it(release: Path) -> None:
    for path in (release, release / "backgwa.safetensors"):
        data = read_provenance(path).statement().to_bytes()
        read = json_format.Parse(data, statement_pb2.Statement())
        assert (
            read.type == "https://in-toto.io/Statement/v1"
            and read.predicate_type == "urn:onmodel:lineage:1"
        )
        assert {row.name: dict(row.digest)["sha256"] for row in read.subject} == dict(
            read_provenance(path).files
        )
        InToto.copy_from_pb(read).validate()
        lineage = Statement.from_bytes(data).lineage
        check(lineage)
        assert lineage == read_provenance(path).lineage
    assert read_provenance(release).statement().to_bytes() == (release / LINEAGE).read_bytes()


def ml_bom(path: Path) -> dict[str, Any]:
    """The BOM, after the schema that the CycloneDX library ships has taken it."""
    bom = cyclonedx(read_provenance(path))
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(canonical_json(bom).decode())
    assert fault is None, str(fault)[:400]
    return bom


def test_the_ml_bom_is_valid_and_says_what_the_release_says(release: Path) -> None:
    bom = ml_bom(release)
    about = bom["metadata"]["component"]
    assert about["type"] == "machine-learning-model"
    assert about["hashes"][0]["content"] == sha256_file(release / "backgwa.safetensors")
    refs = {one["bom-ref"]: one for one in bom["components"]} | {about["bom-ref"]: about}
    past = history()
    assert set(past) <= set(refs), "every node is a component"
    assert {row["ref"] for row in bom["dependencies"]} == set(refs)
    assert all(set(row.get("dependsOn", ())) <= set(refs) for row in bom["dependencies"])
    datasets = [id for id, node in past.items() if node["type"] == "dataset"]
    assert {row["ref"] for row in about["modelCard"]["modelParameters"]["datasets"]} == set(
        datasets
    )
    metrics = about["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    scores = evaluation().model("refined@15").scores
    shown = {metric["type"]: float(metric["value"]) for metric in metrics}
    assert shown == {axis: score.value for axis, score in scores.items()}
    assert cyclonedx(read_provenance(release)) == bom, "no clock and nothing random"


def test_the_ml_bom_of_a_strangers_file_keeps_claims_apart(tmp_path: Path) -> None:
    write_weights(
        tmp_path / "theirs.safetensors", {"a": torch.ones(2)}, {"modelspec.author": "another"}
    )
    about = ml_bom(tmp_path / "theirs.safetensors")["metadata"]["component"]
    said = {row["name"]: row["value"] for row in about["properties"]}
    assert (
        said["onmodel:claim:modelspec.author"] == "another" and said["onmodel:origin"] == "unknown"
    )
    assert "authors" not in about and "licenses" not in about


def test_a_json_of_another_tool_is_not_taken_for_a_history(tmp_path: Path) -> None:
    (tmp_path / LINEAGE).write_text(json.dumps({"nodes": [1, 2]}))
    with pytest.raises(VerifyError):
        read_provenance(tmp_path)
