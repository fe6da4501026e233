"""Small LoRAs as train artifacts, and a context for the merge stage."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from onmodel.families.anima.spec import spec_of_shapes
from onmodel.families.protocol import Linear
from onmodel.ledger.lineage import add
from onmodel.lora import header
from onmodel.lora.tensors import Factors, Lora, write_lora
from onmodel.randomness import normal
from onmodel.records import Artifact
from onmodel.stages.base import Context, write_models
from tests.support.contexts import context

LAYERS = {
    "self_attn.q_proj": "attn1.to_q",
    "self_attn.output_proj": "attn1.to_out.0",
    "mlp.layer1": "ff.net.0.proj",
}


SPEC = replace(
    spec_of_shapes(2),
    presets={"all": tuple(LAYERS)},
    linears=tuple(
        Linear(f"blocks.{b}.{own}", f"transformer_blocks.{b}.{diffusers}", 24, 16, b)
        for b in range(2)
        for own, diffusers in LAYERS.items()
    ),
)


def lora(
    seed: int, rank: int = 4, alpha: float = 2.0, names: tuple[str, ...] | None = None
) -> Lora:
    modules = {}
    for linear in SPEC.linears:
        if names is None or linear.name in names:
            down = torch.from_numpy(normal((rank, 16), seed, "down", linear.name))
            modules[linear.name] = Factors(
                down, torch.from_numpy(normal((24, rank), seed, "up", linear.name)) * 0.1, alpha
            )
    return Lora(modules)


def save(folder: Path, name: str, one: Lora, origin: bool = True, **options: Any) -> Artifact:
    """A train artifact with one model, `origin` False as a file of another tool."""
    folder = folder / name
    folder.mkdir()
    lineage = add([], "checkpoint", name=name)
    facts = header.Facts(name, "someone", "MIT", "backgwa", SPEC.architecture, 96, "2026-11-22")
    write_lora(
        folder / "model.safetensors", one, header.build(facts, lineage) if origin else {}, **options
    )
    write_models(folder, [(f"{name}@30", 30, "model.safetensors")])
    return Artifact("run", name, folder)


def merge_context(scratch: Path, name: str = "merged") -> Context:
    """A context whose base is the one of these LoRAs."""
    return context(scratch, lambda: SimpleNamespace(spec=SPEC), name)


def difference(one: Lora, wanted: Mapping[str, torch.Tensor]) -> float:
    """Largest relative distance over the layers, which must be the same ones."""
    assert set(one.modules) == set(wanted)
    return max(float((one.modules[n].delta() - w).norm() / w.norm()) for n, w in wanted.items())


def deltas(*weighted: tuple[Lora, float]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for one, weight in weighted:
        for name, factors in one.modules.items():
            found[name] = found.get(name, torch.zeros(24, 16)) + weight * factors.delta()
    return found
