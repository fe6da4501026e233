"""Is the change of other tools' LoRA files read exactly, and kept when they are converted?

Each cell writes a small file of one kind under a tool's names (peers.toml) for the toon base, reads
it, holds its change against the formula of its kind in float64, and converts it to the kohya layout
and back to the common one. The tools themselves are not run.

    python run.py bench-compat            the table and one JSON line
    python run.py bench-compat --write    also into docs/reference/lora-formats.md
"""

import json
import sys
import time
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save_file

from onmodel.errors import InputError
from onmodel.families.anima.spec import spec_of_folder
from onmodel.families.protocol import Linear
from onmodel.lora.convert import convert
from onmodel.lora.tensors import change_weight, read_lora
from onmodel.randomness import normal
from onmodel.release.check import check
from onmodel.release.weight_checks import who_loads
from onmodel.toon.base import TOON_BASE
from onmodel.weights import lora_weights, read_header

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "reference" / "lora-formats.md"
BEGIN, END = "<!-- bench-compat -->", "<!-- /bench-compat -->"
EXACT = 1e-6  # largest relative error that counts as exact in float32
SPEC = spec_of_folder(TOON_BASE)
LAYERS = ("blocks.0.self_attn.q_proj", "blocks.1.mlp.layer2")
TEXT = "llm_adapter.blocks.0.cross_attn.k_proj"
NORM = "blocks.0.self_attn.q_norm"
ALPHA, RANK = 2.0, 4

Arrays = dict[str, np.ndarray]


class Peer(BaseModel):
    """A row of peers.toml. `folder`: a folder with adapter_config.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stem: str
    down: str
    up: str
    alpha: bool
    kinds: list[str]
    text: str = ""
    folder: bool = False

    def named(self, linear: Linear) -> str:
        """How keys of a layer begin."""
        names = {"own": linear.name, "diffusers": linear.diffusers}
        names |= {f"{key}_": name.replace(".", "_") for key, name in names.items()}
        return (self.stem if linear.component is None else self.text).format(**names)


@dataclass(frozen=True)
class Cell:
    """What became of one file. `error`: the largest relative error of a layer's change, None where
    the file is refused; `converted`: the same after converting there and back, None where that is
    refused; `kept`: the kind is still the same; `told`: `onmodel lora check` names every program
    of ComfyUI and diffusers that does not load it whole, or the file is refused by name."""

    tool: str
    kind: str
    error: float | None
    converted: float | None
    kept: bool
    told: bool


def main(arguments: list[str]) -> int:
    started = time.perf_counter()
    cells = measure(peers())
    print(table(cells))
    if "--write" in arguments:
        write_page(summary(cells))
    wrong = [f"{cell.tool}: {cell.kind}" for cell in cells if not is_right(cell)]
    line = {"seconds": round(time.perf_counter() - started, 1), "wrong": wrong}
    print(json.dumps({**line, "cells": [asdict(cell) for cell in cells]}))
    return bool(wrong)


def peers() -> dict[str, Peer]:
    rows = tomllib.loads((HERE / "peers.toml").read_text(encoding="utf-8"))
    return {name: Peer.model_validate(row) for name, row in rows.items()}


def is_right(cell: Cell) -> bool:
    """Exact when read and when converted, or refused by name."""
    if cell.error is None:
        return cell.told
    return max(cell.error, cell.converted or 0.0) < EXACT and cell.told


def measure(tools: dict[str, Peer]) -> list[Cell]:
    cells = []
    with TemporaryDirectory() as scratch:
        for i, (name, peer) in enumerate(tools.items()):
            for kind in peer.kinds:
                folder = Path(scratch) / f"{i} {kind}"
                folder.mkdir()
                cells.append(_cell(name, kind, peer, folder))
    return cells


def _cell(tool: str, kind: str, peer: Peer, folder: Path) -> Cell:
    path, wanted = write_file(peer, kind, folder)
    try:
        error = _error(path, wanted)
    except InputError as refused:
        named = kind in str(refused) or "biases" in str(refused)
        return Cell(tool, kind, None, None, False, named)
    middle, last = folder / "kohya.safetensors", folder / "common.safetensors"
    converted, kept = None, False
    try:
        convert(path, middle, "kohya")
        convert(middle, last, "common")
        converted = _error(last, wanted)
        kept = _marks(path) == _marks(last)
    except InputError as refused:
        assert "DoRA" in str(refused), refused
    return Cell(tool, kind, error, converted, kept, _is_told(path))


def _marks(path: Path) -> set[str]:
    """What tells the kind of a file's layers apart."""
    keys = read_header(lora_weights(path), "lora")[0]
    marks = ("hada_", "lokr_", ".diff", ".w_norm")
    return {
        "diff" if mark in (".diff", ".w_norm") else mark
        for mark in marks
        for key in keys
        if mark in key
    }


