"""Trains the toon base's DiT (CosmosTransformer3DModel) and text conditioner by flow matching on
cached latents."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import CosmosTransformer3DModel
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn

from . import latents as latent_files
from . import sample, text
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

# Anima uses 4.0 for grids of 64 and more; here the grid is 4 to 7 wide. 0.01 ** (8 / 10) makes the
# rotary base 100 instead of 10000, so that three of five frequencies tell positions apart and not
# just one (Heo et al. 2024).
ROPE = 0.01**0.8
CONFIG = {
    "in_channels": 16,
    "out_channels": 16,
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "num_layers": 8,
    "mlp_ratio": 4.0,
    "text_embed_dim": text.WIDTH,
    "adaln_lora_dim": 32,
    "max_size": (1, 64, 64),
    "patch_size": (1, 2, 2),
    "rope_scale": (1.0, ROPE, ROPE),
    "concat_padding_mask": True,
    "extra_pos_embed_type": None,
}
BATCH = {"small": 96, "square": 64, "portrait": 64, "landscape": 64}


def make_transformer() -> CosmosTransformer3DModel:
    """Random weights with closed gates, the usual start of a DiT."""
    torch.manual_seed(SEED + 3)
    transformer = CosmosTransformer3DModel(**CONFIG)
    for name, parameter in transformer.named_parameters():
        if name.endswith(
            (
                "norm1.linear_2.weight",
                "norm2.linear_2.weight",
                "norm3.linear_2.weight",
                "norm_out.linear_2.weight",
                "t_embedder.linear_2.weight",
                "proj_out.weight",
            )
        ):
            nn.init.zeros_(parameter)
        elif name.endswith(("attn2.norm_k.weight", "attn2.norm_q.weight")):
            nn.init.constant_(parameter, 1.5)  # text has to stand out against some 470 zero rows
    for block in transformer.transformer_blocks:
        block.attn1.processor = block.attn2.processor = PlainAttention()
    return transformer


class PlainAttention:
    """CosmosAttnProcessor2_0 written out: on CPU the fused kernel's backward takes half of a
    step."""

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            layer(x).unflatten(2, (attn.heads, -1)).transpose(1, 2)
            for layer, x in ((attn.to_q, hidden_states), (attn.to_k, source), (attn.to_v, source))
        )
        query, key = attn.norm_q(query), attn.norm_k(key)
        if image_rotary_emb is not None:
            query = apply_rotary_emb(query, image_rotary_emb, use_real=True, use_real_unbind_dim=-2)
            key = apply_rotary_emb(key, image_rotary_emb, use_real=True, use_real_unbind_dim=-2)
        scores = (
            query.to(value.dtype) @ key.to(value.dtype).transpose(2, 3)
        ).float() * query.shape[-1] ** -0.5
        if attention_mask is not None:
            scores = scores + attention_mask
        mixed = scores.softmax(-1).to(value.dtype) @ value
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


class PlainTextAttention:
    """The same for the conditioner; masks are boolean [B,1,1,S]."""

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        encoder_position_embeddings: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            layer(x).unflatten(2, (attn.num_attention_heads, -1)).transpose(1, 2)
            for layer, x in (
                (attn.q_proj, hidden_states),
                (attn.k_proj, source),
                (attn.v_proj, source),
            )
        )
        query = _turn(attn.q_norm(query), position_embeddings)
        key = _turn(attn.k_norm(key), encoder_position_embeddings)
        scores = (
            query.to(value.dtype) @ key.to(value.dtype).transpose(2, 3)
        ).float() * query.shape[-1] ** -0.5
        if (
            attention_mask is not None
        ):  # a row without any key ("" as the prompt) attends evenly to nothing: zeros
            scores = scores.masked_fill(~attention_mask, -math.inf)
        weights = scores.softmax(-1).nan_to_num(0.0)
        return attn.o_proj((weights.to(value.dtype) @ value).transpose(1, 2).flatten(2))


def _turn(x_bhsd: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = (part.unsqueeze(1) for part in rope)
    first, second = x_bhsd.chunk(2, dim=-1)
    return x_bhsd * cos + torch.cat([-second, first], dim=-1) * sin


def run_block(
    block: nn.Module,
    x: Tensor,
    rows: Tensor,
    embedded: Tensor,
    temb: Tensor,
    rope: tuple[Tensor, Tensor],
    bias: Tensor,
) -> Tensor:
    return block(x, rows, embedded, temb, rope, None, bias)


torch._dynamo.config.recompile_limit = 64
_fast_block = torch.compile(run_block, dynamic=False)


def velocity(
    transformer: CosmosTransformer3DModel,
    x_bchw: Tensor,
    t: Tensor,
    rows: Tensor,
    bias: Tensor,
    fast: bool = True,
) -> Tensor:
    """CosmosTransformer3DModel.forward for one frame and an all-zero padding mask, without
    torchvision.

    x_bchw [B,16,h,w], t [B] in 0..1, rows [B,S,128] with additive bias [B,S] → noise − x0
    [B,16,h,w].
    """
    b, _, h, w = x_bchw.shape
    x = torch.cat([x_bchw, torch.zeros_like(x_bchw[:, :1])], dim=1).unsqueeze(2)
    rope = transformer.rope(x)
    x = transformer.patch_embed(x).flatten(1, 3)
    temb, embedded = transformer.time_embed(x, t)
    bias = bias[:, None, None, :]
    for block in transformer.transformer_blocks:
        x = (_fast_block if fast else run_block)(block, x, rows, embedded, temb, rope, bias)
    x = transformer.proj_out(transformer.norm_out(x, embedded, temb))  # [B, hw/4, 2*2*16]
    return (
        x.unflatten(2, (2, 2, -1))
        .unflatten(1, (h // 2, w // 2))
        .permute(0, 5, 1, 3, 2, 4)
        .reshape(b, -1, h, w)
    )


class Base(nn.Module):
    """What is trained: the DiT and the conditioner."""

    def __init__(self, t5_vocabulary: int) -> None:
        super().__init__()
        self.transformer = make_transformer()
        self.conditioner = text.make_conditioner(t5_vocabulary)
        for block in self.conditioner.blocks:
            block.self_attn.processor = block.cross_attn.processor = PlainTextAttention()

    def forward(self, x: Tensor, t: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        rows, bias = text.condition(self.conditioner, inputs)
        return velocity(self.transformer, x, t, rows, bias)


def flow_loss(
    model: Base, x0: Tensor, noise: Tensor, t: Tensor, inputs: dict[str, Tensor]
) -> Tensor:
    """Mean squared error of the predicted velocity."""
    level = t.view(-1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = model((1 - level) * x0 + level * noise, t, inputs)
    return F.mse_loss(predicted.float(), noise - x0)


def sample_times(rng: np.random.Generator, count: int) -> Tensor:
    """Logit-normal times, a little towards noise, where the layout of the picture is decided."""
    return torch.from_numpy(1 / (1 + np.exp(-rng.normal(0.3, 1.1, count)))).float()


def _bucket(rng: np.random.Generator, progress: float) -> str:
    """64 pixels for the first twelfth, then mostly 96 with the two oblong buckets."""
    if progress < 1 / 12:
        return "small"
    return ("square", "portrait", "landscape", "small")[rng.choice(4, p=[0.58, 0.22, 0.16, 0.04])]


def train(settings: Settings, minutes: float = 254.0) -> None:
    """Writes work/base.pt every two minutes and a picture grid every four; resumes from it."""
    path = settings.work / "base.pt"
    saved = load_checkpoint(path)
    if saved and saved["done"]:
        return
    worker = latent_files.start_worker(settings)
    side = text.TextSide(settings.work / "tokenizers")
    pool = latent_files.LatentPool(latent_files.folder(settings))
    pool.wait()
    model = Base(len(side.t5))
    optimizer = Muon(
        model.named_parameters(),
        rate=0.012,
        adam_rate=2.5e-3,
        adam_names=("embed.weight", "patch_embed", "proj_out"),
    )
    average = Average(model, 0.9985)
    clock, step = Clock(), 0
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        clock, step = Clock(**saved["clock"]), saved["step"]
    rng = np.random.default_rng([SEED, 4, step])
    budget, losses = settings.minutes(minutes) * 60, []
    said = kept = drawn = clock.wall
    done = False
    while not done:
        pool.refresh()
        bucket = _bucket(rng, clock.wall / budget)
        x0, toons, names = pool.batch(rng, bucket, BATCH[bucket])
        long = rng.random() < 0.25
        captions = [
            text.caption(toon, name, rng, long) for toon, name in zip(toons, names, strict=True)
        ]
        inputs = side.inputs(captions, text.LENGTHS[long])
        noise = torch.from_numpy(rng.standard_normal(x0.shape, np.float32))
        loss = flow_loss(model, x0, noise, sample_times(rng, len(x0)), inputs)
        loss.backward()
        optimizer.step(cosine(clock.wall / budget))
        optimizer.zero_grad()
        average.update(model)
        step += 1
        losses.append(loss.item())
        done = clock.wall >= budget
        if done or clock.wall - said > 60:
            said = clock.wall
            log(
                settings,
                "base",
                f"step {step} wall {clock.wall:.0f} s cpu {clock.cpu:.0f} s loss"
                f" {np.mean(losses[-200:]):.4f}",
            )
        if done or clock.wall - kept > 120:
            kept = clock.wall
            save_checkpoint(
                path,
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                    "average": average.state_dict(),
                    "clock": clock.state(),
                    "done": done,
                },
            )
        if done or clock.wall - drawn > 240:
            drawn = clock.wall
            sample.draw_grid(settings, average.values, side, settings.work / "base.png")
    worker.terminate()


def averaged(
    settings: Settings, side: text.TextSide, values: dict[str, Tensor] | None = None
) -> Base:
    """The averaged model of the last checkpoint (or `values`), rounded to bfloat16 as stored."""
    values = values or load_checkpoint(settings.work / "base.pt")["average"]["values"]
    model = Base(len(side.t5)).eval().requires_grad_(False)
    model.load_state_dict(values, strict=False)
    return model.to(torch.bfloat16).float()
