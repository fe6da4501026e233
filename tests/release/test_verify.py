"""Every byte of a release is vouched for: flip any, remove or add a file, and the right thing is
named."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from onmodel.errors import InputError, VerifyError
from onmodel.evaluate.evaluation import FILE, write_evaluation
from onmodel.hashing import canonical_json, sha256_bytes
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.lora import header
from onmodel.randomness import generator
from onmodel.release.folder import CHECKSUMS, LINEAGE, Statement, bind, checksums, hashes
from onmodel.release.verify import verify
from onmodel.weights import write_weights
from tests.support.command_line import imported
from tests.support.evaluations import evaluation

FACTS = header.Facts("Backgwa", "someone", "MIT", "backgwa", "anima-base-v1.0", 96, "2026-11-22")


def history() -> Lineage:
    dataset = add([], "dataset", root="d" * 64, subsets={"base": 40})
    run = add([dataset], "run", epochs=40, learning_rate=1e-5)
    return add([run], "checkpoint", epoch=30)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder of the right shape, small files."""
    folder = tmp_path / "release"
    weights = add([history()], "weights", title="Backgwa")
    tensor = torch.from_numpy(generator(1, "test").standard_normal((4, 8), dtype=np.float32))
    write_weights(
        folder / "backgwa.safetensors", {"a": tensor, "b": tensor * 2}, header.build(FACTS, weights)
    )
    (folder / "README.md").write_text("# Backgwa\n\nWörter, 日本語.\n", encoding="utf-8")
    (folder / "images").mkdir()
    (folder / "images" / "one.png").write_bytes(bytes(range(256)))
    write_evaluation(folder / "evaluation" / FILE, evaluation([]))
    lineage = add([weights, add([history()], "evaluation", n=24)], "release", name="backgwa")
    bind(folder, lineage, {"backgwa.safetensors": root(weights)})
    return folder


def test_a_sound_release_tells_what_was_checked(release: Path) -> None:
    said = verify(release)
    assert any("5 files" in line for line in said)
    assert any("6 nodes" in line for line in said)
    assert any("backgwa.safetensors: tensors" in line for line in said)
    assert verify(release / "backgwa.safetensors")


def test_the_statement_is_in_toto_in_canonical_form(release: Path) -> None:
    data = (release / LINEAGE).read_bytes()
    table = json.loads(data)
    assert data == canonical_json(table)
    assert table["_type"] == "https://in-toto.io/Statement/v1"
    assert {row["name"] for row in table["subject"]} == {
        path for path in hashes(release) if path != LINEAGE
    }
    predicate = table["predicate"]
    assert {node["type"] for node in predicate["activity"].values()} == {"run"}
    (run,), lineage = predicate["activity"], {**predicate["entity"], **predicate["activity"]}
    (data,) = (id for id, node in lineage.items() if node["type"] == "dataset")
    (checkpoint,) = (id for id, node in lineage.items() if node["type"] == "checkpoint")
    assert predicate["used"] == [{"activity": run, "entity": data}]
    assert predicate["wasGeneratedBy"] == [{"activity": run, "entity": checkpoint}]
    assert len(predicate["wasDerivedFrom"]) == 4
    (file,) = predicate["specializationOf"]
    assert (
        file["specificEntity"] == "backgwa.safetensors"
        and lineage[file["generalEntity"]]["type"] == "weights"
    )
    said = (release / CHECKSUMS).read_text().splitlines()
    assert len(said) == 5
    assert said == sorted(said, key=lambda line: line.split("  ")[1])


def test_200_random_bytes_are_all_found_and_named(release: Path, tmp_path: Path) -> None:
    """At least 40 in each of the two binding files, the rest anywhere."""
    files = sorted(path for path in release.rglob("*") if path.is_file())
    draw = generator(7, "flips")
    chosen = (
        [release / LINEAGE] * 40
        + [release / CHECKSUMS] * 40
        + [files[draw.integers(len(files))] for _ in range(120)]
    )
    wrong = []
    for path in chosen:
        original = path.read_bytes()
        place = int(draw.integers(len(original)))
        path.write_bytes(
            original[:place]
            + bytes([original[place] ^ int(draw.integers(1, 256))])
            + original[place + 1 :]
        )
        name = path.relative_to(release).as_posix()
        try:
            verify(release)
            wrong.append(f"{name} at {place}: not found")
        except VerifyError as error:
            if error.node.partition(",")[0] != name:
                wrong.append(f"{name} at {place}: called {error.node}")
        path.write_bytes(original)
    assert wrong == []
    assert verify(release)


