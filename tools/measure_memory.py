"""Compare the memory plan with the peak of real steps on this machine's CPU (Linux), and loading
with the files' size.

.venv/bin/python tools/measure_memory.py step     a transformer of width 1024 and 4 blocks, at 512
and 768 px .venv/bin/python tools/measure_memory.py load 28  random files of Anima's shapes with so
many blocks (28: 5.6 GB) in a
                                                  temporary folder
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from onmodel.families.anima.load import source
from onmodel.families.anima.memory import AnimaOutline, make_outline
from onmodel.families.anima.parts import build, check, empty
from onmodel.families.anima.single_file import single_source
from onmodel.families.anima.spec import PUBLISHED
from onmodel.families.anima.text import AnimaText
from onmodel.families.protocol import Place
from onmodel.train.adapters import attached
from onmodel.train.memory import peak_bytes
from onmodel.train.networks import make_network, trained_layers
from onmodel.train.objective import denoising_loss
from onmodel.train.options import Options

OPTIONS = Options(epochs=1, learning_rate=1e-4, rank=16, alpha=16, batch=1, precision="bf16")
BLOCKS, HEADS = 4, 8
STEP_CASES = [(side, twice, "bfloat16") for side in (512, 768) for twice in (0, 1)]
# glibc keeps freed blocks of up to 32 MB in a heap that they leave in pieces; with the threshold
# they are given back.
ALLOCATORS: dict[str, dict[str, str]] = {
    "glibc": {},
    "glibc, given back": {"MALLOC_MMAP_THRESHOLD_": "131072"},
}


def resident(name: str) -> int:
    """A field of /proc/self/status in bytes: VmRSS, or VmHWM for its peak."""
    line = next(
        row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(name)
    )
    return int(line.split()[1]) * 1024


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def outline(blocks: int = BLOCKS, heads: int = HEADS) -> AnimaOutline:
    """A transformer of Anima's kind; its text encoder and VAE are not there."""
    config = {**PUBLISHED["transformer"], "num_layers": blocks, "num_attention_heads": heads}
    conditioner = {**PUBLISHED["text_conditioner"], "num_layers": 0, "target_vocab_size": 2}
    models = {
        "transformer": empty("transformer", config),
        "text_conditioner": empty("text_conditioner", conditioner),
    }
    return AnimaOutline(models, {}, ())


