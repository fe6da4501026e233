"""Malformed LoRA files and checkpoints: one line naming the file, wherever they are read, and
nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onmodel.doctor.files import lora_findings
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.anima.memory import AnimaOutline
from onmodel.families.anima.spec import PUBLISHED, make_spec, spec_of_config
from onmodel.families.registry import outline
from onmodel.lora import commands as library
from onmodel.lora.convert import convert
from onmodel.lora.full_checkpoints import extract, open_checkpoint
from onmodel.lora.settings import MergeSettings, ResultSettings
from onmodel.lora.tensors import read_lora
from onmodel.release.check import check
from onmodel.text import is_printable
from onmodel.toon.base import TOON_BASE
from tests.support.lora_files import write_checkpoint
from tests.support.malformed_loras import (
    FILES,
    MISFITS,
    WIDTH,
    Writer,
    floats,
    of_type,
    pack,
    plain,
    tensors,
    words,
    write,
)


@pytest.fixture(scope="module")
def toon() -> AnimaOutline:
    return outline("toon")


TYPES = {
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
}


def alpha(kind: str, value: float = 3.0) -> tuple[str, list[int], bytes]:
    return TYPES[kind], [], np.array(value, kind).tobytes()


def check_refuses(path: Path) -> None:
    """`release check` as the reader: an error, or for what is no file at all an InputError."""
    found = check(path)
    assert any(row.status == "fail" for row in found), [str(row) for row in found]
    for row in found:
        assert is_printable(str(row)) and len(str(row)) < 1_500
        # convert does not read it either, unless it leaves out what is wrong
        assert "lora convert" not in row.remedy or "--leave-out" in row.remedy
    raise InputError("file", path, "has an error")


def commands(
    path: Path, other: Path, out: Path, toon: AnimaOutline
) -> dict[str, Callable[[], Any]]:
    """Everything that reads a LoRA file."""
    mean, two = MergeSettings(), ResultSettings(rank=2)

    def merge(*files: Path) -> library.Merge:
        return library.Merge(files, mean, ResultSettings())

    return {
        "release check": lambda: check_refuses(path),
        "lora convert": lambda: convert(path, out, "common"),
        "merge plan": lambda: library.plan_merge(merge(path, other), Events()),
        "merge run": lambda: library.run_merge(out, merge(other, path), "", Events()),
        "lora resize": lambda: library.resize(path, out, two, "", Events()),
        "lora diff": lambda: library.diff(other, path),
        "lora extract": lambda: library.extract(path, [str(path)], out, 2, "float32", "", Events()),
        "lora into": lambda: library.add_into(path, [path], out, mean, "", Events()),
        "doctor": lambda: list(lora_findings(path, toon)),
        "read": lambda: read_lora(path, toon.spec),
    }


@pytest.mark.parametrize("fault", [*FILES, *MISFITS])
def test_every_reader_refuses_a_malformed_file_in_one_line(
    fault: str, tmp_path: Path, toon: AnimaOutline
) -> None:
    path, other, out = (tmp_path / f"{name}.safetensors" for name in ("bad", "good", "out"))
    write(other, *pack(plain()))
    (FILES | MISFITS)[fault](path)
    for name, command in commands(path, other, out, toon).items():
        if fault in MISFITS and name in ("lora convert", "lora resize"):
            continue  # they need no base, and the file is one LoRA of some base
        with pytest.raises(InputError) as caught:
            command()
        line = str(caught.value)
        assert "bad.safetensors" in line or (fault in MISFITS and "good.safetensors" in line), (
            name,
            line,
        )
        assert is_printable(line) and len(line) < 1_500, (name, line)
        assert len(caught.value.remedy) > 10, (name, line)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"bad.safetensors", "good.safetensors"}


def test_there_are_many_kinds_of_malformed_files() -> None:
    assert len(FILES) >= 60


@pytest.mark.parametrize(
    "writer",
    [
        tensors(),
        tensors(alpha=floats(fill=2.0)),
        tensors(alpha=floats(1, fill=2.0)),
        tensors(alpha=floats(1, 1, fill=2.0)),
        *(tensors(alpha=alpha(kind)) for kind in ("int64", "int32", "uint8", "float64", "float16")),
        tensors(alpha=alpha("float32", 0.0)),
        words(ss_network_alpha="nan"),
        words(ss_network_alpha="-3"),
        words(ss_network_alpha="1e999"),
        words(ss_network_alpha="\x1b[2J" * 9_000),
        words(**{"modelspec.resolution": "²x" + "9" * 9_000}),
        words(**{"modelspec.license": "\u202e" + "x" * 9_000, "modelspec.author": "a\x1b[2J"}),
    ],
)
def test_what_is_odd_and_sound_is_read_everywhere(
    writer: Writer, tmp_path: Path, toon: AnimaOutline, capsys: pytest.CaptureFixture[str]
) -> None:
    """An alpha of any number type, and words of a header that mean nothing."""
    path, other = tmp_path / "bad.safetensors", tmp_path / "good.safetensors"
    write(other, *pack(plain()))
    writer(path)
    for name, command in commands(path, other, tmp_path / "out.safetensors", toon).items():
        if name not in ("release check", "lora extract", "lora into"):
            command()
            (tmp_path / "out.safetensors").unlink(missing_ok=True)
    told = ("diffusers stops", "alpha of 0")  # of loaders, and of a file that changes nothing
    assert all(
        row.status == "warn" or any(what in row.text for what in told) for row in check(path)
    )
    for line in capsys.readouterr().out.splitlines():
        assert is_printable(line) and len(line) < 1_500


def test_the_value_of_an_alpha_of_any_type_is_used(tmp_path: Path, toon: AnimaOutline) -> None:
    for kind in TYPES:
        tensors(alpha=alpha(kind))(tmp_path / kind)
        assert read_lora(tmp_path / kind, toon.spec).trained_alpha == 3.0


def test_a_hundred_thousand_tensors_are_refused(tmp_path: Path, toon: AnimaOutline) -> None:
    path = tmp_path / "many.safetensors"
    header = {}
    for i in range(100_000):
        row = {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]}
        header[f"lora_unet_down_blocks_{i}_x.lora_down.weight"] = row
    write(path, header, b"\0" * 400_000)
    with pytest.raises(InputError, match="not for anima"):
        read_lora(path, toon.spec)


@pytest.mark.parametrize(
    "layer", ["blocks.0.self_attn.k_proj", "blocks.7.self_attn.k_proj", "final_layer.linear"]
)
def test_release_check_holds_a_lora_against_the_layers_of_the_published_base(
    layer: str, tmp_path: Path
) -> None:
    """Right sizes have no findings of shape; one row or column more is an error that names the
    layer and both sizes."""
    linear = next(
        row for row in spec_of_config(PUBLISHED["transformer"]).linears if row.name == layer
    )
    for rows, columns in ((0, 0), (1, 0), (0, 1)):
        shape = (linear.out_features + rows, linear.in_features + columns)
        path = tmp_path / f"{rows}{columns}.safetensors"
        down, up = (
            f"diffusion_model.{layer}.lora_A.weight",
            f"diffusion_model.{layer}.lora_B.weight",
        )
        write(path, *pack({down: floats(2, shape[1]), up: floats(shape[0], 2)}))
        errors = [str(row) for row in check(path) if row.status == "fail"]
        assert bool(errors) == bool(rows or columns)
        assert all(f"{layer} is {shape[0]}×{shape[1]}" in line for line in errors)


def test_layers_of_a_base_of_ones_own_must_be_alike_in_all_blocks(tmp_path: Path) -> None:
    def lora(name: str, width: int) -> Path:
        made = {}
        for block, size in ((0, 8), (1, width)):
            stem = f"diffusion_model.blocks.{block}.self_attn.q_proj"
            made |= {
                f"{stem}.lora_A.weight": floats(2, size),
                f"{stem}.lora_B.weight": floats(8, 2),
            }
        write(tmp_path / name, *pack(made, {"onmodel.blocks": "2"}))
        return tmp_path / name

    assert not [row for row in check(lora("alike.safetensors", 8)) if row.status == "fail"]
    (found,) = [row for row in check(lora("odd.safetensors", 9)) if row.status == "fail"]
    assert "blocks.1.self_attn.q_proj is 8×9, blocks.0.self_attn.q_proj is 8×8" in found.text


def test_a_config_gives_the_same_layers_as_the_loaded_model() -> None:
    import torch
    from diffusers import CosmosTransformer3DModel

    toon = json.loads((TOON_BASE / "transformer" / "config.json").read_text())
    for config in (PUBLISHED["transformer"], toon):
        with torch.device("meta"):
            measured = make_spec(CosmosTransformer3DModel.from_config(config))
        assert set(spec_of_config(config).linears) == set(measured.linears)


# --- checkpoints
# -------------------------------------------------------------------------------------------------

Q = "net.blocks.0.self_attn.q_proj.weight"


def rewritten(source: Path, path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A checkpoint with other tensors."""
    data = source.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    table.pop("__metadata__")
    made = {
        name: (row["dtype"], row["shape"], data[8 + length :][slice(*row["data_offsets"])])
        for name, row in table.items()
    }
    change(made)
    write(path, *pack(made))
    return path


CHECKPOINTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "0-d": lambda t: t.update({Q: floats()}),
    "1-d": lambda t: t.update({Q: floats(24)}),
    "4-d": lambda t: t.update({Q: floats(24, 24, 1, 1)}),
    "no rows": lambda t: t.update({Q: floats(0, 24)}),
    "another size": lambda t: t.update({Q: floats(24, 25)}),
    "NaN": lambda t: t.update({Q: floats(24, 24, fill=float("nan"))}),
    "NaN in a norm": lambda t: t.update(
        {"net.blocks.0.self_attn.q_norm.weight": floats(8, fill=float("nan"))}
    ),
    "fp8": lambda t: t.update({Q: of_type("F8_E4M3", 24, 24)}),
    "int8": lambda t: t.update({Q: of_type("I8", 24, 24)}),
    "a layer twice": lambda t: t.update({Q.removeprefix("net."): floats(24, 24)}),
    "a layer missing": lambda t: t.pop(Q),
    "a far block": lambda t: t.update({"net.blocks.999999999.self_attn.q_proj.weight": floats(1)}),
    "a long name": lambda t: t.update({"x" * 10_000: floats(1)}),
    "an exotic dtype": lambda t: t.update({"y": of_type("F8_E8M0", 4)}),
}


@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_a_malformed_checkpoint_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    base = write_checkpoint(tmp_path / "base.safetensors", "F32")
    tuned = write_checkpoint(
        tmp_path / "tuned.safetensors", "F32", change=lambda name, tensor: tensor * 1.5
    )
    bad = rewritten(tuned, tmp_path / "bad.safetensors", CHECKPOINTS[fault])
    if fault == "a far block":  # no layer of such a model: a stray tensor, as others
        assert len(open_checkpoint(bad, "base").spec.linears) == 13
        return
    for tuned_file, base_file in ((bad, base), (tuned, bad)):
        with pytest.raises(InputError) as caught:
            extract(tmp_path / "out.safetensors", tuned_file, base_file, 2, "x")
        assert len(str(caught.value)) < 1_500 and is_printable(str(caught.value))
    assert not (tmp_path / "out.safetensors").exists()


def test_width_is_the_toon_bases() -> None:
    config = json.loads((TOON_BASE / "transformer" / "config.json").read_text())
    assert config["num_attention_heads"] * config["attention_head_dim"] == WIDTH
