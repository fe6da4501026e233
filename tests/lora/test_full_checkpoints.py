"""Full checkpoints: their difference to the base as a LoRA, and LoRAs added into them (trap 10)."""

import json
from pathlib import Path

import numpy as np
import pytest

from onmodel.errors import InputError
from onmodel.hashing import sha256_file
from onmodel.ledger.lineage import check, root
from onmodel.lora import header
from onmodel.lora.full_checkpoints import extract, into, open_checkpoint
from onmodel.lora.layouts import BLOCKS_KEY
from onmodel.lora.merge_job import open_sources
from onmodel.lora.methods import choose
from onmodel.lora.specs import is_checkpoint
from onmodel.randomness import normal
from onmodel.weights import WeightsFile
from tests.support.lora_files import (
    NORM,
    SHAPES,
    SPEC,
    deltas,
    distance,
    tensors_of,
    weighted,
    write,
    write_checkpoint,
)


def tuned(name: str, tensor: np.ndarray) -> np.ndarray:
    """A fine-tune: rank 3 and a little noise in every layer but one, and one norm."""
    if name == NORM.removesuffix(".weight"):
        return tensor * 1.5
    if name not in SHAPES or name == "blocks.2.mlp.layer2":
        return tensor
    out, in_ = tensor.shape
    change = normal((out, 3), 1, "a", name) @ normal((3, in_), 1, "b", name)
    return tensor + 0.1 * change + 0.005 * normal((out, in_), 1, "c", name)


def add_into(out: Path, checkpoint: Path, files: list[Path], **settings: object) -> dict:
    names = [path.stem for path in files]
    target = open_checkpoint(checkpoint, "checkpoint")
    with target.file, open_sources(list(zip(names, files, strict=True)), target.spec) as sources:
        blend = choose(names, target.spec, **settings)  # type: ignore[arg-type]
        return into(out, checkpoint, sources, blend, target, out.stem)


@pytest.mark.parametrize("prefix", ["net.", "model.diffusion_model.", ""])
def test_a_checkpoint_is_told_from_a_lora_by_its_keys(tmp_path: Path, prefix: str) -> None:
    base = write_checkpoint(tmp_path / "base.safetensors", prefix=prefix)
    assert is_checkpoint(base)
    assert not is_checkpoint(write(tmp_path / "a.safetensors", 1))
    opened = open_checkpoint(base, "base")
    with opened.file:
        assert set(opened.keys) == {*SHAPES, "x_embedder.proj.1", NORM.removesuffix(".weight")}
        assert set(opened.others) == {"llm_adapter.embed.weight"}
    with pytest.raises(InputError, match="is no whole transformer"):
        open_checkpoint(tmp_path / "a.safetensors", "base")


def test_trap_10_a_fine_tune_enters_as_its_difference_with_the_loss_told(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base.safetensors", "F32")
    fine = write_checkpoint(
        tmp_path / "fine.safetensors", "F32", prefix="model.diffusion_model.", change=tuned
    )
    report = extract(tmp_path / "x.safetensors", fine, base, 3, "x")
    one, other = tensors_of(fine), tensors_of(base)
    wanted = {
        n: (one[f"model.diffusion_model.{n}.weight"] - other[f"net.{n}.weight"]).astype(float)
        for n in SHAPES
    }
    made = deltas(tmp_path / "x.safetensors")
    assert set(made) == set(SHAPES) - {"blocks.2.mlp.layer2"}
    total = sum(np.sum(change**2) for change in wanted.values()) + 0.25 * 8
    kept = sum(np.sum(change**2) for change in made.values())
    assert report.energy_kept == pytest.approx(kept / total, abs=1e-5)
    assert 0.9 < report.energy_kept < 0.9999
    assert report.beyond_a_lora == {NORM: pytest.approx(0.25 * 8 / total, rel=1e-3)}
    for name, change in made.items():
        sigma = np.linalg.svd(wanted[name], compute_uv=False)
        assert np.linalg.norm(change - wanted[name]) == pytest.approx(
            np.sqrt(np.sum(sigma[3:] ** 2)), rel=1e-3
        )
    with WeightsFile(tmp_path / "x.safetensors", "file") as file:
        history = json.loads(file.metadata[header.RECIPE_KEY])
    check(history)
    assert history[root(history)]["type"] == "extract"
    assert {node.get("sha256") for node in history.values()} >= {
        sha256_file(base),
        sha256_file(fine),
    }


def test_what_cannot_be_extracted_is_said(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base.safetensors")
    with pytest.raises(InputError, match="nothing to extract"):
        extract(tmp_path / "x.safetensors", base, base, 3, "x")
    broken = write_checkpoint(tmp_path / "broken.safetensors", change=lambda n, t: t * np.nan)
    with pytest.raises(InputError, match="not finite"):
        extract(tmp_path / "x.safetensors", broken, base, 3, "x")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize(("dtype", "least", "most"), [("F32", 0.0, 1e-5), ("BF16", 1e-3, 0.2)])
def test_trap_10_into_a_checkpoint_adds_in_fp32_casts_once_and_reports_the_loss(
    tmp_path: Path, dtype: str, least: float, most: float
) -> None:
    base = write_checkpoint(tmp_path / "base.safetensors", dtype)
    a, b = (
        write(tmp_path / "a.safetensors", 1),
        write(tmp_path / "b.safetensors", 2, layout="kohya"),
    )
    report = add_into(tmp_path / "out.safetensors", base, [a, b], weights=[1.0, -0.5])
    before, after = tensors_of(base), tensors_of(tmp_path / "out.safetensors")
    wanted = weighted((a, 1.0), (b, -0.5))
    change = {
        name: after[f"net.{name}.weight"].astype(float) - before[f"net.{name}.weight"]
        for name in SHAPES
    }
    lost = sum(np.sum((change[n] - wanted[n]) ** 2) for n in SHAPES) / sum(
        np.sum(wanted[n] ** 2) for n in SHAPES
    )
    assert report.rounding_loss == pytest.approx(np.sqrt(lost), rel=1e-3, abs=1e-6)
    assert least <= report.rounding_loss <= most
    for key in ("net.llm_adapter.embed.weight", f"net.{NORM}"):
        assert np.array_equal(before[key], after[key])
    with WeightsFile(tmp_path / "out.safetensors", "file") as file:
        assert file.metadata["from"] == "elsewhere"
        assert {entry.dtype for entry in file.entries.values()} == {dtype}
        assert json.loads(file.metadata[header.RECIPE_KEY])


def test_extracting_what_was_added_gives_it_back(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base.safetensors", "F32")
    a = write(tmp_path / "a.safetensors", 1)
    add_into(tmp_path / "out.safetensors", base, [a])
    report = extract(tmp_path / "x.safetensors", tmp_path / "out.safetensors", base, 4, "x")
    assert report.energy_kept > 0.999999
    assert distance(deltas(tmp_path / "x.safetensors"), deltas(a)) < 1e-4


def test_a_lora_of_another_base_is_refused(tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base.safetensors")
    few = write(
        tmp_path / "few.safetensors",
        1,
        names=[name for name in SHAPES if "blocks.2" not in name],
        **{BLOCKS_KEY: "2"},
    )
    with pytest.raises(InputError, match="made for a base of 2 blocks"):
        add_into(tmp_path / "out.safetensors", base, [few])
    assert not (tmp_path / "out.safetensors").exists()
    assert SPEC.blocks == 3
