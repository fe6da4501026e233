"""A whole release on the tiny base: what is in it, that it is the same everywhere, that every byte
is vouched for."""

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from onmodel.errors import InputError, OnmodelError, StateError, VerifyError
from onmodel.families.registry import load_base, outline
from onmodel.hashing import read_json, sha256_file
from onmodel.ledger.lineage import root
from onmodel.lora import header
from onmodel.lora.tensors import Factors, Lora, read_lora, write_lora
from onmodel.randomness import generator
from onmodel.records import Artifact
from onmodel.release.check import check
from onmodel.release.compatibility import load_in_diffusers, self_test, write_configs
from onmodel.release.verify import verify
from onmodel.stages.base import read_models
from onmodel.weights import payload_sha256, read_metadata
from tests.support.built_release import NAME, build

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, tiny_anima: Path) -> Artifact:
    return build(tmp_path_factory.mktemp("work"), tiny_anima)


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(artifact.path / NAME, tmp_path / NAME))


def test_everything_that_belongs_is_there(artifact: Artifact) -> None:
    folder = artifact.path / NAME
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        f"{NAME}.safetensors",
        f"{NAME}.json",
        f"{NAME}.civitai.info",
        f"{NAME}.preview.png",
        "README.md",
        "LICENSE.md",
        "lineage.json",
        "triggers.json",
        "checksums.txt",
        "evaluation/evaluation.json",
        "evaluation/table.csv",
        "evaluation/changes.csv",
        "images/outfit-default.png",
        "images/outfit-beach.png",
        "images/framing-full-body.png",
        "images/expression-smile.png",
    }
    assert read_models(artifact)[0].name == NAME
    assert check(folder) == []  # the card's numbers too
    rows = list(csv.DictReader((folder / "evaluation" / "table.csv").open(encoding="utf-8")))
    axes = {row["axis"] for row in rows}
    assert {"reproduction", "style", "colour_cast"} <= axes and len(rows) == 6 * len(axes)


def test_the_released_tensors_are_the_measured_ones(artifact: Artifact) -> None:
    file = artifact.path / NAME / f"{NAME}.safetensors"
    source = artifact.path.parents[1] / "final" / "epoch-0015.safetensors"
    assert payload_sha256(file) == payload_sha256(source)
    words = read_metadata(file)
    payload = payload_sha256(file)
    assert words["sshs_model_hash"] == payload and words["modelspec.hash_sha256"] == f"0x{payload}"
    assert words["modelspec.title"] == "BACKGWA Release 2" and words["modelspec.license"] == "mit"
    assert (
        words["ss_network_alpha"] == "2"
        and words["ss_epoch"] == "15"
        and words["ss_output_name"] == NAME
    )
    assert words["modelspec.thumbnail"].startswith("data:image/jpeg;base64,")
    (info,) = read_json(artifact.path / NAME / f"{NAME}.civitai.info")["files"]
    assert (
        info["hashes"]["SHA256"] == sha256_file(file).upper()
        and info["hashes"]["AutoV3"] == payload[:12].upper()
    )
    past = json.loads(words[header.RECIPE_KEY])
    assert past[root(past)]["type"] == "weights" and past[root(past)]["payload_sha256"] == payload
    assert sum(map(len, words.values())) < 64 * 1024


@pytest.mark.parametrize(
    ("text", "partial"),
    [
        (["text_conditioner"], "Forge Neo loads"),
        (["text_conditioner", "text_encoder"], "diffusers and Forge Neo load"),
    ],
)
def test_layers_that_encode_text_are_released_and_the_card_says_who_loads_them(
    tmp_path: Path, tiny_anima: Path, text: list[str], partial: str
) -> None:
    folder = build(tmp_path, tiny_anima, text=text).path / NAME
    file = folder / f"{NAME}.safetensors"
    assert payload_sha256(file) == payload_sha256(tmp_path / "final" / "epoch-0015.safetensors")
    assert f"how prompts are encoded. {partial} only" in (folder / "README.md").read_text()
    warned = ["warn"] if "text_encoder" in text else []
    assert [finding.status for finding in check(folder)] == warned
    report = load_in_diffusers(file, "anima", tiny_anima)
    layers = len(read_lora(file, load_base({"folder": tiny_anima}).spec).modules)
    assert report.layers == layers - (7 if "text_encoder" in text else 0) == 32


def test_a_card_of_the_transformer_alone_says_nothing_of_text(folder: Path) -> None:
    assert "how prompts are encoded" not in (folder / "README.md").read_text()


def test_samples_can_be_pasted_back(artifact: Artifact) -> None:
    folder = artifact.path / NAME
    payload = payload_sha256(folder / f"{NAME}.safetensors")
    with Image.open(folder / "images" / "outfit-default.png") as image:
        text = image.text["parameters"]  # type: ignore[attr-defined]
        assert image.size == (32, 32)
    assert text.startswith(
        "masterpiece, best quality, 1girl, backgwa, blue jacket, white shirt"
        f" <lora:{NAME}:1>\nNegative prompt: "
    )
    assert f'Lora hashes: "{NAME}: {payload[:12]}"' in text
    assert (folder / f"{NAME}.preview.png").read_bytes() == (
        folder / "images" / "outfit-default.png"
    ).read_bytes()
    assert len({sha256_file(path) for path in (folder / "images").iterdir()}) == 4


