"""Merging files: exact across layouts and kinds, small in memory, the same bytes, histories
inlined."""

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from onmodel.errors import InputError
from onmodel.families.anima.spec import spec_of_shapes
from onmodel.families.protocol import FamilySpec
from onmodel.hashing import sha256_file
from onmodel.ledger.lineage import add, check, root
from onmodel.lora import header
from onmodel.lora.factors import Factors, LayerShape
from onmodel.lora.layouts import BLOCKS_KEY
from onmodel.lora.merge_files import facts_of, merge_files
from onmodel.lora.merge_job import MergeJob, MergeSize, open_sources
from onmodel.lora.merge_plan import plan
from onmodel.lora.merge_ranks import survey
from onmodel.lora.methods import choose
from onmodel.lora.specs import spec_of_loras
from onmodel.lora.writing import FileFormat, LoraTensors
from onmodel.randomness import normal
from onmodel.weights import Entry, WeightsFile, stream_weights, written_order
from tests.support.lora_files import SHAPES, SPEC, deltas, distance, weighted, write

EXACT = MergeSize()


def merge(
    out: Path,
    files: list[Path],
    size: MergeSize = EXACT,
    spec: FamilySpec = SPEC,
    alpha: object = "from-parent",
    layout: str = "common",
    dtype: str = "F32",
    **settings: object,
) -> dict:
    names = [path.stem for path in files]
    with open_sources(list(zip(names, files, strict=True)), spec) as sources:
        written = FileFormat(layout, dtype)  # type: ignore[arg-type]
        job = MergeJob(sources, choose(names, spec, **settings), spec, size, alpha, written)  # type: ignore[arg-type]
        return merge_files(out, job, facts_of(sources, spec, out.stem))[1].as_dict()


@pytest.fixture
def abc(tmp_path: Path) -> list[Path]:
    """Three files: another rank, alpha, layout and dtype each."""
    return [
        write(tmp_path / "a.safetensors", 1),
        write(tmp_path / "b.safetensors", 2, rank=6, alpha=1.0, layout="kohya"),
        write(tmp_path / "c.safetensors", 3, rank=3, alpha=3.0, dtype="BF16"),
    ]


def best(wanted: dict[str, np.ndarray], rank: int) -> dict[str, np.ndarray]:
    found = {}
    for name, matrix in wanted.items():
        left, sigma, right = np.linalg.svd(matrix, full_matrices=False)
        found[name] = (left[:, :rank] * sigma[:rank]) @ right[:rank]
    return found


@pytest.mark.parametrize("layout", ["common", "kohya"])
def test_any_mix_of_layouts_ranks_and_alphas_is_summed_exactly(
    tmp_path: Path, abc: list[Path], layout: str
) -> None:
    merge(tmp_path / "m.safetensors", abc, weights=[0.5, 0.7, -0.2], layout=layout)
    wanted = weighted((abc[0], 0.5), (abc[1], 0.7), (abc[2], -0.2))
    assert distance(deltas(tmp_path / "m.safetensors"), wanted) < 1e-6


def test_a_rank_gives_the_best_sum_of_that_rank(tmp_path: Path, abc: list[Path]) -> None:
    report = merge(tmp_path / "m.safetensors", abc, MergeSize(rank=5), weights=[0.5, 0.7, -0.2])
    wanted = weighted((abc[0], 0.5), (abc[1], 0.7), (abc[2], -0.2))
    made = deltas(tmp_path / "m.safetensors")
    assert distance(made, best(wanted, 5)) < 1e-5
    total = sum(np.sum(matrix**2) for matrix in wanted.values())
    assert report["energy_kept"] == pytest.approx(
        sum(np.sum(matrix**2) for matrix in made.values()) / total, abs=1e-6
    )


