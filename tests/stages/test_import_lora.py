"""Files that others made, brought into a recipe: the same ΔW, their words as claims, nothing invented."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from onmodel.errors import InputError
from onmodel.hashing import read_json, sha256_file
from onmodel.ledger.lineage import add, root
from onmodel.models import header
from onmodel.models.lora import Lora, read_lora, write_lora
from onmodel.records import Artifact
from onmodel.stages import import_lora, merge
from onmodel.stages.base import Inputs
from tests.stages.made_up_stage import context
from tests.stages.test_merge import SPEC, lora

WORDS = {"ss_output_name": "theirs", "ss_network_alpha": "2", "modelspec.author": "another", "ss_seed": "5"}


def bring(work: Path, file: Path, name: str = "theirs") -> Artifact:
    settings = import_lora.Settings(do="import", file=file)
    return import_lora.run(Inputs({}), settings, context(work, lambda: SimpleNamespace(spec=SPEC), name))


def theirs(path: Path, one: Lora, words: dict[str, str], layout: str = "kohya") -> Path:
    write_lora(path, one, words, layout)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("layout", ["kohya", "common"])
def test_a_strangers_file_keeps_its_change_and_its_claims(layout: str, tmp_path: Path) -> None:
    file = theirs(tmp_path / "x.safetensors", lora(1), WORDS, layout)
    artifact = bring(tmp_path / "work", file)
    read = read_lora(artifact.path / "imported.safetensors", SPEC)
    for name, factors in lora(1).modules.items():
        torch.testing.assert_close(read.modules[name].delta(), factors.delta(), rtol=1e-6, atol=1e-7)
    lineage = read_json(artifact.path / "lineage.json")
    node = lineage[root(lineage)]
    assert len(lineage) == 1 and node["origin"] == "unknown" and node["sha256"] == sha256_file(file)
    assert node["claims"]["modelspec.author"] == "another" and node["claims"]["ss_seed"] == "5"
    assert header.lineage_of(read, "") == lineage, "the converted file carries the history of the first"
    assert read.trained_alpha == 2


def test_a_file_of_another_project_keeps_its_history_below_a_node_that_says_so(tmp_path: Path) -> None:
    past = add([add([], "dataset", root="d" * 64, subsets={})], "checkpoint", epoch=3)
    facts = header.Facts("Hers", "another", "MIT", "hers", SPEC.architecture, 96, "2025-01-01")
    file = theirs(tmp_path / "x.safetensors", lora(1), header.build(facts, past), "common")
    first = bring(tmp_path / "work", file)
    lineage = read_json(first.path / "lineage.json")
    assert lineage[root(lineage)]["origin"] == "onmodel" and set(past) < set(lineage)
    second = bring(tmp_path / "more", theirs(tmp_path / "y.safetensors", lora(2), {}), "stranger")
    settings = merge.Settings(do="merge", models=["theirs", "stranger"])
    made = merge.run(
        Inputs({"theirs": first, "stranger": second}), settings,
        context(tmp_path / "merge", lambda: SimpleNamespace(spec=SPEC), "merged"),
    )  # fmt: skip
    history = read_json(made.path / "lineage.json")
    assert sorted(node["origin"] for node in history.values() if node["type"] == "model") == ["onmodel", "unknown"]
    assert set(lineage) < set(history)


def test_what_is_no_lora_or_says_what_is_refused_stops(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        bring(tmp_path / "a", tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(InputError, match="no complete safetensors"):
        bring(tmp_path / "b", tmp_path / "bad.safetensors")
    refused = theirs(tmp_path / "x.safetensors", lora(1), {"modelspec.title": "explicit shota"})
    with pytest.raises(InputError, match="refused"):
        bring(tmp_path / "c", refused)


def test_another_file_under_the_same_name_is_another_stage(tmp_path: Path) -> None:
    file = theirs(tmp_path / "x.safetensors", lora(1), WORDS)
    before = import_lora.Settings(do="import", file=file).model_dump(mode="json")
    theirs(file, lora(2), WORDS)
    assert import_lora.Settings(do="import", file=file).model_dump(mode="json") != before
    assert import_lora.Settings(do="import", file=file).told() == {"do": "import", "file": "x.safetensors"}
