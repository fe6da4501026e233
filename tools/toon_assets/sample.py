"""Sampling from the toon base in training and measuring: batched Euler with guidance, on collapsed
text rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image
from torch import Tensor

from onmodel.toon.attributes import Toon, sample_toon
from onmodel.toon.captions import tags

from . import text, vae
from .common import SEED, Settings, load_checkpoint, log

if TYPE_CHECKING:
    from .base import Base

STEPS, GUIDANCE, SHIFT = 20, 4.0, 3.0  # the base's own defaults


def make_scheduler(shift: float = SHIFT) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)


def sigmas(steps: int, shift: float) -> list[float]:
    """The noise levels the modular pipeline uses, ending in 0."""
    even = np.linspace(1.0, 1 / steps, steps)
    return [*(shift * even / (1 + (shift - 1) * even)), 0.0]


@torch.no_grad()
def sample_latents(
    model: Base,
    side: text.TextSide,
    prompts: list[str],
    noise: Tensor,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    shift: float = SHIFT,
    negative: str = "",
    precise: bool = False,
) -> Tensor:
    """Normalised latents [B,16,h,w] for the prompts, from the given noise of that shape."""
    return denoise(model, side, prompts, noise, sigmas(steps, shift), guidance, negative, precise)


@torch.no_grad()
def denoise(
    model: Base,
    side: text.TextSide,
    prompts: list[str],
    x: Tensor,
    levels: Sequence[float],
    guidance: float = 1.0,
    negative: str = "",
    precise: bool = False,
) -> Tensor:
    """Euler steps of latents x [B,16,h,w] at noise `levels[0]` through all levels; guidance 1 takes
    no negative."""
    from . import base

    count = len(prompts)
    both = side.inputs([*prompts, *[negative] * count] if guidance != 1 else prompts)
    rows, bias = text.condition(model.conditioner, both)
    for level, following in itertools.pairwise(levels):
        doubled = torch.cat([x, x]) if guidance != 1 else x
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            v = base.velocity(
                model.transformer,
                doubled,
                torch.full((len(doubled),), level),
                rows,
                bias,
                fast=False,
            )
        v = v.float()
        if guidance != 1:
            v = v[count:] + guidance * (v[:count] - v[count:])
        x = x + (following - level) * v
    return x


class Decoder:
    """Latents → uint8 pictures, with the newest decoder there is."""

    def __init__(self, settings: Settings) -> None:
        frozen = load_checkpoint(settings.work / "vae_encoder.pt")
        newer = load_checkpoint(settings.work / "vae_decoder.pt")
        self.flat = vae.flatten_vae(vae.make_vae())
        self.flat.load_state_dict((newer or frozen)["best" if newer else "model"])
        self.mean, self.std = (
            torch.tensor(frozen[key]).view(1, -1, 1, 1) for key in ("latents_mean", "latents_std")
        )

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> np.ndarray:
        parts = []
        for start in range(0, len(latents), 16):
            with torch.autocast("cpu", torch.bfloat16):
                y = vae.decode(self.flat, latents[start : start + 16] * self.std + self.mean)
            parts.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        return np.concatenate(parts)


def noise_for(seed: int, count: int, width: int, height: int) -> Tensor:
    return torch.randn(
        count, 16, height // 8, width // 8, generator=torch.Generator().manual_seed(seed)
    )


def unseen_toons(count: int, stream: int, **fixed: str) -> list[Toon]:
    """Toons from a stream that no training picture came from."""
    rng = np.random.default_rng([SEED, 100 + stream])
    return [sample_toon(rng, **fixed) for _ in range(count)]


def render(
    model: Base,
    side: text.TextSide,
    decoder: Callable[[Tensor], np.ndarray],
    prompts: list[str],
    width: int = 96,
    height: int = 96,
    seed: int = 0,
    **options: float,
) -> np.ndarray:
    """uint8 [N,H,W,3] pictures of the prompts; picture i starts from the i-th noise of the seed."""
    out = []
    noise = noise_for(seed, len(prompts), width, height)
    for start in range(0, len(prompts), 50):
        part = slice(start, start + 50)
        out.append(decoder(sample_latents(model, side, prompts[part], noise[part], **options)))
    return np.concatenate(out)


def tile(images: np.ndarray, columns: int, gap: int = 2, zoom: int = 1) -> Image.Image:
    """Pictures [N,H,W,3] in rows."""
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + gap), rows * (height + gap)), (40, 40, 40))
    for i, image in enumerate(images):
        sheet.paste(
            Image.fromarray(image), ((i % columns) * (width + gap), (i // columns) * (height + gap))
        )
    return (
        sheet.resize((sheet.width * zoom, sheet.height * zoom), Image.Resampling.NEAREST)
        if zoom > 1
        else sheet
    )


def draw_grid(
    settings: Settings, values: dict[str, Tensor], side: text.TextSide, path: Path
) -> None:
    """Real renders of 30 unseen toons above the base's pictures of their tags."""
    from onmodel.toon.draw import draw

    from . import base

    model = base.averaged(settings, side, values)
    toons = unseen_toons(30, 0)
    images = render(model, side, Decoder(settings), [", ".join(tags(toon)) for toon in toons])
    real = np.stack([np.asarray(draw(toon, 96, 96)) for toon in toons])
    rows = [part[i : i + 10] for i in range(0, 30, 10) for part in (real, images)]
    tile(np.concatenate(rows), 10, zoom=2).save(path)
    log(settings, "base", f"grid {path}")
