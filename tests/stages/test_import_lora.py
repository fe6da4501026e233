"""Files that others made, brought into a recipe: the same ΔW, their words as claims, nothing
invented."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.anima.family import Anima
from onmodel.hashing import read_json, sha256_file
from onmodel.ledger.lineage import add, root
from onmodel.lora import header
from onmodel.lora.convert import convert
from onmodel.lora.tensors import Factors, Lora, read_lora, write_lora
from onmodel.randomness import normal
from onmodel.records import Artifact, Model
from onmodel.sample.pictures import PictureRequest, render
from onmodel.sample.sampling import Sampling
from onmodel.stages import import_lora, merge
from onmodel.stages.base import Inputs, read_models
from tests.support.contexts import context
from tests.support.lora_files import write_checkpoint
from tests.support.merge_inputs import SPEC, lora

WORDS = {
    "ss_output_name": "theirs",
    "ss_network_alpha": "2",
    "modelspec.author": "another",
    "ss_seed": "5",
}


def bring(work: Path, file: Path, name: str = "theirs") -> Artifact:
    settings = import_lora.Settings(do="import", file=file)
    return import_lora.run(
        Inputs({}), settings, context(work, lambda: SimpleNamespace(spec=SPEC), name)
    )


def theirs(path: Path, one: Lora, words: dict[str, str], layout: str = "kohya") -> Path:
    write_lora(path, one, words, layout)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("layout", ["kohya", "common"])
def test_a_strangers_file_keeps_its_change_and_its_claims(layout: str, tmp_path: Path) -> None:
    file = theirs(tmp_path / "x.safetensors", lora(1), WORDS, layout)
    artifact = bring(tmp_path / "work", file)
    read = read_lora(artifact.path / "imported.safetensors", SPEC)
    for name, factors in lora(1).modules.items():
        torch.testing.assert_close(
            read.modules[name].delta(), factors.delta(), rtol=1e-6, atol=1e-7
        )
    lineage = read_json(artifact.path / "lineage.json")
    node = lineage[root(lineage)]
    assert len(lineage) == 1 and node["origin"] == "unknown" and node["sha256"] == sha256_file(file)
    assert node["claims"]["modelspec.author"] == "another" and node["claims"]["ss_seed"] == "5"
    assert header.lineage_of(read.metadata, "") == lineage, (
        "the converted file carries the history of the first"
    )
    assert read.trained_alpha == 2


def test_a_file_of_another_project_keeps_its_history_below_a_node_that_says_so(
    tmp_path: Path,
) -> None:
    past = add([add([], "dataset", root="d" * 64, subsets={})], "checkpoint", epoch=3)
    facts = header.Facts("Hers", "another", "MIT", "hers", SPEC.architecture, 96, "2025-01-01")
    file = theirs(tmp_path / "x.safetensors", lora(1), header.build(facts, past), "common")
    first = bring(tmp_path / "work", file)
    lineage = read_json(first.path / "lineage.json")
    assert lineage[root(lineage)]["origin"] == "onmodel" and set(past) < set(lineage)
    second = bring(tmp_path / "more", theirs(tmp_path / "y.safetensors", lora(2), {}), "stranger")
    settings = merge.Settings(do="merge", models=["theirs", "stranger"])
    made = merge.run(
        Inputs({"theirs": first, "stranger": second}),
        settings,
        context(tmp_path / "merge", lambda: SimpleNamespace(spec=SPEC), "merged"),
    )
    history = read_json(made.path / "lineage.json")
    assert sorted(node["origin"] for node in history.values() if node["type"] == "model") == [
        "onmodel",
        "unknown",
    ]
    assert set(lineage) < set(history)


def test_what_is_no_lora_or_says_what_is_refused_stops(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        bring(tmp_path / "a", tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a file of tensors")
    with pytest.raises(InputError, match="no complete safetensors"):
        bring(tmp_path / "b", tmp_path / "bad.safetensors")
    whole = write_checkpoint(tmp_path / "whole.safetensors")
    with pytest.raises(InputError, match="is a whole model; `onmodel lora extract"):
        bring(tmp_path / "d", whole)
    refused = theirs(tmp_path / "x.safetensors", lora(1), {"modelspec.title": "explicit shota"})
    with pytest.raises(InputError, match="refused"):
        bring(tmp_path / "c", refused)


def test_another_file_under_the_same_name_is_another_stage(tmp_path: Path) -> None:
    file = theirs(tmp_path / "x.safetensors", lora(1), WORDS)
    before = import_lora.Settings(do="import", file=file).keyed()
    theirs(file, lora(2), WORDS)
    assert import_lora.Settings(do="import", file=file).keyed() != before
    assert import_lora.Settings(do="import", file=file).told() == {
        "do": "import",
        "file": "x.safetensors",
    }


def test_a_file_that_is_not_there_is_told_with_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    (missing,) = import_lora.estimate(import_lora.Settings(do="import", file=file), {}).missing
    assert "no such file" in str(missing)
    theirs(file, lora(1), WORDS)
    assert not import_lora.estimate(import_lora.Settings(do="import", file=file), {}).missing


def test_one_lora_in_every_layout_draws_the_same_pictures(
    tiny_family: Anima, tmp_path: Path
) -> None:
    modules = {}
    for linear in tiny_family.spec.targets("attention_mlp"):
        down = torch.from_numpy(normal((3, linear.in_features), 1, linear.name))
        up = torch.from_numpy(normal((linear.out_features, 3), 2, linear.name)) * 0.1
        modules[linear.name] = Factors(down, up, 1.5)
    files = {"kohya": theirs(tmp_path / "kohya.safetensors", Lora(modules), WORDS)}
    for layout in ("common", "diffusers"):
        files[layout] = tmp_path / f"{layout}.safetensors"
        convert(files["kohya"], files[layout], layout)  # type: ignore[arg-type]

    def drawn(model: Model | None) -> np.ndarray:
        wanted = [PictureRequest("1girl, smile", "bad", 3, model)]
        sampling = Sampling(steps=2, guidance=2.0, width=32, height=32)
        with Events().task("pictures", total=1) as task:
            (path,) = render(
                lambda: tiny_family, "b" * 64, wanted, sampling, tmp_path / "pictures", task
            )
        with Image.open(path) as picture:
            return np.asarray(picture, dtype=int)

    pictures = {}
    for layout, file in files.items():
        settings = import_lora.Settings(do="import", file=file)
        artifact = import_lora.run(
            Inputs({}), settings, context(tmp_path / "work", lambda: tiny_family, layout)
        )
        (model,) = read_models(artifact)
        pictures[layout] = drawn(model)
    assert abs(pictures["kohya"] - drawn(None)).max() > 8
    for picture in pictures.values():
        assert abs(picture - pictures["kohya"]).max() <= 1
