"""Shared by the build steps: settings, log, the Muon optimiser, weight averaging and atomic
files."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

SEED = 20261122


@dataclass(frozen=True)
class Settings:
    """Where the build works and how long it may take."""

    out: Path  # the finished assets: onmodel/toon/assets
    work: Path  # picture pool, checkpoints, logs; can be deleted afterwards
    minutes_scale: float = 1.0  # 1.0 = the shipped assets; 0.02 = a smoke test
    threads: int = 1

    def minutes(self, planned: float) -> float:
        return planned * self.minutes_scale


def log(settings: Settings, step: str, text: str) -> None:
    """One dated line on stdout and in work/STATUS.txt."""
    line = f"{time.strftime('%H:%M:%S')} {step}: {text}"
    print(line, flush=True)
    with open(settings.work / "STATUS.txt", "a") as file:
        file.write(line + "\n")


def save_checkpoint(path: Path, state: dict) -> None:
    """torch.save through a temporary name, so that a stopped run never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path) -> dict | None:
    return torch.load(path, map_location="cpu", weights_only=False) if path.exists() else None


def swap_folder(built: Path, target: Path) -> None:
    """Puts the finished folder `built` in the place of `target`; readers see the old or the new
    one, briefly none."""
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.replace(target, old)
    os.replace(built, target)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


class Clock:
    """Training time that survives a restart: wall and process seconds spent so far."""

    def __init__(self, wall: float = 0.0, cpu: float = 0.0) -> None:
        self._wall, self._cpu = time.perf_counter() - wall, time.process_time() - cpu

    @property
    def wall(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def cpu(self) -> float:
        return time.process_time() - self._cpu

    def state(self) -> dict:
        return {"wall": self.wall, "cpu": self.cpu}


def cosine(progress: float, warmup: float = 0.01, floor: float = 0.02) -> float:
    """Learning-rate factor at `progress` in 0..1."""
    if progress < warmup:
        return max(progress / warmup, 0.02)
    phase = min((progress - warmup) / (1 - warmup), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * phase))


def orthogonalize(matrices_nab: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrices, batched (Jordan et al.,
    Muon, 2024)."""
    x = matrices_nab.bfloat16()
    transposed = x.shape[1] > x.shape[2]
    if transposed:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.transpose(1, 2) if transposed else x).float()


class Muon:
    """Muon on weights of two or more dimensions, AdamW on the rest; equal shapes share one
    Newton-Schulz call."""

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        rate: float,
        adam_rate: float,
        adam_names: tuple[str, ...] = (),
        weight_decay: float = 0.01,
    ) -> None:
        self.rate, self.adam_rate, self.decay = rate, adam_rate, weight_decay
        self.groups: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        rest = []
        for name, parameter in named:
            if (
                parameter.ndim >= 2
                and min(parameter.flatten(1).shape) >= 8
                and not any(n in name for n in adam_names)
            ):
                self.groups[tuple(parameter.flatten(1).shape)].append(parameter)
            else:
                rest.append(parameter)
        self.momentum = {
            shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()
        }
        self.adam = torch.optim.AdamW(rest, lr=adam_rate, betas=(0.9, 0.99), weight_decay=0.0)

    @torch.no_grad()
    def step(self, factor: float = 1.0) -> None:
        for shape, group in self.groups.items():
            gradient = torch.stack([p.grad.flatten(1) for p in group])
            momentum = self.momentum[shape].lerp_(gradient, 0.05)
            update = orthogonalize(gradient.lerp(momentum, 0.95))
            scale = self.rate * factor * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, change in zip(group, update, strict=True):
                parameter.mul_(1 - self.rate * factor * self.decay)
                parameter.add_(change.view(parameter.shape), alpha=-scale)
        for options in self.adam.param_groups:
            options["lr"] = self.adam_rate * factor
        self.adam.step()

    def zero_grad(self) -> None:
        for group in self.groups.values():
            for parameter in group:
                parameter.grad = None
        self.adam.zero_grad()

    def state_dict(self) -> dict:
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.momentum = state["momentum"]
        self.adam.load_state_dict(state["adam"])


class Average:
    """Exponential moving average of parameters, with a short memory at the start."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.count = decay, 0
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        names = [n for n, _ in module.named_parameters()]
        torch._foreach_lerp_(
            [self.values[n] for n in names], [p.data for p in module.parameters()], 1 - decay
        )

    def state_dict(self) -> dict:
        return {"count": self.count, "values": self.values}

    def load_state_dict(self, state: dict) -> None:
        self.count, self.values = state["count"], state["values"]
