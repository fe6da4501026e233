"""Pictures that the toon base drew, for observers that must read a model's pictures and not only
renders."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onmodel.toon.attributes import Toon
from onmodel.toon.captions import tags
from onmodel.toon.draw import draw

from . import pictures, sample
from .common import SEED, Settings, load_checkpoint, save_checkpoint
from .identity import Redrawn

SIZES = ((96, 96), (80, 112), (112, 80))
Shown = tuple[list[np.ndarray], list[Toon]]  # pictures uint8 [H,W,3] and what each shows


def pool_pictures(settings: Settings, each: int = 3) -> Shown:
    """`each` chunks of the picture pool of every shape but the smallest; none that is held out."""
    chunks = [
        pictures.load_chunk(path)
        for bucket in ("square", "portrait", "landscape")
        for path in sorted((settings.work / "pool").glob(f"{bucket}-*.pkl"))[:each]
        if f"{pictures.HELD_OUT_CHUNK:04d}" not in path.stem
    ]
    return [image for chunk in chunks for image in chunk.images], [
        toon for chunk in chunks for toon in chunk.toons
    ]


def _kept(settings: Settings, name: str, make: Callable[[], Shown]) -> Shown:
    path = settings.work / f"{name}.pt"
    if not path.exists():
        images, toons = make()
        save_checkpoint(path, {"images": images, "toons": toons})
    saved = load_checkpoint(path)
    return saved["images"], saved["toons"]


def redrawn_pictures(settings: Settings, stream: int, count: int) -> Shown:
    """Renders noised to t ≤ 0.5 and denoised by the base: all is where the renderer had it. Kept in
    work."""

    def make() -> Shown:
        rng = np.random.default_rng([SEED, 12, stream])
        asked = sample.unseen_toons(max(int(count * min(settings.minutes_scale, 1)), 40), stream)
        renders = [np.asarray(draw(toon, *SIZES[rng.integers(3)])) for toon in asked]
        redraw = Redrawn(settings, rng)
        images, toons = [], []
        for places in redraw.batches(renders, share=1.0):
            shown = [asked[i] for i in places]
            images += list(redraw([renders[i] for i in places], shown))
            toons += shown
        return images, toons

    return _kept(settings, f"redrawn_{stream}", make)


def made_pictures(settings: Settings, stream: int, count: int) -> Shown:
    """Pictures from pure noise and tags, as users get them: a third of each shape. Kept in work."""

    def make() -> Shown:
        toons = sample.unseen_toons(max(int(count * min(settings.minutes_scale, 1)), 30), stream)
        redraw = Redrawn(settings, np.random.default_rng(0))
        images: list[np.ndarray] = []
        for i, (width, height) in enumerate(SIZES):
            prompts = [", ".join(tags(toon)) for toon in toons[i::3]]
            images += list(
                sample.render(
                    redraw.model, redraw.side, redraw.decoder, prompts, width, height, seed=stream
                )
            )
        return images, [toon for i in range(len(SIZES)) for toon in toons[i::3]]

    return _kept(settings, f"made_{stream}", make)
