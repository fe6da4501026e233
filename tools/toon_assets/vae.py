"""Trains AutoencoderKLQwenImage as its exact two-dimensional twin (one frame), first jointly, then
the decoder alone.

For one frame a causal 3-D convolution only sees the last temporal slice of its kernel, so training
runs on 2-D convolutions and the result is written back into that slice; the other slices stay zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLQwenImage
from torch import Tensor, nn

from . import pictures
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

CONFIG = {
    "base_dim": 16,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
    "latents_mean": [0.0] * 16,
    "latents_std": [1.0] * 16,
}
KL_WEIGHT = 5e-4


def make_vae() -> AutoencoderKLQwenImage:
    torch.manual_seed(SEED)
    return AutoencoderKLQwenImage(**CONFIG)


def flatten_vae(vae: AutoencoderKLQwenImage) -> nn.Module:
    """Replaces every causal 3-D convolution by the 2-D one a single frame sees; names stay, shapes
    lose one axis."""
    for name, module in list(vae.named_modules()):
        if isinstance(module, nn.Conv3d):
            owner = vae.get_submodule(name.rpartition(".")[0])
            if name.endswith("time_conv"):
                delattr(owner, "time_conv")  # never used for one frame
                continue
            flat = nn.Conv2d(
                module.in_channels,
                module.out_channels,
                module.kernel_size[1:],
                padding=module._padding[0],
            )
            flat.weight.data.copy_(module.weight.data[:, :, -1])
            flat.bias.data.copy_(module.bias.data)
            setattr(owner, name.rpartition(".")[2], flat)
    return vae.to(memory_format=torch.channels_last)


def unflatten_state(flat: dict[str, Tensor]) -> AutoencoderKLQwenImage:
    """A real VAE with the 2-D weights in the last temporal slice and zeros elsewhere."""
    vae = make_vae()
    state = vae.state_dict()
    for name, value in state.items():
        if name not in flat:
            value.zero_()  # time_conv
        elif value.ndim == 5:
            value.zero_()
            value[:, :, -1] = flat[name]
        else:
            value.copy_(flat[name].reshape(value.shape))
    vae.load_state_dict(state)
    return vae.eval()


def _rms(x: Tensor, gamma: Tensor) -> Tensor:
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(1, keepdim=True) + 1e-12) * gamma.view(1, -1, 1, 1)).to(
        x.dtype
    )


def _rms_silu(x: Tensor, gamma: Tensor) -> Tensor:
    return F.silu(_rms(x, gamma))


# Compiled because eager broadcasting over channels takes 60 % of a step; the rest gains nothing
# from the compiler.
torch._dynamo.config.recompile_limit = 64
_fast_rms_silu = torch.compile(_rms_silu, dynamic=False)


def _activate(module: nn.Module, x: Tensor) -> Tensor:
    function = _fast_rms_silu if torch.is_grad_enabled() else _rms_silu
    return function(x, module.gamma)


def _residual(block: nn.Module, x: Tensor) -> Tensor:
    h = block.conv1(_activate(block.norm1, x))
    h = block.conv2(_activate(block.norm2, h))
    return h + block.conv_shortcut(x)


def _attend(block: nn.Module, x: Tensor) -> Tensor:
    b, c, h, w = x.shape
    qkv = block.to_qkv(_rms(x, block.norm.gamma)).flatten(2).transpose(1, 2)
    q, k, v = qkv.unsqueeze(1).chunk(3, dim=-1)
    y = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(b, c, h, w)
    return x + block.proj(y)


def _mid(block: nn.Module, x: Tensor) -> Tensor:
    return _residual(block.resnets[1], _attend(block.attentions[0], _residual(block.resnets[0], x)))


def encode(vae: nn.Module, x_bchw: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures −1…1 → mean and log variance of the latents, [B,16,H/8,W/8] each."""
    encoder = vae.encoder
    x = encoder.conv_in(x_bchw)
    for layer in encoder.down_blocks:
        if hasattr(layer, "resample"):
            x = layer.resample[1](F.pad(x, (0, 1, 0, 1)))
        else:
            x = _residual(layer, x)
    x = encoder.conv_out(_activate(encoder.norm_out, _mid(encoder.mid_block, x)))
    mean, log_variance = vae.quant_conv(x).float().chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def decode(vae: nn.Module, z: Tensor) -> Tensor:
    """Unscaled latents → pictures about −1…1, not clamped (a clamp has no gradient outside)."""
    decoder = vae.decoder
    x = _mid(decoder.mid_block, decoder.conv_in(vae.post_quant_conv(z)))
    for block in decoder.up_blocks:
        for layer in block.resnets:
            x = _residual(layer, x)
        if block.upsamplers is not None:
            x = block.upsamplers[0].resample[1](
                F.interpolate(x, scale_factor=2.0, mode="nearest-exact")
            )
    return decoder.conv_out(_activate(decoder.norm_out, x)).float()


