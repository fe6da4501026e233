"""doctor says what will not work, in one line each, and dry runs work before anything is there."""

import json
import shutil
from importlib import metadata
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from onmodel.cli.main import app
from onmodel.devices import has_bfloat16
from onmodel.doctor import environment
from onmodel.doctor.dataset import dataset_findings
from onmodel.families.registry import outline
from onmodel.lora.tensors import Factors, Lora, write_lora
from onmodel.stages.curate import Settings as Curate

ROOT = Path(__file__).parent.parent


def findings(*words: object) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit code, and the findings by what they are about."""
    result = CliRunner().invoke(app, ["doctor", "--json", *map(str, words)])
    rows: dict[str, list[dict[str, str]]] = {}
    for row in json.loads(result.stdout[result.stdout.index("[") :]):
        rows.setdefault(row["about"], []).append(row)
    return result.exit_code, rows


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.effect_noise((64, 64), 40 + i).convert("RGB").save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("1girl, smile" + ", 猫" * (i == 1))
    (folder / "torn.png").write_bytes((folder / "0.png").read_bytes()[:200])
    (folder / "torn.txt").write_text("1girl")
    return folder


def test_a_whole_installation_base_and_data_set_pass(pictures: Path) -> None:
    code, rows = findings("--base", "toon", "--dataset", pictures)
    assert code == 0
    assert {"python", "card", "processor", "memory", "disk"} <= set(rows)
    assert (
        "blocks" in rows["base transformer"][0]["text"]
        and rows["base transformer"][0]["status"] == "ok"
    )
    (looked_at,) = (found for about, found in rows.items() if about.startswith("data set"))
    said = [(row["status"], row["text"]) for row in looked_at]
    assert ("ok", "3 pictures: pictures 3") in said
    assert any(status == "warn" and text.startswith("torn.png: ") for status, text in said)
    assert ("warn", "1 captions hold letters that T5 does not know") in said
    assert ("warn", "3 pictures are smaller than 1024×1024") in said


def test_data_sets_of_other_trainers_are_read_with_what_they_say(
    pictures: Path, tmp_path: Path
) -> None:
    """sd-scripts' file with its own resolution, and its folders without any file."""
    (tmp_path / "own.toml").write_text(
        "[[datasets]]\nresolution = 96\nbatch_size = 2\n[[datasets.subsets]]\nimage_dir ="
        ' "pictures"\nnum_repeats = 3\ncaption_extension = ".txt"\n'
    )
    (tmp_path / "folders").mkdir()
    shutil.copytree(pictures, tmp_path / "folders" / "10_girl")
    code, rows = findings("--dataset", tmp_path / "own.toml", "--dataset", tmp_path / "folders")
    assert code == 0
    file, folders = (
        [row["text"] for row in found]
        for about, found in rows.items()
        if about.startswith("data set")
    )
    assert "3 pictures: pictures 3" in file and "3 pictures are smaller than 96×96" in file
    assert any(text.startswith("batch_size has no effect") for text in file)
    assert "3 pictures: girl 3" in folders and "3 pictures are smaller than 1024×1024" in folders
    (tmp_path / "own.toml").write_text("[[datasets]]\nrandom_crop = true\n")
    code, rows = findings("--dataset", tmp_path / "own.toml")
    assert code == 1 and any(
        "random_crop" in row["text"] for found in rows.values() for row in found
    )


def test_a_broken_base_fails_part_by_part(tiny_anima: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_anima, tmp_path / "base")
    weights = base / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    shutil.rmtree(base / "t5_tokenizer")
    code, rows = findings("--base", base)
    assert code == 1
    assert {about for about, found in rows.items() if found[0]["status"] == "fail"} == {
        "base vae",
        "base t5_tokenizer",
    }
    assert "get it again" in rows["base vae"][0]["remedy"]


