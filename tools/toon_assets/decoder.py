"""Trains the VAE's decoder alone on the frozen encoder's latents, for as long as it pays; the DiT
stays valid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import latents as latent_files
from . import pictures, vae
from .common import (
    SEED,
    Average,
    Clock,
    Muon,
    Settings,
    cosine,
    load_checkpoint,
    log,
    save_checkpoint,
)

NOISE = (
    0.06  # highest deviation of noise on the normalised latents: a DiT's latents are never exact
)


class Pairs:
    """Pictures of the pool with their cached latents."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.latents = latent_files.LatentPool(latent_files.folder(settings))
        self.latents.wait()
        self.images: dict[str, np.ndarray] = {}

    def batch(self, rng: np.random.Generator, bucket: str, count: int) -> tuple[Tensor, Tensor]:
        """Normalised latents [count,16,h,w] and pictures −1…1 [count,3,8h,8w]."""
        chunks = sorted(key for key, chunk in self.latents.chunks.items() if chunk.bucket == bucket)
        key = chunks[rng.integers(len(chunks))]
        if key not in self.images:
            self.images[key] = pictures.load_chunk(
                self.settings.work / "pool" / f"{key}.pkl"
            ).images
        picked = rng.integers(len(self.images[key]), size=count)
        z = torch.from_numpy(self.latents.chunks[key].latents[picked]).float()
        return z, vae.to_tensor(self.images[key][picked])


def train(settings: Settings, minutes: float = 25.0) -> None:
    """Writes work/vae_decoder.pt every two minutes with the averaged weights in "best"; resumes
    from it."""
    path = settings.work / "vae_decoder.pt"
    saved = load_checkpoint(path)
    if saved and saved["done"]:
        return
    frozen = load_checkpoint(settings.work / "vae_encoder.pt")
    flat = vae.flatten_vae(vae.make_vae())
    flat.load_state_dict(frozen["model"])
    mean, std = (
        torch.tensor(frozen[key]).view(1, -1, 1, 1) for key in ("latents_mean", "latents_std")
    )
    flat.encoder.requires_grad_(False)
    flat.quant_conv.requires_grad_(False)
    trained = torch.nn.ModuleDict(
        {"decoder": flat.decoder, "post_quant_conv": flat.post_quant_conv}
    )
    optimizer = Muon(trained.named_parameters(), rate=0.008, adam_rate=1e-3)
    average = Average(trained, 0.998)
    clock, step = Clock(), 0
    if saved:
        flat.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        clock, step = Clock(**saved["clock"]), saved["step"]
    pairs = Pairs(settings)
    rng = np.random.default_rng([SEED, 5, step])
    budget, errors = settings.minutes(minutes) * 60, []
    said = kept = clock.wall
    done = False
    while not done:
        pairs.latents.refresh()
        bucket = ("square", "portrait", "landscape", "small")[
            rng.choice(4, p=[0.6, 0.2, 0.14, 0.06])
        ]
        z, x = pairs.batch(rng, bucket, 8)
        level = torch.from_numpy(rng.random((len(z), 1, 1, 1), np.float32)) * NOISE
        z = z + level * torch.from_numpy(rng.standard_normal(z.shape, np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            loss, error = vae.decoder_loss(flat, z * std + mean, x)
        loss.backward()
        optimizer.step(cosine(clock.wall / budget))
        optimizer.zero_grad()
        average.update(trained)
        step += 1
        errors.append(error.item())
        done = clock.wall >= budget
        if done or clock.wall - said > 60:
            said = clock.wall
            log(
                settings,
                "decoder",
                f"step {step} wall {clock.wall:.0f} s cpu {clock.cpu:.0f} s "
                f"train PSNR {vae.psnr(float(np.mean(errors[-300:]))):.2f} dB",
            )
        if done or clock.wall - kept > 120:
            kept = clock.wall
            best = {**flat.state_dict(), **average.values}
            save_checkpoint(
                path,
                {
                    "model": flat.state_dict(),
                    "best": best,
                    "optimizer": optimizer.state_dict(),
                    "average": average.state_dict(),
                    "step": step,
                    "clock": clock.state(),
                    "done": done,
                },
            )
    flat.load_state_dict(best)
    images = pictures.held_out(settings.work / "pool", "square").images
    log(
        settings,
        "decoder",
        f"done: {vae.evaluate(flat, images[:300]):.2f} dB on unseen 96 px pictures",
    )