def _is_told(path: Path) -> bool:
    said = " ".join(f"{row.text} {row.remedy}" for row in check(path))
    file = path / "adapter_model.safetensors" if path.is_dir() else path
    loads = who_loads(file)
    lost = [loader for loader in ("ComfyUI", "diffusers") if loads[loader][0] < loads[loader][1]]
    return "is DoRA" in said or all(loader in said for loader in lost)


def _error(path: Path, wanted: Arrays) -> float:
    """The largest relative error of the change of a layer, against float64."""
    layers = read_lora(path, SPEC, dora=True).layers
    assert set(layers) == set(wanted), (set(layers), set(wanted))
    errors = []
    for name, layer in layers.items():
        base = _base(name) if layer.magnitude is not None else np.zeros_like(_base(name))
        weight = torch.from_numpy(base.astype(np.float32))
        change_weight(weight, layer, 1.0)
        change = weight.double().numpy() - base
        errors.append(np.linalg.norm(change - wanted[name]) / np.linalg.norm(wanted[name]))
    return float(max(errors))


def _row(name: str) -> Linear:
    return next(row for row in SPEC.lora_linears if row.name == name)


def _base(name: str) -> np.ndarray:
    """The weight that DoRA starts from, float64 of float32 values."""
    row = _row(name)
    return normal((row.out_features, row.in_features), 0, "base", name).astype(float)


def write_file(peer: Peer, kind: str, folder: Path) -> tuple[Path, Arrays]:
    """A file of this kind, and the change of each of its layers by the formula of its kind, in
    float64 of the numbers that were stored."""
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(kind, torch.float32)
    names = (*LAYERS, TEXT) if kind == "text" else LAYERS
    tensors: dict[str, torch.Tensor] = {}
    wanted: Arrays = {}
    for i, name in enumerate(names):
        row, rank = _row(name), RANK + i if kind == "ranks" else RANK
        stem = peer.named(row)
        parts = {
            role: torch.from_numpy(part).to(dtype) for role, part in _parts(row, kind, rank).items()
        }
        exact = {role: part.double().numpy() for role, part in parts.items()}
        whole = not any(role.endswith(("_b", "down")) for role in parts)
        alpha = ALPHA if (peer.alpha or peer.folder) and kind != "diff" else float(rank)
        scaled = alpha / rank if peer.folder or not whole else 1.0
        change = scaled * _product(exact)
        if "dora_scale" in parts or "lora_magnitude_vector" in parts:
            lengths = next(exact[role] for role in exact if "scale" in role or "vector" in role)
            changed = _base(name) + change
            changed *= lengths.reshape(-1, 1) / np.linalg.norm(changed, axis=1, keepdims=True)
            change = changed - _base(name)
        wanted[name] = change
        endings = {"down": peer.down, "up": peer.up}
        tensors |= {f"{stem}.{endings.get(role, role)}": part for role, part in parts.items()}
        if peer.alpha and kind != "diff":
            tensors[f"{stem}.alpha"] = _alpha(kind)
    if kind in ("w_norm", "norm diff", "diff_b"):
        row = _row(LAYERS[0] if kind == "diff_b" else NORM)
        difference = torch.from_numpy(normal((row.out_features,), 5, "difference"))
        tensors[f"{peer.named(row)}.{kind.removeprefix('norm ')}"] = difference
        wanted[row.name] = difference.double().numpy().reshape(-1, 1)
    if peer.folder:
        return _write_folder(folder, kind, tensors), wanted
    path = folder / "lora.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path, wanted


