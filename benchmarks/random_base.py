"""Write a base of Anima's kind in the published shapes, with random bfloat16 weights and made-up
tokenizers of the published sizes, as ComfyUI's single files.

    .venv/bin/python benchmarks/random_base.py FOLDER

The files are written piece by piece, so this takes little memory and 5.6 GB of disk. Matrices are
normal with a standard deviation of 0.02, weights of norms are 1 and biases 0: activations stay
finite, and no gradient is zero.
"""

import argparse
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch

from onmodel.families.anima.lora_layouts import transformer_name, vae_name
from onmodel.families.anima.parts import empty
from onmodel.families.anima.spec import PUBLISHED
from onmodel.toon.base import TOON_BASE

Shapes = dict[str, tuple[int, ...]]
FILES = ("dit", "text_encoder", "vae")
STD = 0.02
POOL = 4_194_301  # random numbers that are written again and again; prime, so that no layers repeat
QWEN_TOKENS, T5_TOKENS = 151_643, 32_100


def write_files(folder: Path, names: Sequence[str] = FILES) -> dict[str, Path]:
    """The named files in ComfyUI's layout. Returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    dit = {f"net.{transformer_name(name)}": row for name, row in _shapes("transformer").items()}
    dit |= {f"net.llm_adapter.{name}": row for name, row in _shapes("text_conditioner").items()}
    blocks = PUBLISHED["vae"]["num_res_blocks"]
    files = {
        "dit": dit,
        "text_encoder": {f"model.{name}": row for name, row in _shapes("text_encoder").items()},
        "vae": {vae_name(name, blocks): row for name, row in _shapes("vae").items()},
    }
    paths = {name: folder / f"{name}.safetensors" for name in names}
    for name, path in paths.items():
        _write_random(path, files[name])
    return paths


def write_tokenizers(folder: Path) -> Path:
    """The toon base's tokenizers, filled up to the published numbers of tokens."""
    for name in ("tokenizer", "t5_tokenizer"):
        shutil.copytree(TOON_BASE / name, folder / name, dirs_exist_ok=True)
        path = folder / name / "tokenizer.json"
        table = json.loads(path.read_text())
        model = table["model"]
        if model["type"] == "BPE":
            vocabulary = dict(model["vocab"])
            for left, right in itertools.product(model["vocab"], repeat=2):
                if len(vocabulary) == QWEN_TOKENS:
                    break
                if left + right not in vocabulary:
                    vocabulary[left + right] = len(vocabulary)
                    model["merges"].append([left, right])
            model["vocab"] = vocabulary
            table["added_tokens"][0]["id"] = QWEN_TOKENS
        else:
            known = len(model["vocab"])
            model["vocab"] += [[f"▁filler{i}", -20.0] for i in range(T5_TOKENS - known)]
        path.write_text(json.dumps(table))
    return folder


def _shapes(role: str) -> Shapes:
    model = empty(role, PUBLISHED[role])
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _write_random(path: Path, shapes: Shapes) -> None:
    """A bfloat16 safetensors file with these tensors."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        row = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        header[name], offset = row, offset + size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(0)
    pool = _bytes(torch.randn(POOL, generator=generator) * STD)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        at = 0
        for name, shape in shapes.items():
            if name.endswith("bias"):
                file.write(_bytes(torch.zeros(shape)))
            elif len(shape) == 1 or name.endswith("gamma"):
                file.write(_bytes(torch.ones(shape)))
            else:
                at = _write_pool(file, pool, at, 2 * torch.Size(shape).numel())


def _write_pool(file: IO[bytes], pool: bytes, at: int, size: int) -> int:
    """Write `size` bytes of the pool from `at` on, round and round; returns where it ended."""
    while size:
        piece = memoryview(pool)[at : at + size]
        file.write(piece)
        size, at = size - len(piece), (at + len(piece)) % len(pool)
    return at


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.bfloat16().reshape(-1).view(torch.uint8).numpy().tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write_files(folder)
    write_tokenizers(folder / "tokenizers")


if __name__ == "__main__":
    main()
