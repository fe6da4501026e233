"""The null LoRA: random, with the ranks, layers and strength of a real one. What an axis reads of
it is its floor."""

from pathlib import Path

import torch

from onmodel.families.protocol import FamilySpec
from onmodel.lora.tensors import Factors, Lora, read_lora, write_lora
from onmodel.randomness import normal


def write_null(model: Path, target: Path, spec: FamilySpec, seed: int) -> None:
    """Write a LoRA whose every layer has the shape, rank, alpha and ‖ΔW‖ of `model`'s and a random
    direction."""
    lora = read_lora(model, spec)
    modules = {}
    for name, factors in lora.modules.items():
        down, up = (
            torch.from_numpy(normal(tuple(one.shape), seed, "null LoRA", name, side))
            for side, one in (("down", factors.down), ("up", factors.up))
        )
        wanted, found = _norm(factors.down, factors.up), _norm(down, up)
        modules[name] = Factors(down, up * (wanted / found), factors.alpha)
    write_lora(target, Lora(modules, lora.metadata), {})


def _norm(down: torch.Tensor, up: torch.Tensor) -> float:
    """‖up @ down‖ without the product: the trace of two small Gram matrices."""
    grams = (up.double().T @ up.double()) * (down.double() @ down.double().T)
    return float(grams.sum().clamp_min(0).sqrt())