def _write_folder(folder: Path, kind: str, tensors: dict[str, torch.Tensor]) -> Path:
    """As PEFT saves it."""
    target = folder / "mychar"
    target.mkdir()
    save_file(tensors, target / "adapter_model.safetensors")
    config: dict[str, object] = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
    if kind in ("loha", "lokr", "whole lokr"):
        config = {"peft_type": kind.upper()[-4:], "r": RANK, "alpha": ALPHA}
    if kind == "ranks":
        config["rank_pattern"] = {_row(LAYERS[1]).diffusers: RANK + 1}
    (target / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


def _alpha(kind: str) -> torch.Tensor:
    if kind == "int alpha":
        return torch.tensor(int(ALPHA))
    return torch.tensor([ALPHA]) if kind == "one-element alpha" else torch.tensor(ALPHA)


def _parts(row: Linear, kind: str, rank: int) -> Arrays:
    """Role → matrix of a layer."""
    out, in_ = row.out_features, row.in_features

    def drawn(role: str, *shape: int) -> np.ndarray:
        return normal(shape, 1, kind, role, row.name) * np.float32(0.3)

    parts: Arrays = {}
    if kind == "loha":
        for side in ("w1", "w2"):
            parts[f"hada_{side}_a"] = drawn(f"{side}a", out, rank)
            parts[f"hada_{side}_b"] = drawn(f"{side}b", rank, in_)
    elif kind.endswith("lokr"):
        parts["lokr_w1"] = drawn("w1", 4, 4)
        if kind == "lokr":
            parts["lokr_w2_a"] = drawn("w2a", out // 4, rank)
            parts["lokr_w2_b"] = drawn("w2b", rank, in_ // 4)
        else:
            parts["lokr_w2"] = drawn("w2", out // 4, in_ // 4)
    elif kind == "diff":
        parts["diff"] = drawn("diff", out, in_)
    else:
        parts["down"], parts["up"] = drawn("down", rank, in_), drawn("up", out, rank)
    if kind in ("dora", "dora lokr"):
        parts["dora_scale"] = np.abs(drawn("lengths", out, 1)) + np.float32(1)
    if kind == "magnitude vector":
        parts["lora_magnitude_vector"] = np.abs(drawn("lengths", out)) + np.float32(1)
    return parts


def _product(parts: Arrays) -> np.ndarray:
    """A layer's change before alpha/rank, by the formula of its kind."""
    if "diff" in parts:
        return parts["diff"]
    if "down" in parts:
        return parts["up"] @ parts["down"]
    if "hada_w1_a" in parts:
        first = parts["hada_w1_a"] @ parts["hada_w1_b"]
        return first * (parts["hada_w2_a"] @ parts["hada_w2_b"])
    second = parts["lokr_w2"] if "lokr_w2" in parts else parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    return np.kron(parts["lokr_w1"], second)


def table(cells: list[Cell]) -> str:
    """A row for each file."""
    lines = ["| tool | kind | ΔW error | converted | kept | told |", "|---|---|---|---|---|---|"]
    for cell in cells:
        error = "refused by name" if cell.error is None else f"{cell.error:.0e}"
        converted = "–" if cell.converted is None else f"{cell.converted:.0e}"
        marks = " | ".join("yes" if mark else "no" for mark in (cell.kept, cell.told))
        lines.append(f"| {cell.tool} | {cell.kind} | {error} | {converted} | {marks} |")
    return "\n".join(lines)


def summary(cells: list[Cell]) -> str:
    """A row for each tool."""
    lines = [
        "| tool | kinds read exactly and kept | read exactly, not converted | refused by name"
        " | largest error | told |",
        "|---|---|---|---|---|---|",
    ]
    for tool in dict.fromkeys(cell.tool for cell in cells):
        own = [cell for cell in cells if cell.tool == tool]
        read = [cell for cell in own if cell.error is not None and cell.error < EXACT]
        groups = (
            [cell.kind for cell in read if cell.kept],
            [cell.kind for cell in read if not cell.kept],
            [cell.kind for cell in own if cell.error is None],
        )
        kinds = " | ".join(", ".join(group) or "–" for group in groups)
        errors = [error for cell in own for error in (cell.error, cell.converted) if error]
        told = f"{sum(cell.told for cell in own)} of {len(own)}"
        lines.append(f"| {tool} | {kinds} | {max(errors):.0e} | {told} |")
    return "\n".join(lines)


def write_page(text: str) -> None:
    """Put a table between the marks of the page."""
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