def test_a_size_shares_ranks_out_better_than_one_rank_does(tmp_path: Path) -> None:
    """The MLPs are four times as strong, so their ranks are worth more."""
    files = [write(tmp_path / f"{seed}.safetensors", seed, rank=8) for seed in (1, 2)]
    files.append(
        write(
            tmp_path / "loud.safetensors",
            5,
            rank=8,
            names=[name for name in SHAPES if "mlp" in name],
        )
    )
    plain = merge(tmp_path / "plain.safetensors", files, MergeSize(rank=4), weights=[1, 1, 4])
    limit = (tmp_path / "plain.safetensors").stat().st_size
    shared = merge(
        tmp_path / "shared.safetensors", files, MergeSize(bytes=limit + 4000), weights=[1, 1, 4]
    )
    assert (tmp_path / "shared.safetensors").stat().st_size <= limit + 4000
    assert shared["energy_kept"] > plain["energy_kept"] + 0.02
    assert len(set(shared["ranks"].values())) > 1
    assert min(shared["ranks"].values()) >= 1
    with pytest.raises(InputError, match="rank 1 everywhere takes"):
        merge(tmp_path / "tiny.safetensors", files, MergeSize(bytes=3000))
    assert not (tmp_path / "tiny.safetensors").exists()


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_an_energy_is_kept_in_no_more_room_than_one_rank_for_all_needs(
    tmp_path: Path, abc: list[Path], share: float
) -> None:
    report = merge(tmp_path / "m.safetensors", abc, MergeSize(energy=share))
    assert report["energy_kept"] >= share - 1e-6
    with open_sources([(path.stem, path) for path in abc], SPEC) as sources:
        job = MergeJob(sources, choose([path.stem for path in abc], SPEC), SPEC)
        seen = survey(job)
    one = next(
        rank
        for rank in range(1, 14)
        if seen.energy_at(dict.fromkeys(SHAPES, rank)) >= share * (1 - 1e-9)
    )
    room = lambda ranks: sum(rank * sum(SHAPES[name]) for name, rank in ranks.items())  # noqa: E731
    assert room(report["ranks"]) <= room(dict.fromkeys(SHAPES, one))


def test_only_one_size_may_be_asked_for() -> None:
    with pytest.raises(InputError, match="rank is given too"):
        MergeSize(rank=4, energy=0.9)
    with pytest.raises(InputError, match="at most 1"):
        MergeSize(energy=95)


def test_loha_and_lokr_are_expanded_exactly(tmp_path: Path, abc: list[Path]) -> None:
    flat = "lora_unet_blocks_1_mlp_layer1"
    parts = {
        f"{flat}.hada_w1_a": (64, 2),
        f"{flat}.hada_w1_b": (2, 24),
        f"{flat}.hada_w2_a": (64, 3),
        f"{flat}.hada_w2_b": (3, 24),
        "lora_unet_blocks_2_mlp_layer2.lokr_w1": (4, 8),
        "lora_unet_blocks_2_mlp_layer2.lokr_w2": (6, 8),
    }
    t = {key: normal(shape, 8, key) for key, shape in parts.items()}
    entries = {key: Entry("F32", value.shape) for key, value in t.items()}
    odd = tmp_path / "odd.safetensors"
    stream_weights(odd, entries, (t[key] for key in written_order(entries)), {})
    merge(tmp_path / "m.safetensors", [abc[0], odd], weights=[1, 0.5])
    wanted = deltas(abc[0])
    loha = (t[f"{flat}.hada_w1_a"] @ t[f"{flat}.hada_w1_b"]) * (
        t[f"{flat}.hada_w2_a"] @ t[f"{flat}.hada_w2_b"]
    )
    wanted["blocks.1.mlp.layer1"] = wanted["blocks.1.mlp.layer1"] + 0.5 * loha
    lokr = np.kron(
        t["lora_unet_blocks_2_mlp_layer2.lokr_w1"], t["lora_unet_blocks_2_mlp_layer2.lokr_w2"]
    )
    wanted["blocks.2.mlp.layer2"] = wanted["blocks.2.mlp.layer2"] + 0.5 * lokr
    assert distance(deltas(tmp_path / "m.safetensors"), wanted) < 1e-5


def test_weights_by_block_and_type_of_layer(tmp_path: Path, abc: list[Path]) -> None:
    blocks = {"0-1": 0.5, "mlp": 0.0, "b:self_attn.q_proj": 2.0}
    merge(
        tmp_path / "m.safetensors", abc, method="block_weighted", weights=[1, 1, 1], blocks=blocks
    )
    made, (a, b, c) = deltas(tmp_path / "m.safetensors"), (deltas(path) for path in abc)
    for name in SHAPES:
        factor = (0.5 if name[7] in "01" else 1.0) * ("mlp" not in name)
        wanted = factor * (a[name] + (2.0 if "q_proj" in name else 1.0) * b[name] + c[name])
        assert np.allclose(made[name], wanted, atol=1e-6)


