"""Pictures ↔ normalised latents with Anima's video VAE, for one frame.

A causal 3-D convolution sees, at the first frame, only the last temporal slice of its kernel: the
rest of it meets padding zeros. So the VAE is run with 2-D convolutions of those slices, which is
the same function for a third of the work. `AutoencoderKLQwenImage.encode` and `.decode` count their
own 3-D layers and cannot be called afterwards.
"""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import QwenImageCausalConv3d
from torch import Tensor, nn


class OneFrameConv(nn.Conv2d):
    """The 2-D convolution that a causal 3-D one is for a single frame: x [B, C, 1, H, W]."""

    def forward(self, x_bcthw: Tensor) -> Tensor:
        return super().forward(x_bcthw.squeeze(2)).unsqueeze(2)


class LatentCodec:
    """Encodes and decodes pictures with the VAE, whose temporal convolutions it replaces in
    place."""

    def __init__(self, vae: Any) -> None:
        _flatten(vae)
        self.vae = vae.to(
            memory_format=torch.channels_last
        )  # twice as fast on a CPU for single pictures
        parameter = next(vae.parameters())
        mean, std = vae.config.latents_mean, vae.config.latents_std
        self.mean_c11 = torch.tensor(mean, dtype=torch.float32, device=parameter.device).view(
            -1, 1, 1
        )
        self.std_c11 = torch.tensor(std, dtype=torch.float32, device=parameter.device).view(
            -1, 1, 1
        )

    def encode(self, images_bchw: Tensor) -> Tensor:
        """Pictures −1…1 → (posterior mode − mean) / std."""
        x = images_bchw.to(self.vae.device, self.vae.dtype).unsqueeze(2)
        moments = self.vae.quant_conv(self.vae.encoder(x)).squeeze(2).float()
        mode = moments.chunk(2, dim=1)[0]
        return ((mode - self.mean_c11) / self.std_c11).to(images_bchw)

    def decode(self, latents_bchw: Tensor) -> Tensor:
        """Normalised latents → pictures, clamped to −1…1."""
        latents = latents_bchw.to(self.vae.device, torch.float32) * self.std_c11 + self.mean_c11
        x = self.vae.post_quant_conv(latents.to(self.vae.dtype).unsqueeze(2))
        return self.vae.decoder(x).squeeze(2).clamp(-1, 1).to(latents_bchw)


def _flatten(vae: nn.Module) -> None:
    for name, module in list(vae.named_modules()):
        if not isinstance(module, QwenImageCausalConv3d):
            continue
        owner, _, attribute = name.rpartition(".")
        if attribute == "time_conv":  # runs from the second frame on
            delattr(vae.get_submodule(owner), attribute)
            continue
        weight = module.weight[:, :, -1]
        with torch.device("meta"):
            height, width = module.kernel_size[1:]
            flat = OneFrameConv(
                module.in_channels, module.out_channels, (height, width), padding=module._padding[0]
            )
        flat.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        flat.bias = module.bias
        setattr(vae.get_submodule(owner), attribute, flat)
