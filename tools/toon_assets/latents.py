"""Encodes the picture pool with the frozen encoder, once; the DiT and the decoder train on these
files."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from onmodel.toon.attributes import Toon

from . import pictures, vae
from .common import Settings, load_checkpoint, log


@dataclass(frozen=True)
class LatentChunk:
    """`latents` float16 [N,16,h,w], normalised to mean 0 and deviation 1 a channel; the rest as in
    a Chunk."""

    bucket: str
    latents: np.ndarray
    toons: list[Toon]
    names: list[str]


def folder(settings: Settings) -> Path:
    return settings.work / "latents"


def build(settings: Settings) -> None:
    """Draws and encodes every chunk of the pool that is missing; chunks appear in the order of
    pictures.plan."""
    torch.set_num_threads(1)
    saved = load_checkpoint(settings.work / "vae_encoder.pt")
    flat = vae.flatten_vae(vae.make_vae())
    flat.load_state_dict(saved["model"])
    mean, std = (
        torch.tensor(saved[key]).view(1, -1, 1, 1) for key in ("latents_mean", "latents_std")
    )
    encode_pool(settings, folder(settings), lambda images: (_encode(flat, images) - mean) / std)


def encode_pool(settings: Settings, folder: Path, encode: Callable[[np.ndarray], Tensor]) -> None:
    """Write the normalised latents that `encode` makes of uint8 pictures [N,H,W,3] for every chunk
    that `folder` lacks."""
    pool = settings.work / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    jobs = [(bucket, pictures.HELD_OUT_CHUNK, 400) for bucket in pictures.BUCKETS] + pictures.plan(
        settings
    )
    for bucket, index, count in jobs:
        path = folder / f"{bucket}-{index:04d}.pkl"
        if path.exists():
            continue
        chunk = pictures.load_chunk(pictures.draw_chunk(pool, bucket, index, count))
        latents = torch.cat(
            [encode(chunk.images[i : i + 32]).half() for i in range(0, len(chunk.images), 32)]
        )
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            pickle.dump((latents.numpy(), chunk.toons, chunk.names), file, protocol=5)
        temporary.rename(path)
    log(settings, "latents", f"{len(jobs)} chunks in {time.perf_counter() - started:.0f} s")


@torch.no_grad()
def _encode(flat: torch.nn.Module, images: np.ndarray) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return vae.encode(flat, vae.to_tensor(images))[0]


def start_worker(settings: Settings) -> multiprocessing.Process:
    process = multiprocessing.get_context("spawn").Process(
        target=build, args=(settings,), daemon=True
    )
    process.start()
    return process


def load(path: Path) -> LatentChunk:
    with open(path, "rb") as file:
        latents, toons, names = pickle.load(file)
    return LatentChunk(path.name.rpartition("-")[0], latents, toons, names)


class LatentPool:
    """Latents of every chunk on disk, growing while the worker encodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chunks: dict[str, LatentChunk] = {}
        self.buckets: dict[str, list[LatentChunk]] = {}
        self._looked = 0.0

    def refresh(self, every_s: float = 10.0) -> None:
        if time.perf_counter() - self._looked < every_s:
            return
        self._looked = time.perf_counter()
        for path in sorted(self.folder.glob("*.pkl")):
            if path.stem not in self.chunks and f"{pictures.HELD_OUT_CHUNK:04d}" not in path.stem:
                chunk = self.chunks[path.stem] = load(path)
                self.buckets.setdefault(chunk.bucket, []).append(chunk)

    def wait(self) -> None:
        """Until every bucket has a chunk."""
        while len(self.buckets) < len(pictures.BUCKETS):
            self.refresh(0.5)
            time.sleep(0.5)

    def batch(
        self, rng: np.random.Generator, bucket: str, count: int
    ) -> tuple[Tensor, list[Toon], list[str]]:
        """float32 [count,16,h,w], their toons and the names of who they are."""
        latents, toons, names = [], [], []
        chunks = self.buckets[bucket]
        for _ in range(count):
            chunk = chunks[rng.integers(len(chunks))]
            index = int(rng.integers(len(chunk.toons)))
            latents.append(chunk.latents[index])
            toons.append(chunk.toons[index])
            names.append(chunk.names[index])
        return torch.from_numpy(np.stack(latents)).float(), toons, names
