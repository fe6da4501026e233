"""Pictures ↔ normalised latents with Anima's video VAE, for one frame.

A causal 3-D convolution sees, at the first frame, only the last temporal slice of its kernel: the
rest of it meets padding zeros. So the VAE is run with 2-D convolutions of those slices, which is
the same function for a third of the work. `AutoencoderKLQwenImage.encode` and `.decode` count their
own 3-D layers and cannot be called afterwards.

Large pictures are coded one at a time. With `tiles`, the layers at a quarter of their size and more
run on strips of rows, with as many rows around them as the convolutions reach, and those below, of
which one attends to the whole picture, run on all of it: the same function.
diffusers' own tiles run every layer on a tile, which changes what the attention sees, and blend the
seams.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import (
    QwenImageCausalConv3d,
    QwenImageResample,
    QwenImageResidualBlock,
)
from torch import Tensor, nn

# Latents of a picture from which a batch is cut into single pictures. Kernels for smaller ones
# depend on the batch, in the last bit; together they need no more than one large picture.
_LARGE = 32 * 32
_STRIP = 128  # rows


class OneFrameConv(nn.Conv2d):
    """The 2-D convolution that a causal 3-D one is for a single frame: x [B, C, 1, H, W]."""

    def forward(self, x_bcthw: Tensor) -> Tensor:
        return super().forward(x_bcthw.squeeze(2)).unsqueeze(2)


class LatentCodec:
    """Encodes and decodes pictures with the VAE, whose temporal convolutions it replaces in
    place."""

    def __init__(self, vae: Any, tiles: bool = False) -> None:
        _flatten(vae)
        self.tiles = tiles
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
        moments = self.vae.quant_conv(_singly(self._encoder(), x, 8)).squeeze(2).float()
        mode = moments.chunk(2, dim=1)[0]
        return ((mode - self.mean_c11) / self.std_c11).to(images_bchw)

    def decode(self, latents_bchw: Tensor) -> Tensor:
        """Normalised latents → pictures, clamped to −1…1."""
        latents = latents_bchw.to(self.vae.device, torch.float32) * self.std_c11 + self.mean_c11
        x = self.vae.post_quant_conv(latents.to(self.vae.dtype).unsqueeze(2))
        return _singly(self._decoder(), x, 1).squeeze(2).clamp(-1, 1).to(latents_bchw)

    def _encoder(self) -> Callable[[Tensor], Tensor]:
        """The encoder. In strips run its first convolution and all up to the second halving."""
        encoder = self.vae.encoder
        if not self.tiles:
            return encoder
        layers = list(encoder.down_blocks)
        halvings = [i for i, one in enumerate(layers) if isinstance(one, QwenImageResample)][:2]
        first, rest = layers[: halvings[-1] + 1], layers[halvings[-1] + 1 :]
        last = (encoder.mid_block, encoder.norm_out, encoder.nonlinearity, encoder.conv_out)

        def encode(x_bcthw: Tensor) -> Tensor:
            x_bcthw = _in_strips([encoder.conv_in, *first], x_bcthw, _STRIP)
            return _through([*rest, *last], x_bcthw)

        return encode

    def _decoder(self) -> Callable[[Tensor], Tensor]:
        """The decoder. In strips run the last block but two, and the last two with all behind
        them."""
        decoder = self.vae.decoder
        if not self.tiles:
            return decoder
        blocks = list(decoder.up_blocks)
        third, *ends = ([*block.resnets, *(block.upsamplers or ())] for block in blocks[-3:])
        last = (decoder.norm_out, decoder.nonlinearity, decoder.conv_out)

        def decode(x_bcthw: Tensor) -> Tensor:
            x_bcthw = _through([decoder.conv_in, decoder.mid_block, *blocks[:-3]], x_bcthw)
            x_bcthw = _in_strips(third, x_bcthw, _STRIP // 2)
            return _in_strips([*chain(*ends), *last], x_bcthw, _STRIP // 2)

        return decode


def _through(layers: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _singly(code: Callable[[Tensor], Tensor], x_bcthw: Tensor, downscale: int) -> Tensor:
    """Large pictures one at a time, small ones together."""
    if math.prod(x_bcthw.shape[-2:]) < _LARGE * downscale**2:
        return code(x_bcthw)
    return torch.cat([code(one) for one in x_bcthw.split(1)])


def _in_strips(layers: Sequence[nn.Module], x_bcthw: Tensor, rows: int) -> Tensor:
    """Layers that see only what is near, on strips of so many rows and what they reach around them.
    At the picture's own edges they see the zeros that they always do."""
    height, scale, reach = x_bcthw.shape[3], 1.0, 0.0  # scale: rows of x in a row of the layer
    for layer in layers:
        if isinstance(layer, QwenImageResample):
            grows = layer.mode.startswith("up")
            scale, before = scale / 2 if grows else scale * 2, scale
            reach += scale if grows else 2 * before
        elif isinstance(layer, QwenImageResidualBlock):
            reach += 2 * scale
        elif isinstance(layer, OneFrameConv):
            reach += scale
    whole = math.ceil(max(scale, 1))  # strips begin at rows that exist behind the layers too
    around = whole * math.ceil(reach / whole)
    pieces = []
    for start in range(0, height, rows):
        end = min(start + rows, height)
        low, high = max(start - around, 0), min(end + around, height)
        made = _through(layers, x_bcthw[:, :, :, low:high]).squeeze(2)
        first = round((start - low) / scale)
        pieces.append(made[:, :, first : first + round((end - start) / scale)].clone())
    # in the layout that the layers give, or those behind them compute otherwise
    return torch.cat(pieces, dim=2).contiguous(memory_format=torch.channels_last).unsqueeze(2)


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
