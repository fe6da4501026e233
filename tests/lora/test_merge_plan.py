"""A plan predicts what a run gives, warns of what a careful person would ask, and writes
nothing."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from onmodel.errors import InputError
from onmodel.ledger.lineage import add
from onmodel.lora.merge_files import facts_of, merge_files
from onmodel.lora.merge_job import MergeJob, MergeSize, open_sources
from onmodel.lora.merge_plan import compare, plan
from onmodel.lora.methods import choose
from onmodel.lora.writing import FileFormat
from tests.support.lora_files import SHAPES, SPEC, deltas, weighted, write

EXACT = MergeSize()


def both(
    tmp_path: Path, files: list[Path], size: MergeSize = EXACT, **settings: object
) -> tuple[dict, dict, int]:
    """Plan and report of the same merge, and the file's size."""
    names, before = [path.stem for path in files], sorted(tmp_path.iterdir())
    alpha, dtype = settings.pop("alpha", "from-parent"), settings.pop("dtype", "F32")
    with open_sources(list(zip(names, files, strict=True)), SPEC) as sources:
        written = FileFormat(dtype=dtype)  # type: ignore[arg-type]
        job = MergeJob(sources, choose(names, SPEC, **settings), SPEC, size, alpha, written)  # type: ignore[arg-type]
        facts = facts_of(sources, SPEC, "m")
        found = plan(job, facts)
        assert sorted(tmp_path.iterdir()) == before
        out = tmp_path / "m.safetensors"
        _, report = merge_files(out, job, facts)
    return found, report.as_dict(), out.stat().st_size


@pytest.mark.parametrize(
    "size", [MergeSize(), MergeSize(rank=3), MergeSize(energy=0.8), MergeSize(bytes=30_000)]
)
def test_the_plan_is_what_the_run_gives(tmp_path: Path, size: MergeSize) -> None:
    files = [write(tmp_path / f"{i}.safetensors", i) for i in range(3)]
    found, report, written = both(tmp_path, files, size, weights=[0.5, 0.5, -0.3])
    for key in ("method", "exact", "rank", "alpha", "energy_kept", "strength"):
        assert found[key] == pytest.approx(report[key]), key
    assert np.allclose(found["cosines"], report["cosines"], atol=1e-5)
    assert written <= found["bytes"] < written + 12_000
    ladder = found["energy"]
    assert [row["rank"] for row in ladder] == [1, 2, 4, 8, 12]
    assert ladder[-1]["energy_kept"] == pytest.approx(1)
    assert all(one["energy_kept"] < two["energy_kept"] for one, two in pairwise(ladder))


def test_a_rank_that_no_layer_can_have_is_refused(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{i}.safetensors", i) for i in range(2)]
    with pytest.raises(InputError, match="no layer has a rank above"):
        both(tmp_path, files, MergeSize(rank=999_999_999))


def warnings(tmp_path: Path, files: list[Path], size: MergeSize = EXACT, **settings: object) -> str:
    return "\n".join(both(tmp_path, files, size, **settings)[0]["warnings"])


def test_a_plain_merge_of_known_files_warns_of_nothing(tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"{i}.safetensors", i, history=add([], "checkpoint", name=str(i)))
        for i in range(2)
    ]
    assert warnings(tmp_path, files) == ""


def test_what_a_plan_warns_of(tmp_path: Path) -> None:
    one = write(tmp_path / "one.safetensors", 1)
    twin = write(tmp_path / "twin.safetensors", 1, dtype="BF16")
    assert "unknown" in warnings(tmp_path, [one, twin])
    assert "nearly the same" in warnings(tmp_path, [one, twin])
    assert "cancel" in warnings(tmp_path, [one, twin], weights=[1, -0.9])
    other = write(
        tmp_path / "other.safetensors",
        2,
        alpha=0.25,
        names=[name for name in SHAPES if "mlp" in name],
    )
    said = warnings(tmp_path, [one, other], MergeSize(rank=1))
    assert "no change for 6 of 12 layers" in said
    assert "alpha / rank of the inputs differ (0.0625 to 0.5)" in said
    assert "of the energy is kept; rank" in said
    assert "times as strong" in warnings(tmp_path, [one, other], weights=[2, 2])
    assert "training it on would step" in warnings(tmp_path, [one, twin], alpha=64.0)
    assert "16 bits" in warnings(tmp_path, [one, twin], dtype="BF16")
    free = write(tmp_path / "free.safetensors", 3, **{"modelspec.license": "MIT"})
    assert "licences differ" in warnings(tmp_path, [one, free])


def test_compare_says_where_two_loras_differ(tmp_path: Path) -> None:
    one = write(tmp_path / "one.safetensors", 1)
    other = write(
        tmp_path / "other.safetensors",
        2,
        names=[name for name in SHAPES if name != "blocks.0.mlp.layer1"],
    )
    with open_sources([("one", one), ("other", other)], SPEC) as sources:
        linears = {linear.name: linear for linear in SPEC.linears}
        found = compare(*sources, linears)
    mine, theirs = deltas(one), deltas(other)
    apart = weighted((one, 1), (other, -1))
    norm = lambda table: np.sqrt(sum(np.sum(delta**2) for delta in table.values()))  # noqa: E731
    assert found["strengths"] == pytest.approx([norm(mine), norm(theirs)], rel=1e-4)
    assert found["difference"] == pytest.approx(
        2 * norm(apart) / (norm(mine) + norm(theirs)), rel=1e-4
    )
    assert list(found["blocks"]) == ["0", "1", "2"]
    assert set(found["types"]) == {
        "self_attn.q_proj",
        "self_attn.output_proj",
        "mlp.layer1",
        "mlp.layer2",
    }
    in_block = {name: delta for name, delta in mine.items() if name.startswith("blocks.1.")}
    assert found["blocks"]["1"]["strengths"][0] == pytest.approx(norm(in_block), rel=1e-4)
    assert found["only_in"] == {"one": ["blocks.0.mlp.layer1"], "other": []}
    same = [("one", one), ("again", one)]
    with open_sources(same, SPEC) as sources:
        found = compare(*sources, linears)
    assert found["cosine"] == pytest.approx(1) and found["difference"] < 1e-3
