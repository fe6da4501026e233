"""Trains a small AutoencoderKL on the picture pool: latents of 4 channels at a quarter of the
sides, as many numbers a picture as the Anima toon base has."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from .. import pictures
from ..common import (
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
from ..vae import KL_WEIGHT, psnr, reconstruction, to_tensor

FACTOR = 4  # pixels a side of a latent
CHANNELS = 4
CONFIG = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (16, 40, 64),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": CHANNELS,
    "sample_size": 96,
    "force_upcast": False,
}


def make_vae() -> AutoencoderKL:
    torch.manual_seed(SEED + 10)
    return AutoencoderKL(**CONFIG)


def encode(vae: AutoencoderKL, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures −1…1 → mean and log variance of the latents, [B,4,H/4,W/4] each."""
    mean, log_variance = vae.quant_conv(vae.encoder(x_bchw)).float().chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def decode(vae: AutoencoderKL, z: Tensor) -> Tensor:
    """Unscaled latents → pictures about −1…1."""
    return vae.decoder(vae.post_quant_conv(z)).float()


def joint_loss(vae: AutoencoderKL, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, and the mean squared error of the pictures."""
    mean, log_variance = encode(vae, x)
    y = decode(vae, mean + noise * (0.5 * log_variance).exp())
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return reconstruction(y, x) + KL_WEIGHT * kl, (y.detach() - x).square().mean()


@torch.no_grad()
def evaluate(vae: AutoencoderKL, images_nhwc: np.ndarray) -> float:
    """PSNR of posterior-mode reconstruction."""
    total = 0.0
    for start in range(0, len(images_nhwc), 32):
        x = to_tensor(images_nhwc[start : start + 32])
        y = decode(vae, encode(vae, x)[0])
        total += (y.clamp(-1, 1) - x).square().mean((1, 2, 3)).sum().item()
    return psnr(total / len(images_nhwc))


def _batch(pool: pictures.Pool, rng: np.random.Generator) -> Tensor:
    """Mostly 64-pixel crops, a quarter whole pictures, so that the middle attention knows both."""
    if rng.random() < 0.75:
        bucket = ("square", "portrait", "landscape", "small")[
            rng.choice(4, p=[0.5, 0.2, 0.15, 0.15])
        ]
        return to_tensor(pool.images(rng, bucket, 12, 64))
    bucket = ("square", "portrait", "landscape")[rng.choice(3, p=[0.7, 0.18, 0.12])]
    return to_tensor(pool.images(rng, bucket, 6))


def train(settings: Settings, minutes: float = 45.0) -> None:
    """Encoder and decoder together; keeps both, rounded, in work/sdxl_encoder.pt. Resumes from the
    last minute."""
    path = settings.work / "sdxl_vae.pt"
    saved = load_checkpoint(path)
    if saved and saved["done"]:
        return
    folder = settings.work / "pool"
    worker = pictures.start_worker(settings, folder)
    pool = pictures.Pool(folder)
    pool.wait(min(4, len(pictures.plan(settings))))
    vae = make_vae()
    optimizer = Muon(vae.named_parameters(), rate=0.015, adam_rate=2e-3)
    average = Average(vae, 0.995)
    clock, step = Clock(), 0
    if saved:
        vae.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        clock, step = Clock(**saved["clock"]), saved["step"]
    rng = np.random.default_rng([SEED, 11, step])
    budget, errors, said = settings.minutes(minutes) * 60, [], clock.wall
    done = False
    while not done:
        pool.refresh()
        x = _batch(pool, rng)
        sides = (x.shape[2] // FACTOR, x.shape[3] // FACTOR)
        noise = torch.from_numpy(rng.standard_normal((len(x), CHANNELS, *sides), np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            loss, error = joint_loss(vae, x, noise)
        loss.backward()
        optimizer.step(cosine(clock.cpu / budget))
        optimizer.zero_grad()
        average.update(vae)
        step += 1
        errors.append(error.item())
        done = clock.cpu >= budget
        if done or clock.wall - said > 60:
            said = clock.wall
            log(
                settings,
                "sdxl vae",
                f"step {step} wall {clock.wall:.0f} s cpu {clock.cpu:.0f} s "
                f"loss {loss.item():.4f} train PSNR {psnr(float(np.mean(errors[-200:]))):.2f} dB",
            )
            state = {
                "model": vae.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "average": average.state_dict(),
                "clock": clock.state(),
                "done": done,
            }
            save_checkpoint(path, state)
    worker.join()
    _freeze(settings, vae, average.values)


def _freeze(settings: Settings, vae: AutoencoderKL, averaged: dict[str, Tensor]) -> None:
    """Keep the averaged weights in bfloat16, as shipped, with the latents' deviation."""
    vae.load_state_dict({name: value.bfloat16().float() for name, value in averaged.items()})
    folder = settings.work / "pool"
    images = pictures.held_out(folder, "square").images
    with torch.no_grad():
        parts = [encode(vae, to_tensor(images[i : i + 40]))[0] for i in range(0, 200, 40)]
    deviation = float(torch.cat(parts).std())
    log(
        settings,
        "sdxl vae",
        f"frozen: {evaluate(vae, images[:200]):.2f} dB on unseen 96 px pictures, "
        f"latents of deviation {deviation:.3f}, mean {float(torch.cat(parts).mean()):.3f}",
    )
    save_checkpoint(
        settings.work / "sdxl_encoder.pt", {"model": vae.state_dict(), "deviation": deviation}
    )
