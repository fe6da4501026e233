"""Small LoRA files and checkpoints with Anima's names, written without torch."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from onmodel.families.anima.spec import spec_of_shapes
from onmodel.families.protocol import FamilySpec
from onmodel.ledger.lineage import Lineage
from onmodel.lora.factors import Factors, LayerShape
from onmodel.lora.file import LoraFile
from onmodel.lora.header import Facts, build
from onmodel.lora.layouts import Layout
from onmodel.lora.writing import FileFormat, LoraTensors
from onmodel.randomness import normal
from onmodel.weights import Entry, WeightsFile, encode, stream_weights, written_order

SHAPES = {
    f"blocks.{block}.{name}": shape
    for block in range(3)
    for name, shape in {
        "self_attn.q_proj": (24, 24),
        "self_attn.output_proj": (24, 24),
        "mlp.layer1": (64, 24),
        "mlp.layer2": (24, 64),
    }.items()
}
SPEC: FamilySpec = spec_of_shapes(3, SHAPES)
NORM = "blocks.0.self_attn.q_norm.weight"


def factors(
    name: str, seed: int, rank: int = 4, alpha: float = 2.0, fade: float = 0.8
) -> Factors[np.ndarray]:
    out, in_ = SHAPES[name]
    down, up = normal((rank, in_), seed, "down", name), normal((out, rank), seed, "up", name) * 0.1
    return Factors(down * np.float32(fade) ** np.arange(rank, dtype=np.float32)[:, None], up, alpha)


def write(
    path: Path,
    seed: int,
    rank: int = 4,
    alpha: float = 2.0,
    layout: Layout = "common",
    dtype: str = "F32",
    names: Iterable[str] = tuple(SHAPES),
    history: Lineage | None = None,
    **words: str,
) -> Path:
    """A LoRA file; with `history` one of ours, without it one of another tool."""
    names = tuple(names)
    metadata = words | {"ss_network_alpha": f"{alpha:g}"}
    if history is not None:
        metadata |= build(
            Facts(path.stem, "someone", "MIT", "backgwa", "anima-base-v1.0", 96, "2026-11-22"),
            history,
        )
    LoraTensors(
        {name: LayerShape(*SHAPES[name], rank) for name in names},
        dict.fromkeys(names, alpha),
        lambda name: factors(name, seed, rank, alpha),
        FileFormat(layout, dtype),
    ).stream(path, metadata)
    return path


def deltas(path: Path, spec: FamilySpec = SPEC) -> dict[str, np.ndarray]:
    """Every layer's ΔW in fp64."""
    with LoraFile(path, spec) as file:
        found = {}
        for name in file.layers:
            one = file.factors(name)
            found[name] = one.scale * (one.up.astype(float) @ one.down.astype(float))
        return found


def weighted(*pairs: tuple[Path, float]) -> dict[str, np.ndarray]:
    """Σ w·ΔW, a layer that a file lacks being zero."""
    total: dict[str, np.ndarray] = {}
    for path, weight in pairs:
        for name, delta in deltas(path).items():
            total[name] = total.get(name, 0) + weight * delta
    return total


def distance(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """Largest relative distance over the layers, which must be the same ones."""
    assert set(one) == set(other)
    return max(
        float(np.linalg.norm(one[n] - other[n]) / max(np.linalg.norm(other[n]), 1e-30))
        for n in other
    )


def write_checkpoint(
    path: Path,
    dtype: str = "BF16",
    prefix: str = "net.",
    change: Callable[[str, np.ndarray], np.ndarray] | None = None,
) -> Path:
    """A whole, tiny transformer: its layers, the patch embedding, and a norm that no LoRA can
    hold."""
    tensors = {f"{name}.weight": normal(shape, 0, "base", name) for name, shape in SHAPES.items()}
    tensors["x_embedder.proj.1.weight"], tensors[NORM] = (
        normal((24, 8), 0, "patch"),
        np.ones(8, np.float32),
    )
    tensors["llm_adapter.embed.weight"] = normal((5, 8), 0, "embed")
    if change is not None:
        tensors = {
            key: change(key.removesuffix(".weight"), tensor) for key, tensor in tensors.items()
        }
    entries = {prefix + key: Entry(dtype, tensor.shape) for key, tensor in tensors.items()}
    pieces = (encode(tensors[key.removeprefix(prefix)], dtype) for key in written_order(entries))
    stream_weights(path, entries, pieces, {"from": "elsewhere"})
    return path


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    with WeightsFile(path, "file") as file:
        return {key: file.read(key) for key in file.entries}