def real_step(side: int, checkpointing: bool, dtype: torch.dtype, shapes: AnimaOutline) -> None:
    """A step as the training loop takes it, on random numbers; the optimizer has its moments before
    it."""
    family = shapes.shadow(shapes.spec.blocks, dtype)
    with torch.no_grad():
        for parameter in family.backbone.parameters():
            parameter.normal_(0, 0.02)
    adapters = make_network(
        family, OPTIONS, trained_layers(family.spec, OPTIONS), 0, torch.device("cpu")
    )
    torch.nn.init.normal_(adapters.flat, std=0.02)
    optimizer = torch.optim.AdamW([adapters.flat], lr=1e-4, fused=True)
    latents = torch.randn(OPTIONS.batch, 16, side // 8, side // 8)
    texts = [AnimaText(torch.randn(512, 1024, dtype=dtype), 0)] * OPTIONS.batch
    if checkpointing:
        family.backbone.enable_gradient_checkpointing()
    with attached(family, adapters, torch.bfloat16), family.training():
        optimizer.step()
        t_b = torch.full((OPTIONS.batch,), 0.5)
        with adapters.low_precision(torch.bfloat16):
            losses = denoising_loss(family, latents, torch.randn_like(latents), t_b, texts)
            losses.mean().backward()
        optimizer.step()


def one_step_case(side: int, checkpointing: bool, dtype: torch.dtype) -> None:
    """Print planned and measured bytes as JSON. A tiny step first, so that libraries are loaded
    before the count."""
    real_step(64, checkpointing, dtype, outline(2, 1))
    before = resident("VmRSS")
    reset_peak()
    shapes = outline()
    started = time.process_time()
    real_step(side, checkpointing, dtype, shapes)
    measured = resident("VmHWM") - before
    planned = peak_bytes(shapes, OPTIONS, dtype, side, checkpointing)
    print(
        json.dumps(
            {"planned": planned, "measured": measured, "seconds": time.process_time() - started}
        )
    )


def write_random(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A bfloat16 file with these tensors, written in pieces. Every value is small and finite."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {
            "dtype": "BF16",
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    piece = (torch.randn(2**21) * 0.02).bfloat16().view(torch.uint8).numpy().tobytes()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for start in range(0, offset, len(piece)):
            file.write(piece[: offset - start])


def write_files(
    folder: Path, blocks: int, names: Sequence[str] = ("dit", "text_encoder", "vae")
) -> dict[str, Path]:
    """The files with the published shapes but for the transformer's blocks, in ComfyUI's layout."""
    from onmodel.families.anima.lora_layouts import transformer_name, vae_name

    def shapes(role: str) -> dict[str, tuple[int, ...]]:
        config = (
            {**PUBLISHED[role], "num_layers": blocks} if role == "transformer" else PUBLISHED[role]
        )
        return {
            name: tuple(tensor.shape) for name, tensor in empty(role, config).state_dict().items()
        }

    dit = {f"net.{transformer_name(name)}": shape for name, shape in shapes("transformer").items()}
    dit |= {f"net.llm_adapter.{name}": shape for name, shape in shapes("text_conditioner").items()}
    files = {
        "dit": dit,
        "text_encoder": {f"model.{name}": shape for name, shape in shapes("text_encoder").items()},
        "vae": {
            vae_name(name, PUBLISHED["vae"]["num_res_blocks"]): shape
            for name, shape in shapes("vae").items()
        },
    }
    for name in names:
        write_random(folder / f"{name}.safetensors", files[name])
    return {name: folder / f"{name}.safetensors" for name in names}


def load_case(paths: dict[str, Path]) -> None:
    """Print the files' bytes and what the process grew by while it loaded them, at its peak and in
    the end."""
    places = {
        "transformer": "dit",
        "text_conditioner": "dit",
        "text_encoder": "text_encoder",
        "vae": "vae",
    }
    check(single_source("vae", paths["vae"], "vae"))  # libraries are loaded before the count
    before, started = resident("VmRSS"), time.process_time()
    reset_peak()
    there = {role: Place(name, paths[name], single=True) for role, name in places.items()}
    blocks = make_outline(there, ()).spec.blocks
    sources = [source(role, place) for role, place in there.items()]
    parts = [build(one, torch.bfloat16, "cpu") for one in sources]
    row: dict[str, Any] = {
        "blocks": blocks,
        "files": sum(path.stat().st_size for path in paths.values()),
        "parts": len(parts),
        "peak": resident("VmHWM") - before,
        "after": resident("VmRSS") - before,
        "seconds": time.process_time() - started,
    }
    print(json.dumps(row))


def child(*words: object, **environment: str) -> dict[str, Any]:
    command = [sys.executable, __file__, *map(str, words)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return dict(json.loads(done.stdout))


def main() -> None:
    match sys.argv[1:]:
        case ["step"]:
            for side, twice, dtype in STEP_CASES:
                for allocator, environment in ALLOCATORS.items():
                    row = child("step", side, twice, dtype, **environment)
                    planned, measured = row["planned"] / 2**20, row["measured"] / 2**20
                    print(
                        f"{dtype:8} {side} px  checkpointing {twice}  {allocator:18} planned"
                        f" {planned:6.0f} MiB  measured {measured:6.0f} MiB "
                        f" {planned / measured - 1:+.1%}  {row['seconds']:.0f} CPU s",
                        flush=True,
                    )
        case ["step", side, twice, dtype]:
            one_step_case(int(side), bool(int(twice)), getattr(torch, dtype))
        case ["load", blocks]:
            with tempfile.TemporaryDirectory() as folder:
                paths = write_files(Path(folder), int(blocks))
                row = child("load", *paths.values())
            print(
                {
                    key: f"{value / 2**20:.0f} MiB" if value > 1e6 else value
                    for key, value in row.items()
                }
            )
        case ["load", dit, text_encoder, vae]:
            load_case({"dit": Path(dit), "text_encoder": Path(text_encoder), "vae": Path(vae)})
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
