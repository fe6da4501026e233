"""The picture pool: toons drawn once into uint8 files, chunk by chunk, and read back as arrays."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onmodel.toon.attributes import Toon, sample_toon
from onmodel.toon.draw import draw

from .common import SEED, Settings, log

# bucket → (width, height, pictures in the pool)
BUCKETS: dict[str, tuple[int, int, int]] = {
    "square": (96, 96, 22_000),
    "portrait": (80, 112, 8_000),
    "landscape": (112, 80, 6_000),
    "small": (64, 64, 6_000),
}
CHUNK = 1000
HELD_OUT_CHUNK = 9000  # index of the chunk that no training step reads


@dataclass(frozen=True)
class Chunk:
    """`images` uint8 [N,H,W,3] and the toons they show."""

    bucket: str
    images: np.ndarray
    toons: list[Toon]


def _path(folder: Path, bucket: str, index: int) -> Path:
    return folder / f"{bucket}-{index:04d}.pkl"


def draw_chunk(folder: Path, bucket: str, index: int, count: int) -> Path:
    """Draws one chunk if its file is missing. The content depends on SEED, bucket and index alone."""
    path = _path(folder, bucket, index)
    if path.exists():
        return path
    width, height, _ = BUCKETS[bucket]
    rng = np.random.default_rng([SEED, list(BUCKETS).index(bucket), index])
    toons = [sample_toon(rng) for _ in range(count)]
    images = np.stack([np.asarray(draw(toon, width, height)) for toon in toons])
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        pickle.dump((images, toons), file, protocol=5)
    temporary.rename(path)
    return path


def plan(settings: Settings) -> list[tuple[str, int, int]]:
    """(bucket, chunk index, pictures) of the whole pool, buckets interleaved so that early chunks cover all."""
    jobs = []
    for bucket, (_, _, total) in BUCKETS.items():
        count = max(int(total * min(settings.minutes_scale, 1.0)), 96)
        jobs += [(i / (count / CHUNK), (bucket, i, min(CHUNK, count - i * CHUNK))) for i in range(-(-count // CHUNK))]
    return [job for _, job in sorted(jobs)]


def build(settings: Settings, folder: Path | None = None) -> None:
    """Draws the pool; running it again only draws what is missing."""
    folder = folder or settings.work / "pool"
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    held_out = [(bucket, HELD_OUT_CHUNK, max(int(400 * min(settings.minutes_scale, 1)), 32)) for bucket in BUCKETS]
    jobs = held_out + plan(settings)
    for job in jobs:
        draw_chunk(folder, *job)
    log(settings, "pictures", f"{sum(j[2] for j in jobs)} drawn in {time.perf_counter() - started:.0f} s")


def start_worker(settings: Settings, folder: Path | None = None) -> multiprocessing.Process:
    """Draws the pool in another process while the caller trains on what is there."""
    process = multiprocessing.get_context("spawn").Process(target=build, args=(settings, folder), daemon=True)
    process.start()
    return process


def load_chunk(path: Path) -> Chunk:
    with open(path, "rb") as file:
        images, toons = pickle.load(file)
    return Chunk(path.name.rpartition("-")[0], images, toons)


def held_out(folder: Path, bucket: str) -> Chunk:
    return load_chunk(_path(folder, bucket, HELD_OUT_CHUNK))


class Pool:
    """Grows with the files on disk; chunks stay in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chunks: dict[str, Chunk] = {}
        self._looked = 0.0

    def refresh(self, every_s: float = 10.0) -> None:
        if time.perf_counter() - self._looked < every_s:
            return
        self._looked = time.perf_counter()
        for path in sorted(self.folder.glob("*.pkl")):
            if path.stem not in self.chunks and f"{HELD_OUT_CHUNK:04d}" not in path.stem:
                self.chunks[path.stem] = load_chunk(path)

    def wait(self, chunks: int) -> None:
        while len(self.chunks) < chunks:
            self.refresh(0.5)
            time.sleep(0.5)

    def bucket(self, name: str) -> list[Chunk]:
        return [chunk for chunk in self.chunks.values() if chunk.bucket == name]

    def images(self, rng: np.random.Generator, bucket: str, count: int, crop: int | None = None) -> np.ndarray:
        """uint8 [count,h,w,3], random pictures of a bucket, optionally randomly cropped squares."""
        chunks = self.bucket(bucket)
        out = []
        for _ in range(count):
            chunk = chunks[rng.integers(len(chunks))]
            image = chunk.images[rng.integers(len(chunk.images))]
            if crop:
                y, x = (int(rng.integers(side - crop + 1)) for side in image.shape[:2])
                image = image[y : y + crop, x : x + crop]
            out.append(image)
        return np.stack(out)