def test_single_files_are_named_as_in_a_recipe(tmp_path: Path) -> None:
    save_file(
        {"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)}, tmp_path / "flux.safetensors"
    )
    code, rows = findings("--base", f"dit={tmp_path / 'flux.safetensors'}")
    assert code == 1
    assert rows["base transformer"][0]["remedy"].startswith(
        "is a Flux checkpoint, not an Anima transformer"
    )
    assert rows["base vae"][0]["text"] == "base.vae: missing"
    code, rows = findings("--base", "dit=x", "--base", "toon")
    assert code == 1 and "write each as field=path" in rows["base"][0]["remedy"]
    code, rows = findings("--base", "dtype=float16")
    assert code == 1 and "overflows in float16" in rows["base"][0]["remedy"]


def test_a_hub_id_that_is_not_downloaded_yet_is_told_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    code, rows = findings("--base", "someone/anima")
    assert code == 0 and not any(about.startswith("base") for about in rows if about != "base hub")
    assert [(row["status"], row["text"]) for row in rows["base hub"]] == [("warn", "someone/anima")]


def test_a_lora_is_held_against_its_base(tmp_path: Path) -> None:
    spec = outline("toon").spec
    modules = {
        row.name: Factors(torch.ones(2, row.in_features), torch.zeros(row.out_features, 2), 2.0)
        for row in spec.targets("attention_mlp")
    }
    write_lora(
        tmp_path / "zero.safetensors", Lora(modules), {"modelspec.architecture": "flux-1-dev/lora"}
    )
    code, rows = findings("--base", "toon", "--lora", tmp_path / "zero.safetensors")
    said = rows["lora zero.safetensors"]
    assert code == 0 and [row["status"] for row in said] == ["warn", "warn"]
    assert "it changes nothing" in said[0]["text"] and "flux-1-dev/lora" in said[1]["text"]
    code, rows = findings("--lora", tmp_path / "zero.safetensors")  # against the published base
    assert (
        code == 1 and "compared with Anima as published" in rows["lora zero.safetensors"][0]["text"]
    )


def test_an_old_package_and_a_missing_extra_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=99", "numpy>=1", 'nothing-such>=1; extra == "evaluate"']
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    packages, extra = environment._packages()
    assert packages.status == "fail" and packages.text.startswith("torch 2.")
    assert (
        extra.status == "warn"
        and extra.text == "nothing-such is missing"
        and "onmodel[evaluate]" in extra.remedy
    )


def test_a_recipe_brings_its_base_and_data_sets() -> None:
    code, rows = findings(ROOT / "recipes" / "own_character.toml")
    assert code == 1
    assert {row["text"] for row in rows["recipe folder"]} == {
        str(ROOT / "recipes" / "pictures" / name) for name in ("base", "reference")
    }
    assert (
        rows["base transformer"][0]["status"] == "fail"
        and "GiB" in rows["recipe trained"][0]["text"]
    )


def test_what_the_data_set_lacks_for_the_recipe_is_told(pictures: Path, tmp_path: Path) -> None:
    from onmodel.recipe import load_recipe

    recipe = load_recipe(ROOT / "tests" / "tiny_recipe.toml")
    curate = Curate(do="curate", subsets={"a": [{"folder": pictures}]})
    texts = [row.text for row in dataset_findings("a", curate, recipe, {})]
    assert f"3 captions lack the trigger {recipe.character.trigger!r}" in texts


def test_the_template_plans_from_a_fresh_clone() -> None:
    """No weights, no pictures: shapes as published, 20 pictures a folder, and every line that is
    not true yet."""
    result = CliRunner().invoke(
        app, ["run", str(ROOT / "recipes" / "own_character.toml"), "--dry-run", "--json"]
    )
    assert result.exit_code == 0, result.stderr
    plan = json.loads(result.stdout)
    (stage,) = [row for row in plan["stages"] if row["do"] == "train"]
    training = stage["training"]
    assert (training["layers"], training["parameters"]) == (280, 45_875_200)
    assert training["file_bytes"] == 4 * training["parameters"]
    memory = {row["stage"]: row["memory"] for row in plan["stages"] if "memory" in row}
    assert set(memory) == {"trained", "candidates", "confirmed", "release"}
    assert set(memory["trained"]["phases"]) == {"encode pictures", "encode captions", "train"}
    for row in memory.values():
        assert row["bytes"] == max(sum(parts.values()) for parts in row["phases"].values())
        assert row["bytes"] == sum(row["phases"][row["phase"]].values())
        assert 5e9 < row["bytes"] < 60e9
    assert (
        stage["exposures"] == {"base": 80}
        and stage["steps"] == 20 * 80 / 2
        and stage["seconds"] is None
    )
    assert {row["field"] for row in plan["missing"]} == {
        "base.dit",
        "base.text_encoder",
        "base.vae",
        "base.tokenizers",
        "folder",
        "tagger",
        "identity",
        "license_file",
    }


def test_a_run_of_the_template_stops_at_the_first_file_that_is_not_there(tmp_path: Path) -> None:
    recipe = ROOT / "recipes" / "own_character.toml"
    result = CliRunner().invoke(app, ["run", str(recipe), "--project", str(tmp_path / "p")])
    assert result.exit_code != 0 and "pictures/base" in str(result.exception)
    assert not (tmp_path / "p" / "objects").exists()


def test_a_dry_run_of_the_template_names_the_licence_that_a_release_needs() -> None:
    result = CliRunner().invoke(
        app, ["run", str(ROOT / "recipes" / "own_character.toml"), "--dry-run", "--json"]
    )
    assert result.exit_code == 0, result.stderr
    (row,) = [row for row in json.loads(result.stdout)["missing"] if row["field"] == "license_file"]
    assert row["value"].endswith("models/LICENSE.md") and row["remedy"].startswith("no such file")


def test_the_processor_is_described_as_torch_does() -> None:
    assert environment._has_bfloat16() == has_bfloat16(torch.device("cpu"))


def test_torch_is_loaded_only_where_there_may_be_a_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(environment, "accelerator", lambda: asked.append(True))
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment, "_DEVICES", [tmp_path / "nvidiactl"])
    (none,) = environment._card()
    assert none.status == "warn" and not asked
    (tmp_path / "nvidiactl").touch()
    (found,) = environment._card()
    assert asked and "none that torch" in found.text