def test_200_flipped_bytes_are_all_found_in_the_right_file(folder: Path) -> None:
    """Every file at least once; flips in the history may be named by their node."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    draw = generator(3, "flips")
    chosen = [
        *files,
        *(
            files[i]
            for i in draw.choice(
                len(files), 200 - len(files), p=[size / sum(sizes) for size in sizes]
            )
        ),
    ]
    wrong = []
    for path in chosen:
        with path.open("r+b") as file:
            place = int(draw.integers(path.stat().st_size))
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ int(draw.integers(1, 256))]))
            file.flush()
            name = path.relative_to(folder).as_posix()
            try:
                verify(folder)
                wrong.append(f"{name} at {place}: not found")
            except VerifyError as error:
                if error.node.partition(",")[0] != name:
                    wrong.append(f"{name} at {place}: called {error.node}")
            file.seek(place)
            file.write(bytes([byte]))
    assert wrong == []
    assert len(verify(folder)) == 8


def test_the_same_bytes_in_another_place_zone_locale_and_hash_seed(
    artifact: Artifact, tmp_path: Path, tiny_anima: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; import tests.support.built_release as t,"
        " onmodel.stages.release as r;r.self_test = lambda *a: None;"
        " print(t.build(Path(sys.argv[1]), Path(sys.argv[2])).path)"
    )
    elsewhere = tmp_path / "ein anderer Ort"
    elsewhere.mkdir()
    environment = os.environ | {
        "TZ": "Pacific/Chatham",
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONHASHSEED": "99",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(elsewhere), str(tiny_anima)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    other = Path(done.stdout.splitlines()[-1]) / NAME
    here = artifact.path / NAME
    names = {
        path.relative_to(here).as_posix(): sha256_file(path)
        for path in here.rglob("*")
        if path.is_file()
    }
    assert names == {
        path.relative_to(other).as_posix(): sha256_file(path)
        for path in other.rglob("*")
        if path.is_file()
    }


def test_nothing_tells_of_the_machine_or_shows_a_picture_that_was_trained_on(
    artifact: Artifact,
) -> None:
    folder = artifact.path / NAME
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for word in (str(artifact.path.parents[1]), str(ROOT), f"{Path.home()}/"):
                assert word.encode() not in data, f"{word} in {path.name}"
    statement = read_json(folder / "lineage.json")
    datasets = [
        node for node in statement["predicate"]["entity"].values() if node["type"] == "dataset"
    ]
    assert datasets
    assert all(set(node) == {"type", "used", "root", "subsets", "origins"} for node in datasets)


def test_checksums_are_those_of_sha256sum(artifact: Artifact) -> None:
    folder = artifact.path / NAME
    for line in (folder / "checksums.txt").read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"previous": "release_9"}, "names 0 models"),
        ({"file_name": "../x"}, "file_name"),
        ({"title": "explicit shota"}, "refused"),
    ],
)
def test_what_stops_a_release(
    changed: dict[str, Any], said: str, tmp_path: Path, tiny_anima: Path
) -> None:
    with pytest.raises(ValueError if "file_name" in changed else InputError, match=said):
        build(tmp_path, tiny_anima, **changed)


@pytest.mark.parametrize("damage", ["final/epoch-0015.safetensors", "confirmed/evaluation.json"])
def test_nothing_is_released_from_an_object_that_was_damaged(
    damage: str, tmp_path: Path, tiny_anima: Path
) -> None:
    with pytest.raises(StateError, match="is damaged: it was changed since it was made"):
        build(tmp_path, tiny_anima, damage)


def test_a_file_that_diffusers_does_not_load_is_found_by_the_self_test(
    tmp_path: Path, tiny_anima: Path
) -> None:
    family = load_base({"family": "anima", "folder": tiny_anima, "device": "cpu"})
    linear = family.spec.targets("attention_mlp")[0]
    one = Lora(
        {
            linear.name: Factors(
                torch.ones(2, linear.in_features), torch.ones(linear.out_features, 2), 2.0
            )
        }
    )
    write_lora(tmp_path / "good.safetensors", one, {})
    assert read_lora(tmp_path / "good.safetensors", family.spec).modules
    write_configs(family.configs, tmp_path)
    report = load_in_diffusers(tmp_path / "good.safetensors", "anima", tmp_path)
    assert (report.keys, report.consumed) == (2, 2) and report.error < 1e-6
    write_lora(tmp_path / "kohya.safetensors", one, {}, "kohya")
    with pytest.raises(ValueError, match="no adapter was loaded"):  # diffusers itself says nothing
        load_in_diffusers(tmp_path / "kohya.safetensors", "anima", tmp_path)
    half = Lora({**one.modules, "blocks.0.nowhere": one.modules[linear.name]})
    write_lora(tmp_path / "half.safetensors", half, {})
    with pytest.raises(ValueError, match="2 of 4"):
        load_in_diffusers(tmp_path / "half.safetensors", "anima", tmp_path)


def test_a_failed_self_test_stops_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *a, **k: subprocess.CompletedProcess(
            a, 1, "", "…\nValueError: no adapter was loaded\n"
        ),
    )
    with pytest.raises(OnmodelError, match=r"x\.safetensors: diffusers does not load .*no adapter"):
        self_test(tmp_path / "x.safetensors", outline("toon").spec, {}, tmp_path)
