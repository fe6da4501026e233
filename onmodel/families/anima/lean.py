"""Anima's blocks computed with fewer passes over the activations: the same function as diffusers'.

At the sizes that are trained, products are near the machine's limit, and what is left to save is
everything between them. Here modulation and gates are one operation each, normalising and rotating
queries and keys is one function with its own backward pass, and nothing is copied on the way to
attention.

Time modulates the picture's rows alone, never the text's, so while one text is sampled its keys and
values stay the same from step to step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

KeysValues = tuple[Tensor, Tensor]  # [B, S, heads, d] each


@contextmanager
def lean_blocks(transformer: Any, text_bnd: Tensor | None = None) -> Iterator[None]:
    """Within the context the blocks of a `CosmosTransformer3DModel` compute so; norm weights get no
    gradient.

    With `text_bnd` they attend to that text whatever they are given: its keys and values are
    computed now, by the weights of now. Contexts may be nested.
    """
    outer = {block: block.__dict__.get("forward") for block in transformer.transformer_blocks}
    try:
        for block in outer:
            known = None if text_bnd is None else _keys_values(block.attn2, text_bnd, None)
            block.forward = _LeanBlock(block, known).forward
        yield
    finally:
        for block, forward in outer.items():
            if forward is None:
                block.__dict__.pop("forward", None)
            else:
                block.forward = forward


@dataclass(frozen=True, eq=False)
class _LeanBlock:
    """A block of the transformer, with the keys and values of its text where they are computed
    already."""

    block: Any
    known: KeysValues | None

    def forward(
        self,
        x_bsd: Tensor,
        text_bnd: Tensor,
        time_bd: Tensor,
        temb_bd: Tensor,
        rope: tuple[Tensor, Tensor],
        extra_pos_emb: None,
        bias_b11n: Tensor,
        controlnet_residual: None,
    ) -> Tensor:
        """`CosmosTransformerBlock.forward` for pictures: no learned positions, no control net, one
        time for each picture or for all."""
        block, source = self.block, self.known or text_bnd
        time_bd = block.norm1.activation(time_bd)  # the same function in all three
        normed, gate = _modulated(block.norm1, x_bsd, time_bd, temb_bd)
        x_bsd = torch.addcmul(x_bsd, gate, _attention(block.attn1, normed, normed, rope, None))
        normed, gate = _modulated(block.norm2, x_bsd, time_bd, temb_bd)
        x_bsd = torch.addcmul(x_bsd, gate, _attention(block.attn2, normed, source, None, bias_b11n))
        normed, gate = _modulated(block.norm3, x_bsd, time_bd, temb_bd)
        return torch.addcmul(x_bsd, gate, block.ff(normed))


def _modulated(norm: Any, x_bsd: Tensor, time_bd: Tensor, temb_bd: Tensor) -> tuple[Tensor, Tensor]:
    """LayerNorm(x)·(1 + scale) + shift, and the gate; all three from the activated time."""
    factors = norm.linear_2(norm.linear_1(time_bd)) + temb_bd
    shift, scale, gate = (factor.unsqueeze(1) for factor in factors.chunk(3, dim=-1))
    return torch.addcmul(shift, norm.norm(x_bsd), 1 + scale), gate


def _attention(
    attn: Any,
    x_bsd: Tensor,
    source: Tensor | KeysValues,
    rope: tuple[Tensor, Tensor] | None,
    bias_b11n: Tensor | None,
) -> Tensor:
    """Attention of rows to the rows `source` [B, S, D], or to their keys and values."""
    query = _normed(attn.to_q(x_bsd).unflatten(2, (attn.heads, -1)), attn.norm_q, rope)
    key, value = source if isinstance(source, tuple) else _keys_values(attn, source, rope)
    out = functional.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=bias_b11n
    )
    result: Tensor = attn.to_out[0](out.transpose(1, 2).flatten(2))
    return result


def _keys_values(attn: Any, source_bsd: Tensor, rope: tuple[Tensor, Tensor] | None) -> KeysValues:
    key, value = (
        layer(source_bsd).unflatten(2, (attn.heads, -1)) for layer in (attn.to_k, attn.to_v)
    )
    return _normed(key, attn.norm_k, rope), value


def _normed(x_bshd: Tensor, norm: nn.Module, rope: tuple[Tensor, Tensor] | None) -> Tensor:
    cos, sin = rope or (None, None)
    result: Tensor = _NormRotate.apply(x_bshd, norm.weight, norm.eps, cos, sin)
    return result


class _NormRotate(torch.autograd.Function):
    """RMS norm with weights over the last axis, then a rotation of its halves by angles [S, d], if
    there are any.

    With n = x / rms(x): out = n·w·cos + (−n₂·w₂, n₁·w₁)·sin. Computed in float32, as diffusers
    does.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_bshd: Tensor,
        weight_d: Tensor,
        eps: float,
        cos_sd: Tensor | None,
        sin_sd: Tensor | None,
    ) -> Tensor:
        x, width = x_bshd.float(), x_bshd.shape[-1]
        rstd = (
            torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            .square_()
            .div_(width)
            .add_(eps)
            .rsqrt_()
        )
        normed, weight_d = x * rstd, weight_d.float()
        if cos_sd is None or sin_sd is None:
            straight, crossed = weight_d, None
            out = normed.mul_(weight_d)
        else:
            half = width // 2
            straight = (cos_sd * weight_d).unsqueeze(1)
            crossed = (sin_sd * weight_d.roll(half)).unsqueeze(1)
            out = normed * straight
            out[..., :half].addcmul_(normed[..., half:], crossed[..., :half], value=-1)
            out[..., half:].addcmul_(normed[..., :half], crossed[..., half:])
        ctx.save_for_backward(x_bshd, rstd, straight, crossed)
        return out.to(x_bshd.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        x_bshd, rstd, straight, crossed = ctx.saved_tensors
        given, half = gradients[0].float(), x_bshd.shape[-1] // 2
        gradient = given * straight
        if crossed is not None:
            gradient[..., :half].addcmul_(given[..., half:], crossed[..., half:])
            gradient[..., half:].addcmul_(given[..., :half], crossed[..., :half], value=-1)
        normed = x_bshd.float() * rstd
        along = torch.linalg.vecdot(gradient, normed).unsqueeze(-1).div_(x_bshd.shape[-1])
        gradient = gradient.addcmul_(normed, along, value=-1).mul_(rstd)
        return gradient.to(x_bshd.dtype), None, None, None, None
