"""A LoRA is moved to a base made by inserting copies of blocks, or refused where the source of a
block is not clear."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from onmodel.errors import InputError
from onmodel.families.anima.spec import spec_of_shapes
from onmodel.ledger.lineage import root
from onmodel.lora.file import LoraFile
from onmodel.lora.header import lineage_of
from onmodel.lora.remap import remap
from onmodel.randomness import normal
from onmodel.weights import read_metadata
from tests.support.command_line import onmodel

INNER = {
    "self_attn.q_proj": (24, 24),
    "self_attn.output_proj": (24, 24),
    "cross_attn.k_proj": (24, 16),
    "mlp.layer1": (64, 24),
    "mlp.layer2": (24, 64),
}
OUTER = {"x_embedder.proj.1": (24, 8), "final_layer.linear": (8, 24)}


def base(path: Path, sources: Sequence[int], noise: float = 0.0, zero: Sequence[int] = ()) -> Path:
    """A transformer whose blocks are copies of these source blocks, each perturbed by `noise` of
    its size; blocks in `zero` end in zeros, as some insertions begin."""
    tensors = {f"net.{name}.weight": normal(shape, 0, name) for name, shape in OUTER.items()}
    for block, source in enumerate(sources):
        for name, shape in INNER.items():
            weight = normal(shape, 0, "block", source, name)
            weight = weight + np.float32(noise) * normal(shape, 1, "noise", block, name)
            if block in zero and name in ("self_attn.output_proj", "mlp.layer2"):
                weight = np.zeros_like(weight)
            tensors[f"net.blocks.{block}.{name}.weight"] = weight
    save_file(tensors, path)
    return path


def lora(path: Path, blocks: Sequence[int], lokr: bool = False, words: bool = True) -> Path:
    tensors = {}
    for block in blocks:
        stem = f"diffusion_model.blocks.{block}.mlp.layer1"
        if lokr:
            tensors[f"{stem}.lokr_w1"] = normal((4, 4), 2, block)
            tensors[f"{stem}.lokr_w2"] = normal((16, 6), 3, block)
        else:
            tensors[f"{stem}.lora_A.weight"] = normal((2, 24), 2, block)
            tensors[f"{stem}.lora_B.weight"] = normal((64, 2), 3, block)
    stem = "diffusion_model.final_layer.linear"
    tensors[f"{stem}.lora_A.weight"] = normal((2, 24), 4, "down")
    tensors[f"{stem}.lora_B.weight"] = normal((8, 2), 5, "up")
    said = {"onmodel.blocks": "4", "onmodel.base_sha256": "a" * 64, "modelspec.title": "Hers"}
    save_file(tensors, path, said if words else None)
    return path


def deltas(path: Path, blocks: int) -> dict[str, np.ndarray]:
    shapes = OUTER | {f"blocks.{i}.mlp.layer1": INNER["mlp.layer1"] for i in range(blocks)}
    with LoraFile(path, spec_of_shapes(blocks, shapes)) as file:
        return {name: file.factors(name).delta() for name in file.layers}


@pytest.mark.parametrize("lokr", [False, True])
@pytest.mark.parametrize(("noise", "zero"), [(0.0, ()), (0.2, ()), (0.0, (2, 5))])
def test_every_copy_gets_the_change_of_its_source(
    tmp_path: Path, lokr: bool, noise: float, zero: tuple[int, ...]
) -> None:
    block_map = [0, 1, 1, 2, 3, 3]
    few = base(tmp_path / "few.safetensors", range(4))
    many = base(tmp_path / "many.safetensors", block_map, noise, zero)
    source, out = lora(tmp_path / "x.safetensors", range(4), lokr), tmp_path / "y.safetensors"
    report = remap(source, few, many, out)
    assert [match.source for match in report.blocks] == block_map
    assert report.layers == (5, 7) and report.copied == (2, 5)
    before, after = deltas(source, 4), deltas(out, 6)
    assert len(after) == 7
    for block, origin in enumerate(block_map):
        wanted = before[f"blocks.{origin}.mlp.layer1"]
        np.testing.assert_array_equal(after[f"blocks.{block}.mlp.layer1"], wanted)
    np.testing.assert_array_equal(after["final_layer.linear"], before["final_layer.linear"])


def test_header_and_history_say_that_it_was_moved(tmp_path: Path) -> None:
    few = base(tmp_path / "few.safetensors", range(4))
    many = base(tmp_path / "many.safetensors", [0, 1, 1, 2, 3])
    source, out = lora(tmp_path / "x.safetensors", range(4)), tmp_path / "y.safetensors"
    run = onmodel("lora", "remap", source, "--from", few, "--base", many, "-o", out)
    assert run.returncode == 0, run.stderr
    assert "source blocks: 0 1 1 2 3" in run.stdout and "not the same model" in run.stdout
    words = read_metadata(out)
    assert words["onmodel.blocks"] == "5" and words["modelspec.title"] == "Hers"
    assert "onmodel.base_sha256" not in words
    assert words["onmodel.remapped"] == (
        "moved from 4 to 5 blocks, not measured; source blocks 0,1,1,2,3"
    )
    with LoraFile(
        out, spec_of_shapes(5, OUTER | {f"blocks.{i}.mlp.layer1": (64, 24) for i in range(5)})
    ) as file:
        history = lineage_of(file.metadata, "")
    assert history[root(history)]["block_map"] == [0, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("sources", "noise", "said"),
    [
        ([0, 1, 9, 2, 3], 0.0, "block 2 is most like block .* which is no copy"),
        ([0, 1, 2, 3, 2], 0.0, r"block 4 is a copy of block 2 of .*few\S*, the one before it of 3"),
        ([0, 1, 1, 2, 3], 1.0, "block 0 is most like block 0 .* which is no copy"),
        ([0, 1, 1, 3, 3], 0.0, r"changes blocks\.2\.mlp\.layer1, of which .* has no copy"),
        ([0, 1, 2, 3], 0.0, "has 4 blocks, .* has 4"),
    ],
)
def test_a_map_that_is_not_clear_is_refused_with_the_block(
    tmp_path: Path, sources: list[int], noise: float, said: str
) -> None:
    few = base(tmp_path / "few.safetensors", range(4))
    many = base(tmp_path / "many.safetensors", sources, noise)
    out = tmp_path / "y.safetensors"
    with pytest.raises(InputError, match=said):
        remap(lora(tmp_path / "x.safetensors", range(4)), few, many, out)
    assert not out.exists()


def test_a_base_of_one_block_is_a_source(tmp_path: Path) -> None:
    few = base(tmp_path / "few.safetensors", [0])
    many = base(tmp_path / "many.safetensors", [0, 0])
    report = remap(lora(tmp_path / "x.safetensors", [0], words=False), few, many, tmp_path / "y")
    assert [match.source for match in report.blocks] == [0, 0] and report.layers == (2, 3)


def test_a_lora_of_late_blocks_alone_is_told_from_another_model(tmp_path: Path) -> None:
    few = base(tmp_path / "few.safetensors", range(4))
    many = base(tmp_path / "many.safetensors", [0, 1, 1, 2, 3])
    tensors = {"diffusion_model.blocks.4.mlp.layer1.lora_A.weight": normal((2, 24), 1, "a")}
    tensors["diffusion_model.blocks.4.mlp.layer1.lora_B.weight"] = normal((64, 2), 2, "b")
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="made for a base of 5 blocks, this one has 4"):
        remap(tmp_path / "x.safetensors", few, many, tmp_path / "y.safetensors")


def test_two_like_source_blocks_are_refused(tmp_path: Path) -> None:
    few = base(tmp_path / "few.safetensors", [0, 1, 1, 2])
    many = base(tmp_path / "many.safetensors", [0, 1, 1, 1, 2])
    with pytest.raises(InputError, match="block 1 is like two blocks"):
        remap(lora(tmp_path / "x.safetensors", range(4)), few, many, tmp_path / "y.safetensors")


def test_a_base_of_other_sizes_is_refused(tmp_path: Path) -> None:
    few = base(tmp_path / "few.safetensors", range(4))
    tensors = {f"blocks.{i}.self_attn.q_proj.weight": normal((8, 8), i, "q") for i in range(5)}
    save_file(
        {**tensors, "x_embedder.proj.1.weight": normal((8, 8), 0, "x")}, tmp_path / "o.safetensors"
    )
    with pytest.raises(InputError, match="block 0 has layers of other sizes"):
        remap(
            lora(tmp_path / "x.safetensors", range(4)),
            few,
            tmp_path / "o.safetensors",
            tmp_path / "y.safetensors",
        )


def test_both_bases_are_asked_for(tmp_path: Path) -> None:
    source = lora(tmp_path / "x.safetensors", range(4))
    run = onmodel("lora", "remap", source, "-o", tmp_path / "y.safetensors", "--base", "b")
    assert run.returncode == 2 and "--from" in run.stderr
