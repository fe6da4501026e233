"""Pictures ↔ latents with SDXL's VAE. Latents are the posterior's mode times the VAE's scaling
factor.

The published VAE overflows in float16 (https://huggingface.co/madebyollin/sdxl-vae-fp16-fix), so
it computes in bfloat16 or float32. It is never cut into strips: its norms see the whole picture.
"""

from typing import Any

import torch
from torch import Tensor

# Latents of a picture from which a batch is cut into single pictures (see Anima's).
_LARGE = 32 * 32


class VaeCodec:
    """Encodes and decodes pictures with the VAE."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae

    def encode(self, images_bchw: Tensor) -> Tensor:
        """Pictures −1…1 → posterior mode · scaling factor."""
        x = images_bchw.to(self.vae.device, self.vae.dtype)
        parts = [self.vae.encode(one).latent_dist.mode() for one in _singly(x, self._downscale)]
        return (torch.cat(parts).float() * self.vae.config.scaling_factor).to(images_bchw)

    def decode(self, latents_bchw: Tensor) -> Tensor:
        """Latents → pictures, clamped to −1…1."""
        z = latents_bchw.to(self.vae.device, torch.float32) / self.vae.config.scaling_factor
        parts = [self.vae.decode(one).sample for one in _singly(z.to(self.vae.dtype), 1)]
        return torch.cat(parts).clamp(-1, 1).to(latents_bchw)

    @property
    def _downscale(self) -> int:
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))


def _singly(x_bchw: Tensor, downscale: int) -> tuple[Tensor, ...]:
    """Large pictures one at a time, small ones together."""
    height, width = x_bchw.shape[-2:]
    return x_bchw.split(1 if height * width >= _LARGE * downscale**2 else len(x_bchw))