def test_a_flip_inside_the_history_names_the_node_that_it_hit(release: Path) -> None:
    """Every byte of every node, and of the statement around them, one after the other."""
    path = release / LINEAGE
    original = path.read_bytes()
    nodes = list(re.finditer(rb'"([0-9a-f]{64})":\{', original))
    wrong, hit = [], set()
    for place in range(0, len(original), 3):
        path.write_bytes(original[:place] + bytes([original[place] ^ 0x11]) + original[place + 1 :])
        with pytest.raises(VerifyError) as caught:
            verify(release)
        name, _, node = caught.value.node.partition(", ")
        inside = [m for m in nodes if m.end() - 1 <= place < _end_of_node(original, m)]
        expected = inside[0][1].decode()[:12] if inside else ""
        hit.add(expected)
        if (
            name != LINEAGE
            or (inside and node.split(" ")[-1] != expected)
            or (not inside and node and not _in_id(nodes, place))
        ):
            wrong.append(f"at {place}: called {caught.value.node}, not {expected or LINEAGE}")
    assert wrong == []
    assert len(hit) == len(nodes) + 1
    path.write_bytes(original)
    assert verify(release)


def _end_of_node(data: bytes, node: "re.Match[bytes]") -> int:
    """Where a node's canonical text ends: it is what hashes to its id."""
    text = data[node.end() - 1 :]
    return (
        node.end()
        - 1
        + next(n for n in range(2, len(text) + 1) if sha256_bytes(text[:n]) == node[1].decode())
    )


def _in_id(nodes: "list[re.Match[bytes]]", place: int) -> bool:
    """A flip in an id itself makes another id, whose content then does not match; or no id at
    all."""
    return any(node.start() <= place < node.end() for node in nodes)


def test_a_flip_in_the_header_of_the_weights_names_the_weights(release: Path) -> None:
    path = release / "backgwa.safetensors"
    original = path.read_bytes()
    header_size = 8 + int.from_bytes(original[:8], "little")
    for place in range(0, header_size, 97):
        path.write_bytes(original[:place] + bytes([original[place] ^ 1]) + original[place + 1 :])
        with pytest.raises(VerifyError) as caught:
            verify(release)
        assert caught.value.node == "backgwa.safetensors", place
    path.write_bytes(original)
    assert verify(release)


def test_missing_added_renamed_and_linked_files_are_named(release: Path) -> None:
    def named(change: object) -> str:
        with pytest.raises(VerifyError) as caught:
            verify(release)
        return caught.value.node

    card, picture = release / "README.md", release / "images" / "one.png"
    text = card.read_bytes()
    card.unlink()
    assert named("missing") == "README.md"
    card.write_bytes(text)
    (release / "images" / "two.png").write_bytes(b"x")
    assert named("added") == "images/two.png"
    (release / "images" / "two.png").unlink()
    picture.rename(release / "images" / "zwei.png")
    assert named("renamed") == "images/one.png"
    (release / "images" / "zwei.png").rename(picture)
    (release / "more.md").symlink_to(card)
    assert named("linked") == "more.md"
    (release / "more.md").unlink()
    for name in (LINEAGE, CHECKSUMS):
        kept = (release / name).read_bytes()
        (release / name).unlink()
        assert named("missing") == name
        (release / name).write_bytes(kept)
    assert verify(release)


def test_weights_of_another_release_are_not_accepted(release: Path) -> None:
    """Bound anew with a header whose history the folder does not have."""
    stranger = add([add([], "checkpoint", epoch=99)], "weights")
    write_weights(
        release / "backgwa.safetensors", {"a": torch.ones(2)}, header.build(FACTS, stranger)
    )
    statement = Statement.from_bytes((release / LINEAGE).read_bytes())
    shutil.rmtree(release / "images")
    bind(release, statement.lineage, {})
    with pytest.raises(VerifyError, match="in the header"):
        verify(release)


def test_one_file_alone_is_checked_by_its_header(release: Path, tmp_path: Path) -> None:
    file = release / "backgwa.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(VerifyError, match="tensors"):
        verify(file)
    file.write_bytes(data.replace(b'\\"epoch\\":30', b'\\"epoch\\":31'))
    with pytest.raises(VerifyError) as caught:
        verify(file)
    assert "checkpoint" in str(caught.value)
    with pytest.raises(InputError):
        verify(tmp_path / "nothing.safetensors")


def test_checksums_are_what_sha256sum_reads() -> None:
    assert checksums({"b": "2" * 64, "a": "1" * 64}) == f"{'1' * 64}  a\n{'2' * 64}  b\n".encode()


@pytest.mark.parametrize("command", ["verify", "lineage"])
def test_a_release_is_read_without_torch(built: Path, command: str) -> None:
    modules = imported("release", command, built)
    assert not {"torch", "diffusers", "transformers", "peft"} & modules
    assert "onmodel.release.verify" in modules
