"""The picture pool: toons drawn once into uint8 files, chunk by chunk, and read back as arrays.

Beside the toons of the WORLD it shows a cast of named characters, so that the base learns what a
name is for.
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onmodel.toon.attributes import BACKGWA, OTHER, VOCABULARY, Toon, ToonCharacter, sample_toon
from onmodel.toon.datasets import FREE
from onmodel.toon.draw import draw

from .common import SEED, Settings, log

# bucket → (width, height, pictures of the WORLD, pictures of the cast)
BUCKETS: dict[str, tuple[int, int, int, int]] = {
    "square": (96, 96, 22_000, 11_000),
    "portrait": (80, 112, 8_000, 4_000),
    "landscape": (112, 80, 6_000, 3_000),
    "small": (64, 64, 6_000, 3_000),
}
CHUNK = 1000
CAST_CHUNK = 1000  # index of the first chunk that shows the cast
HELD_OUT_CHUNK = 9000  # index of the chunk that no training step reads
SYLLABLES = [c + v for c in "bcdfghjklmnprstvwxyz" for v in "aeiou"]


def _cast(count: int = 200) -> dict[str, ToonCharacter]:
    """Made-up names and their designs: everything about a toon that is not free to change from
    picture to picture."""
    rng = np.random.default_rng([SEED, 6])
    cast: dict[str, ToonCharacter] = {}
    while len(cast) < count:
        name = "".join(rng.choice(SYLLABLES, size=rng.integers(2, 4))) + str(
            rng.choice(["", "", "n", "s"])
        )
        toon = sample_toon(rng)
        if name not in cast and name not in (BACKGWA.trigger, OTHER.trigger):
            traits = {key: getattr(toon, key) for key in VOCABULARY if key not in FREE}
            cast[name] = ToonCharacter(name.capitalize(), name, traits)
    return cast


CAST = _cast()


def _appear(character: ToonCharacter, rng: np.random.Generator) -> Toon:
    """The character in one situation, one time in five in other clothes."""
    other = sample_toon(rng)
    keys = {*FREE, "nuisance"} | ({"outfit", "outfit_color"} if rng.random() < 0.2 else set())
    return character.toon(**{key: getattr(other, key) for key in keys})


@dataclass(frozen=True)
class Chunk:
    """`images` uint8 [N,H,W,3], the toons they show, and who of the CAST each is ("" for
    nobody)."""

    bucket: str
    images: np.ndarray
    toons: list[Toon]
    names: list[str]


def _path(folder: Path, bucket: str, index: int) -> Path:
    return folder / f"{bucket}-{index:04d}.pkl"


def draw_chunk(folder: Path, bucket: str, index: int, count: int) -> Path:
    """Draws one chunk if its file is missing. The content depends on SEED, bucket and index
    alone."""
    path = _path(folder, bucket, index)
    if path.exists():
        return path
    width, height, _, _ = BUCKETS[bucket]
    rng = np.random.default_rng([SEED, list(BUCKETS).index(bucket), index])
    if CAST_CHUNK <= index < HELD_OUT_CHUNK:
        names = [str(name) for name in rng.choice(list(CAST), size=count)]
        toons = [_appear(CAST[name], rng) for name in names]
    else:
        names, toons = [""] * count, [sample_toon(rng) for _ in range(count)]
    images = np.stack([np.asarray(draw(toon, width, height)) for toon in toons])
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        pickle.dump((images, toons, names), file, protocol=5)
    temporary.rename(path)
    return path


def plan(settings: Settings) -> list[tuple[str, int, int]]:
    """(bucket, chunk index, pictures) of the whole pool, buckets interleaved so that early chunks
    cover all."""
    jobs = []
    for bucket, (_, _, *totals) in BUCKETS.items():
        for first, total in zip((0, CAST_CHUNK), totals, strict=True):
            count = max(int(total * min(settings.minutes_scale, 1.0)), 96)
            jobs += [
                (i / (count / CHUNK), (bucket, first + i, min(CHUNK, count - i * CHUNK)))
                for i in range(-(-count // CHUNK))
            ]
    return [job for _, job in sorted(jobs)]


def build(settings: Settings, folder: Path | None = None) -> None:
    """Draws the pool; running it again only draws what is missing."""
    folder = folder or settings.work / "pool"
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    held_out = [
        (bucket, HELD_OUT_CHUNK, max(int(400 * min(settings.minutes_scale, 1)), 32))
        for bucket in BUCKETS
    ]
    jobs = held_out + plan(settings)
    for job in jobs:
        draw_chunk(folder, *job)
    log(
        settings,
        "pictures",
        f"{sum(j[2] for j in jobs)} drawn in {time.perf_counter() - started:.0f} s",
    )


def start_worker(settings: Settings, folder: Path | None = None) -> multiprocessing.Process:
    """Draws the pool in another process while the caller trains on what is there."""
    process = multiprocessing.get_context("spawn").Process(
        target=build, args=(settings, folder), daemon=True
    )
    process.start()
    return process


def load_chunk(path: Path) -> Chunk:
    with open(path, "rb") as file:
        images, toons, names = pickle.load(file)
    return Chunk(path.name.rpartition("-")[0], images, toons, names)


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

    def images(
        self, rng: np.random.Generator, bucket: str, count: int, crop: int | None = None
    ) -> np.ndarray:
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
