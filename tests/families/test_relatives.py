"""Relatives of the published base with more blocks: read by their headers, planned, trained and
sampled; a LoRA of one base is not taken for one of another."""

import json
import struct
from pathlib import Path

import pytest
import torch

from onmodel.errors import InputError
from onmodel.families.anima.lora_layouts import transformer_name
from onmodel.families.anima.parts import empty
from onmodel.families.anima.single_file import export_single_files
from onmodel.families.anima.spec import PUBLISHED
from onmodel.families.modes import Modes
from onmodel.families.protocol import FamilySpec
from onmodel.families.registry import known_specs, load_base, outline
from onmodel.lora.file import LoraFile
from onmodel.lora.tensors import Factors, Lora, applied, read_lora, write_lora
from onmodel.release.check import check
from onmodel.sample.sampler import Job, sample
from onmodel.sample.sampling import Sampling
from onmodel.stages import curate, train
from onmodel.stages.base import Inputs, read_models
from onmodel.train.memory import step_bytes
from onmodel.train.options import Options
from onmodel.weights import read_metadata
from tests.support.contexts import context
from tests.support.lora_layouts import random_lora, spec_of
from tests.support.tiny_anima import write_tiny_anima


def sparse_dit(path: Path, blocks: int) -> Path:
    """The header of a transformer file of so many published blocks; its tensors are a hole."""
    entries: dict[str, object] = {}
    end = 0
    configs = {**PUBLISHED, "transformer": {**PUBLISHED["transformer"], "num_layers": blocks}}
    for role in ("transformer", "text_conditioner"):
        for name, tensor in empty(role, configs[role]).state_dict().items():
            own = transformer_name(name) if role == "transformer" else f"llm_adapter.{name}"
            size = 2 * tensor.numel()
            entries[f"model.diffusion_model.{own}"] = {
                "dtype": "BF16",
                "shape": list(tensor.shape),
                "data_offsets": [end, end + size],
            }
            end += size
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    return path


@pytest.mark.parametrize(("blocks", "billions"), [(28, 2.1), (40, 2.9), (52, 3.8)])
def test_a_header_tells_how_large_a_relative_is(
    tmp_path: Path, blocks: int, billions: float
) -> None:
    base = outline({"dit": str(sparse_dit(tmp_path / "dit.safetensors", blocks))})
    assert {"transformer", "text_conditioner"} <= base.found
    total = base.parameters("transformer") + base.parameters("text_conditioner")
    assert round(total / 1e9, 1) == billions
    assert (base.spec.blocks, base.spec.width) == (blocks, 2048)
    assert len(base.spec.targets("attention_mlp")) == 10 * blocks
    known = next(spec for spec in known_specs() if spec.blocks == blocks and spec.width == 2048)
    assert set(base.spec.lora_linears) == set(known.lora_linears)


def test_the_memory_plan_counts_the_relatives_blocks(tmp_path: Path) -> None:
    options = Options(epochs=1, learning_rate=1e-4, rank=32, alpha=32, batch=1, resolution=512)
    plans = []
    for blocks in (28, 40):
        base = outline({"dit": str(sparse_dit(tmp_path / f"{blocks}.safetensors", blocks))})
        modes = Modes(checkpointing=True)
        step = step_bytes(base, options, torch.bfloat16, torch.bfloat16, 512, modes)
        weights = 2 * base.parameters(base.spec.backbone)
        plans.append(weights + step.copies + step.activations)
    weights = 12 * 2 * 69e6  # twelve blocks of 69 million parameters in bfloat16
    assert weights < plans[1] - plans[0] < 1.5 * weights


@pytest.fixture(scope="module")
def relative(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Single files of a tiny base of 40 blocks, and its tokenizers."""
    folder = write_tiny_anima(tmp_path_factory.mktemp("relative"), blocks=40)
    export_single_files(folder, folder)
    return folder


def test_a_base_of_40_blocks_is_trained_and_sampled_and_its_lora_names_it(
    tmp_path: Path, relative: Path
) -> None:
    files = {part: str(relative / f"{part}.safetensors") for part in ("dit", "text_encoder", "vae")}
    family = load_base({**files, "tokenizers": str(relative), "device": "cpu"})
    assert family.spec.blocks == 40
    table = {"do": "curate", "subsets": {"base": [{"toon": "backgwa_base", "count": 2}]}}
    data = curate.run(
        Inputs({}),
        curate.Settings.model_validate(table),
        context(tmp_path / "data", lambda: None, "data"),
    )
    settings = train.Settings.model_validate(
        {
            "do": "train",
            "dataset": "data",
            "data": [{"subset": "base"}],
            "epochs": 1,
            "learning_rate": 5e-3,
            "rank": 2,
            "alpha": 2,
            "batch": 2,
            "resolution": 64,
            "precision": "fp32",
        }
    )
    run = train.run(Inputs({"data": data}), settings, context(tmp_path, lambda: family, "look"))
    (model,) = read_models(run)
    words = read_metadata(model.path)
    assert (words["onmodel.blocks"], words["onmodel.width"]) == ("40", "32")
    assert words["onmodel.base_sha256"] == "b" * 64
    lora = read_lora(model.path, family.spec)
    assert len(lora.modules) == 400
    jobs = [Job("1girl", "", 1, 64, 64)]
    before = sample(family, jobs, Sampling(2, 1.0, 1.0))
    with applied(family, lora, 1.0):
        changed = sample(family, jobs, Sampling(2, 1.0, 1.0))
    assert (changed - before).abs().max() > 0
    torch.testing.assert_close(sample(family, jobs, Sampling(2, 1.0, 1.0)), before, rtol=0, atol=0)


def write(path: Path, spec: FamilySpec, **words: str) -> Path:
    write_lora(path, random_lora(spec), {key.replace("__", "."): w for key, w in words.items()})
    return path


def test_a_header_of_fewer_blocks_is_refused_with_the_command_that_moves_it(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", spec_of(2), onmodel__blocks="2")
    with pytest.raises(InputError, match=r"a base of 2 blocks, this one has 3; .*lora remap FILE"):
        LoraFile(path, spec_of(3))


def test_a_header_of_more_blocks_is_refused_although_the_layers_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", spec_of(2), onmodel__blocks="3")
    with pytest.raises(InputError, match="a base of 3 blocks, this one has 2; use one for 2") as e:
        LoraFile(path, spec_of(2))
    assert "remap" not in str(e.value)


def test_missing_blocks_alone_are_no_proof(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", spec_of(2))
    with LoraFile(path, spec_of(3)) as file:
        (note,) = file.notes
    assert "changes only blocks 0-1 of 3" in note and "onmodel lora remap" in note
    own = write(tmp_path / "y.safetensors", spec_of(2), onmodel__blocks="3")
    with LoraFile(own, spec_of(3)) as file:
        assert file.notes == ()


def test_check_takes_a_file_of_a_relative_for_what_it_is(tmp_path: Path) -> None:
    spec = next(spec for spec in known_specs() if spec.blocks == 40)
    modules = {
        row.name: Factors(torch.ones(1, row.in_features), torch.ones(row.out_features, 1), 1.0)
        for row in spec.linears
        if row.name.endswith("cross_attn.k_proj")
    }
    assert len(modules) == 40
    write_lora(tmp_path / "x.safetensors", Lora(modules), {})
    said = "\n".join(row.text for row in check(tmp_path / "x.safetensors"))
    assert "blocks" not in said