def reconstruction(y: Tensor, x: Tensor) -> Tensor:
    """L1 + 0.5 MSE + 0.4 L1 of horizontal and vertical differences: lines matter in drawings."""
    d = y - x
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[..., 1:, :] - d[..., :-1, :]).abs().mean()
    return d.abs().mean() + 0.5 * d.square().mean() + 0.4 * edges


def joint_loss(vae: nn.Module, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = encode(vae, x)
    z = mean + noise * (0.5 * log_variance).exp()
    y = decode(vae, z)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return reconstruction(y, x) + KL_WEIGHT * kl, (y.detach() - x).square().mean()


def decoder_loss(vae: nn.Module, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    y = decode(vae, z)
    return reconstruction(y, x), (y.detach() - x).square().mean()


def psnr(mse: float) -> float:
    """dB for a mean squared error on the scale −1…1."""
    return float(10 * np.log10(4.0 / max(mse, 1e-10)))


def to_tensor(images_nhwc: np.ndarray) -> Tensor:
    """uint8 NHWC → float −1…1 NCHW in channels_last memory."""
    return (
        torch.from_numpy(np.ascontiguousarray(images_nhwc)).permute(0, 3, 1, 2).float() / 127.5 - 1
    ).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def evaluate(vae: nn.Module, images_nhwc: np.ndarray) -> float:
    """PSNR of posterior-mode reconstruction, clamped as the real decoder does."""
    total = 0.0
    for start in range(0, len(images_nhwc), 32):
        x = to_tensor(images_nhwc[start : start + 32])
        with torch.autocast("cpu", torch.bfloat16):
            y = decode(vae, encode(vae, x)[0])
        total += (y.clamp(-1, 1) - x).square().mean((1, 2, 3)).sum().item()
    return psnr(total / len(images_nhwc))


def _batch(pool: pictures.Pool, rng: np.random.Generator, scale: float) -> Tensor:
    """Mostly 64-pixel crops, a quarter whole pictures, so that the middle attention knows both."""
    draw = rng.random()
    if draw < 0.72:
        bucket = ("square", "portrait", "landscape", "small")[
            rng.choice(4, p=[0.5, 0.2, 0.15, 0.15])
        ]
        return to_tensor(pool.images(rng, bucket, int(16 * scale), 64))
    bucket = ("square", "portrait", "landscape")[rng.choice(3, p=[0.7, 0.18, 0.12])]
    return to_tensor(pool.images(rng, bucket, int(8 * scale)))


def _dump(settings: Settings, flat: nn.Module, images: np.ndarray, name: str) -> None:
    """Originals above, reconstructions below, as a PNG to look at."""
    from PIL import Image

    x = to_tensor(images[:12])
    with torch.no_grad():
        y = decode(flat, encode(flat, x)[0]).clamp(-1, 1)
    rows = [torch.cat(list(t), dim=2) for t in (x, y)]
    array = ((torch.cat(rows, dim=1).permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    Image.fromarray(array).resize(
        (array.shape[1] * 2, array.shape[0] * 2), Image.Resampling.NEAREST
    ).save(settings.work / name)


def train_joint(settings: Settings, minutes: float = 21.0) -> None:
    """Encoder and decoder together; writes work/vae_joint.pt. Interrupted runs go on from the last
    minute."""
    path = settings.work / "vae_joint.pt"
    saved = load_checkpoint(path)
    if (settings.work / "vae_encoder.pt").exists():
        return
    folder = settings.work / "pool"
    worker = pictures.start_worker(settings, folder)
    pool = pictures.Pool(folder)
    pool.wait(min(4, len(pictures.plan(settings))))
    flat = flatten_vae(make_vae())
    optimizer = Muon(flat.named_parameters(), rate=0.015, adam_rate=2e-3)
    average = Average(flat, 0.995)
    clock, step = Clock(), 0
    if saved:
        flat.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        clock, step = Clock(**saved["clock"]), saved["step"]
    rng = np.random.default_rng([SEED, 1, step])
    budget, errors, said = settings.minutes(minutes) * 60, [], clock.wall
    done = bool(saved and saved["done"])
    while not done:
        pool.refresh()
        x = _batch(pool, rng, 1.0)
        noise = torch.from_numpy(
            rng.standard_normal((len(x), 16, x.shape[2] // 8, x.shape[3] // 8), np.float32)
        )
        with torch.autocast("cpu", torch.bfloat16):
            loss, error = joint_loss(flat, x, noise)
        loss.backward()
        optimizer.step(cosine(clock.wall / budget))
        optimizer.zero_grad()
        average.update(flat)
        step += 1
        errors.append(error.item())
        done = clock.wall >= budget
        if done or clock.wall - said > 60:
            said = clock.wall
            log(
                settings,
                "vae",
                f"step {step} wall {clock.wall:.0f} s cpu {clock.cpu:.0f} s "
                f"loss {loss.item():.4f} train PSNR {psnr(float(np.mean(errors[-200:]))):.2f} dB",
            )
            save_checkpoint(
                path,
                {
                    "model": flat.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "average": average.state_dict(),
                    "clock": clock.state(),
                    "done": done,
                },
            )
    worker.join()
    freeze(settings, flat, average.values)


def freeze(settings: Settings, flat: nn.Module, averaged: dict[str, Tensor]) -> None:
    """Rounds the averaged encoder to bfloat16, as it is shipped, and keeps it with its latents'
    statistics."""
    rounded = {
        name: value.bfloat16().float() if name.startswith(("encoder.", "quant_conv.")) else value
        for name, value in averaged.items()
    }
    flat.load_state_dict(rounded)
    folder = settings.work / "pool"
    images = pictures.held_out(folder, "square").images
    log(
        settings,
        "vae",
        f"encoder frozen: {evaluate(flat, images[:200]):.2f} dB on unseen 96 px pictures",
    )
    _dump(settings, flat, images, "vae_joint.png")
    save_checkpoint(
        settings.work / "vae_encoder.pt", {"model": rounded, **_statistics(flat, folder)}
    )


@torch.no_grad()
def _statistics(flat: nn.Module, folder: Path) -> dict[str, list[float]]:
    """Per-channel mean and standard deviation of posterior-mode latents over the held-out
    pictures."""
    parts = []
    for bucket in pictures.BUCKETS:
        for start in range(0, 200, 40):
            x = to_tensor(pictures.held_out(folder, bucket).images[start : start + 40])
            if len(x):
                parts.append(encode(flat, x)[0].transpose(0, 1).flatten(1))
    latents = torch.cat(parts, dim=1)
    return {"latents_mean": latents.mean(1).tolist(), "latents_std": latents.std(1).tolist()}
