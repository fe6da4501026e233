"""The key of a stage: another file makes another stage, the same file in another place does not."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from onmodel.hashing import canonical_json
from onmodel.stages import VERBS, curate, evaluate, import_lora, release
from onmodel.stages.base import StageSettings
from tests.support.onnx_files import (
    write_classifier,
    write_detector,
    write_embedding,
    write_identity,
    write_tagger,
)

AESTHETIC = ("worst", "low", "normal", "good", "great", "best", "masterpiece")


def tagger(folder: Path) -> None:
    write_tagger(folder, [("smile", 0), ("hat", 0)], np.eye(2, 3))


def detector(folder: Path) -> None:
    write_detector(folder, {0: "head"}, np.zeros((1, 4)), np.ones((1, 1)))


def corruption(folder: Path) -> None:
    write_classifier(folder, ["normal", "corrupted"], np.eye(2, 3))


def aesthetic(folder: Path) -> None:
    write_classifier(folder, AESTHETIC, np.ones((7, 3)))


def with_external_data(folder: Path) -> None:
    """An embedding whose numbers lie in a file of their own."""
    write_embedding(folder)
    model = onnx.load(folder / "model.onnx")
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    (folder / "model.onnx").unlink()
    onnx.save(model, folder / "model.onnx")


def identity(folder: Path) -> None:
    write_identity(folder, np.eye(3))


def picture(folder: Path) -> None:
    folder.mkdir()
    (folder / "a.png").write_bytes(b"one")
    (folder / "a.txt").write_text("smile")


def file(folder: Path) -> None:
    folder.mkdir()
    (folder / "one.bin").write_bytes(b"one")


def observer(name: str) -> Callable[[Path], StageSettings]:
    return lambda folder: evaluate.Settings(do="evaluate", models=["a"], **{name: folder})


def curated(folder: Path) -> StageSettings:
    return curate.Settings(do="curate", subsets={"a": [{"folder": folder}]})


def imported(folder: Path) -> StageSettings:
    return import_lora.Settings(do="import", file=folder / "one.bin")


def released(folder: Path) -> StageSettings:
    return release.Settings(
        do="release",
        model="a",
        evaluation="b",
        title="t",
        file_name="t",
        license_file=folder / "one.bin",
    )


READ = [
    (tagger, observer("tagger"), "model.onnx"),
    (tagger, observer("tagger"), "selected_tags.csv"),
    (identity, observer("identity"), "model_feat.onnx"),
    (identity, observer("identity"), "model_metrics.onnx"),
    (detector, observer("detectors"), "model.onnx"),
    (corruption, observer("corruption"), "meta.json"),
    (aesthetic, observer("aesthetic"), "meta.json"),
    (with_external_data, observer("copy_embedding"), "weights.bin"),
    (with_external_data, observer("style_embedding"), "preprocessor_config.json"),
    (picture, curated, "a.png"),
    (picture, curated, "a.txt"),
    (file, imported, "one.bin"),
    (file, released, "one.bin"),
]


@pytest.mark.parametrize(("write", "settings", "name"), READ)
def test_a_replaced_file_makes_another_stage_and_a_moved_one_does_not(
    write: Callable[[Path], None],
    settings: Callable[[Path], StageSettings],
    name: str,
    tmp_path: Path,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    write(here)
    key = settings(here).keyed()
    shutil.copytree(here, there)
    assert settings(there).keyed() == key and settings(here).keyed() == key
    assert str(tmp_path) not in canonical_json(key).decode(), "no path of the machine in a key"
    data = (here / name).read_bytes()
    (here / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert settings(here).keyed() != key


def test_no_path_of_any_stage_gets_into_its_key(tmp_path: Path) -> None:
    """Also of a setting that is new: what `contents` leaves out would be keyed by its path."""
    import importlib

    def paths(value: Any) -> bool:
        return "Path" in str(value)

    for verb, module in VERBS.items():
        kind = importlib.import_module(module).Settings
        named = [name for name, field in kind.model_fields.items() if paths(field.annotation)]
        values = {
            name: (tmp_path,) if "tuple" in str(kind.model_fields[name].annotation) else tmp_path
            for name in named
        }
        if verb == "curate":
            # its files are those of other trainers, and are read: tests/stages/test_curate.py
            continue
        told = kind.model_construct(do=verb, **values).keyed()
        assert str(tmp_path) not in str(told), verb