def test_the_same_merge_is_the_same_file_and_its_header_is_canonical(
    tmp_path: Path, abc: list[Path]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        merge(tmp_path / name / "m.safetensors", abc, MergeSize(rank=4))
    one, two = (tmp_path / name / "m.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    length = int.from_bytes(one.read_bytes()[:8], "little")
    header_bytes = one.read_bytes()[8 : 8 + length].rstrip(b" ")
    assert length % 8 == 0
    assert length - len(header_bytes) < 16  # room for the digits of an energy
    assert (
        json.dumps(json.loads(header_bytes), sort_keys=True, separators=(",", ":")).encode()
        == header_bytes
    )


def test_histories_are_inlined_and_an_outside_file_stays_unknown(tmp_path: Path) -> None:
    known = write(tmp_path / "known.safetensors", 1, history=add([], "checkpoint", name="known"))
    stranger = write(tmp_path / "stranger.safetensors", 2)
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    merge(first, [known, stranger], MergeSize(rank=4))
    merge(second, [first, write(tmp_path / "other.safetensors", 3)])
    with WeightsFile(second, "file") as file:
        history = json.loads(file.metadata[header.RECIPE_KEY])
        words = file.metadata
    check(history)
    unknown = {node["sha256"] for node in history.values() if node.get("origin") == "unknown"}
    assert unknown == {sha256_file(stranger), sha256_file(tmp_path / "other.safetensors")}
    assert [node["name"] for node in history.values() if node["type"] == "checkpoint"] == ["known"]
    assert [history[part["model"]]["type"] for part in history[root(history)]["parts"]] == [
        "merge",
        "model",
    ]
    assert words["modelspec.merged_from"] == "first, other"
    assert str(tmp_path) not in json.dumps(words)
    assert "modelspec.license" not in words  # one parent names MIT, the other nothing


def test_a_failed_merge_leaves_nothing(tmp_path: Path, abc: list[Path]) -> None:
    with pytest.raises(InputError, match="overflows"):
        merge(tmp_path / "m.safetensors", abc, weights=[1e6, 1, 1], dtype="F16")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.safetensors",
        "b.safetensors",
        "c.safetensors",
    ]


def test_trap_3_alpha_comes_from_the_parents_whatever_the_ranks(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{i}.safetensors", i, rank=8, alpha=1.0) for i in range(2)]
    for size in (MergeSize(), MergeSize(rank=4), MergeSize(energy=0.8)):
        out = tmp_path / f"{size}.safetensors"
        merge(out, files, size, layout="kohya")
        with open_sources([("m", out)], SPEC) as (source,):
            assert all(source.file.factors(name).scale == pytest.approx(1 / 8) for name in SHAPES)


def test_blocks_of_another_base_are_warned_of_and_stop_the_merge_where_the_header_counts_them(
    tmp_path: Path,
) -> None:
    few = write(
        tmp_path / "few.safetensors", 1, names=[name for name in SHAPES if "blocks.2" not in name]
    )
    many = write(tmp_path / "many.safetensors", 2)
    spec = spec_of_loras([few, many])
    with open_sources([("few", few), ("many", many)], spec) as sources:
        job = MergeJob(sources, choose(["few", "many"], spec), spec)
        warnings = plan(job, facts_of(sources, spec, "m"))["warnings"]
    assert isinstance(warnings, list)
    assert any("few: changes only blocks 0-1 of 3; if it was made for" in line for line in warnings)
    said = tmp_path / "said.safetensors"
    save_file(load_file(few), said, {BLOCKS_KEY: "2"})
    with pytest.raises(InputError, match="made for a base of 2 blocks, this one has 3"):
        merge(tmp_path / "m.safetensors", [said, many], spec=spec_of_loras([said, many]))


def test_the_model_is_read_off_the_files(tmp_path: Path, abc: list[Path]) -> None:
    spec = spec_of_loras(abc)
    assert {
        linear.name: (linear.out_features, linear.in_features) for linear in spec.linears
    } == SHAPES
    assert spec.blocks == 3


def test_memory_is_that_of_a_layer_and_torch_is_never_loaded(tmp_path: Path) -> None:
    """Files of 96 layers take about the memory of those of 12."""
    peaks = []
    for blocks in (3, 24):
        inner = [name.removeprefix("blocks.0.") for name in SHAPES if name.startswith("blocks.0.")]
        wide = {f"blocks.{block}.{name}": (256, 512) for block in range(blocks) for name in inner}
        make = lambda name: Factors(normal((8, 512), 1, name), normal((256, 8), 2, name), 8.0)  # noqa: E731
        files = [tmp_path / f"{blocks}-{i}.safetensors" for i in range(2)]
        for path in files:
            layers = {name: LayerShape(*shape, 8) for name, shape in wide.items()}
            LoraTensors(layers, {}, make).stream(path, {})
        tracemalloc.start()
        merge(
            tmp_path / f"{blocks}.safetensors",
            files,
            MergeSize(rank=8),
            spec_of_shapes(blocks, wide),
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    payload = 96 * 8 * (256 + 512) * 4
    assert peaks[1] < peaks[0] + payload / 4
    code = (
        "import sys, onmodel.lora.merge_files, onmodel.lora.merge_plan,"
        " onmodel.lora.full_checkpoints; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
