"""Trains the toon SDXL base: the UNet and both text models predict the noise of cached latents."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from onmodel.toon.captions import tags
from onmodel.toon.draw import draw

from .. import latents as latent_files
from .. import pictures, sample
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
    swap_folder,
)
from ..text import caption
from ..vae import to_tensor
from . import text
from . import vae as vaes

CONFIG = {
    "sample_size": 24,
    "in_channels": vaes.CHANNELS,
    "out_channels": vaes.CHANNELS,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 80, 128),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 1, 1),
    "attention_head_dim": (1, 2, 4),  # the number of heads, as diffusers names it for SDXL
    "norm_num_groups": 8,
    "use_linear_projection": True,
    "cross_attention_dim": 2 * text.WIDTH,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 16,
    "projection_class_embeddings_input_dim": 6 * 16 + text.WIDTH,
}
BATCH = {"small": 64, "square": 48, "portrait": 48, "landscape": 48}
GAMMA = 5.0  # min-SNR (Hang et al. 2023)
BOOST = 15.0  # most that a step counts for being noisy


def make_scheduler() -> EulerDiscreteScheduler:
    """SDXL's own settings."""
    return EulerDiscreteScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        timestep_spacing="leading",
        steps_offset=1,
        use_karras_sigmas=False,
    )


class Base(nn.Module):
    """What is trained."""

    def __init__(self, tokenizers: Path) -> None:
        super().__init__()
        self.side = text.TextSide(tokenizers)
        torch.manual_seed(SEED + 12)
        self.unet = UNet2DConditionModel(**CONFIG)
        nn.init.zeros_(self.unet.conv_out.weight)

    def forward(
        self, x: Tensor, steps: Tensor, first: Tensor, second: Tensor, time_ids: Tensor
    ) -> Tensor:
        states, pooled = self.side(first, second)
        said = {"text_embeds": pooled, "time_ids": time_ids}
        return self.unet(x, steps, states, added_cond_kwargs=said, return_dict=False)[0]


def noise_loss(
    model: nn.Module,
    alphas: Tensor,
    x0: Tensor,
    noise: Tensor,
    steps: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Mean squared error of the predicted noise, weighted by min-SNR, and more where noise hides
    the colours, so that they are learnt from the text."""
    kept = alphas[steps].view(-1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = model(kept.sqrt() * x0 + (1 - kept).sqrt() * noise, steps, *inputs)
    snr = alphas[steps] / (1 - alphas[steps])
    weight = snr.clamp(max=GAMMA) / snr * snr.rsqrt().clamp(1, BOOST)
    return (weight.view(-1, 1, 1, 1) * (predicted.float() - noise).square()).mean()


def latent_folder(settings: Settings) -> Path:
    return settings.work / "sdxl-latents"


def build_latents(settings: Settings) -> None:
    """Encodes every chunk of the pool that is missing."""
    torch.set_num_threads(1)
    saved = load_checkpoint(settings.work / "sdxl_encoder.pt")
    vae = vaes.make_vae()
    vae.load_state_dict(saved["model"])

    @torch.no_grad()
    def encode(images: np.ndarray) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return vaes.encode(vae, to_tensor(images))[0] / saved["deviation"]

    latent_files.encode_pool(settings, latent_folder(settings), encode)


def _bucket(rng: np.random.Generator, progress: float) -> str:
    """64 pixels for the first tenth, then mostly 96 with the two oblong buckets."""
    if progress < 0.1:
        return "small"
    return ("square", "portrait", "landscape", "small")[rng.choice(4, p=[0.62, 0.2, 0.14, 0.04])]


def _time_ids(bucket: str, count: int) -> Tensor:
    """Original height and width, no crop, target height and width [count,6]."""
    width, height, *_ = pictures.BUCKETS[bucket]
    return torch.tensor([[height, width, 0, 0, height, width]] * count, dtype=torch.float32)


def train(settings: Settings, minutes: float = 160.0) -> None:
    """Writes work/sdxl_base.pt every two minutes and a picture grid every ten; resumes from it."""
    path = settings.work / "sdxl_base.pt"
    saved = load_checkpoint(path)
    if saved and saved["done"]:
        return
    text.build_tokenizers(settings)
    worker = multiprocessing.get_context("spawn").Process(
        target=build_latents, args=(settings,), daemon=True
    )
    worker.start()
    pool = latent_files.LatentPool(latent_folder(settings))
    pool.wait()
    model = Base(settings.work / "sdxl-tokenizers")
    model.unet.set_attn_processor(AttnProcessor())  # a third faster in bfloat16 on a processor
    adam = ("embedding", "conv_in", "conv_out", "time_emb", "add_emb")
    trained = [row for row in model.named_parameters() if row[1].requires_grad]
    optimizer = Muon(trained, rate=0.012, adam_rate=2.5e-3, adam_names=adam)
    average = Average(model, 0.9985)
    clock, step = Clock(), 0
    if saved:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        average.load_state_dict(saved["average"])
        clock, step = Clock(**saved["clock"]), saved["step"]
    alphas = make_scheduler().alphas_cumprod.float()
    rng = np.random.default_rng([SEED, 13, step])
    budget, losses = settings.minutes(minutes) * 60, []
    said = kept = drawn = clock.wall
    done = False
    while not done:
        pool.refresh()
        bucket = _bucket(rng, clock.cpu / budget)
        x0, toons, names = pool.batch(rng, bucket, BATCH[bucket])
        captions = [
            caption(toon, name, rng, rng.random() < 0.25)
            for toon, name in zip(toons, names, strict=True)
        ]
        inputs = (*model.side.ids(captions), _time_ids(bucket, len(x0)))
        noise = torch.from_numpy(rng.standard_normal(x0.shape, np.float32))
        steps = torch.from_numpy((1000 * rng.random(len(x0)) ** 0.6).astype(np.int64))
        loss = noise_loss(model, alphas, x0, noise, steps, inputs)
        loss.backward()
        optimizer.step(cosine(clock.cpu / budget))
        optimizer.zero_grad()
        average.update(model)
        step += 1
        losses.append(loss.item())
        done = clock.cpu >= budget
        if done or clock.wall - said > 60:
            said = clock.wall
            log(
                settings,
                "sdxl base",
                f"step {step} wall {clock.wall:.0f} s cpu {clock.cpu:.0f} s loss"
                f" {np.mean(losses[-200:]):.4f}",
            )
        if done or clock.wall - kept > 120:
            kept = clock.wall
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "average": average.state_dict(),
                "clock": clock.state(),
                "done": done,
            }
            save_checkpoint(path, state)
        if done or clock.wall - drawn > 600:
            drawn = clock.wall
            draw_grid(settings, average.values)
    worker.terminate()


def averaged(settings: Settings, values: dict[str, Tensor]) -> Base:
    """The averaged model, rounded to bfloat16 as stored."""
    model = Base(settings.work / "sdxl-tokenizers").eval().requires_grad_(False)
    model.load_state_dict(values, strict=False)
    return model.to(torch.bfloat16).float()


def make_pipeline(settings: Settings, values: dict[str, Tensor]) -> StableDiffusionXLPipeline:
    """diffusers' own pipeline of the averaged model."""
    model = averaged(settings, values)
    model.unet.set_attn_processor(AttnProcessor2_0())
    saved = load_checkpoint(settings.work / "sdxl_encoder.pt")
    vae = vaes.make_vae()
    vae.load_state_dict(saved["model"])
    vae.register_to_config(scaling_factor=1 / saved["deviation"])
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=model.side.text_encoder,
        text_encoder_2=model.side.text_encoder_2,
        tokenizer=model.side.tokenizers[0],
        tokenizer_2=model.side.tokenizers[1],
        unet=model.unet,
        scheduler=make_scheduler(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def render(
    pipeline: StableDiffusionXLPipeline,
    prompts: list[str],
    width: int = 96,
    height: int = 96,
    seed: int = 0,
    guidance: float = 5.0,
    steps: int = 20,
) -> np.ndarray:
    """uint8 [N,H,W,3] pictures of the prompts; picture i starts from the i-th noise of the seed."""
    sides = (height // vaes.FACTOR, width // vaes.FACTOR)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(prompts), vaes.CHANNELS, *sides, generator=generator)
    out = []
    for start in range(0, len(prompts), 30):
        part = slice(start, start + 30)
        made = pipeline(
            prompts[part],
            width=width,
            height=height,
            latents=noise[part],
            guidance_scale=guidance,
            num_inference_steps=steps,
            negative_prompt=[""] * len(prompts[part]),
            output_type="np",
        ).images
        out.append((made * 255).round().astype(np.uint8))
    return np.concatenate(out)


def draw_grid(settings: Settings, values: dict[str, Tensor]) -> None:
    """Real renders of 30 unseen toons above the base's pictures of their tags."""
    toons = sample.unseen_toons(30, 0)
    images = render(make_pipeline(settings, values), [", ".join(tags(toon)) for toon in toons])
    real = np.stack([np.asarray(draw(toon, 96, 96)) for toon in toons])
    rows = [part[i : i + 10] for i in range(0, 30, 10) for part in (real, images)]
    path = settings.work / "sdxl_base.png"
    sample.tile(np.concatenate(rows), 10, zoom=2).save(path)
    log(settings, "sdxl base", f"grid {path}")


def export(settings: Settings) -> None:
    """Writes out/sdxl in diffusers' layout, bfloat16, from the last checkpoint."""
    values = load_checkpoint(settings.work / "sdxl_base.pt")["average"]["values"]
    built = settings.out.parent / (settings.out.name + ".sdxl.tmp")
    shutil.rmtree(built, ignore_errors=True)
    make_pipeline(settings, values).to(torch.bfloat16).save_pretrained(built)
    settings.out.mkdir(parents=True, exist_ok=True)
    swap_folder(built, settings.out / "sdxl")
    size = sum(path.stat().st_size for path in (settings.out / "sdxl").rglob("*") if path.is_file())
    log(settings, "sdxl export", f"{settings.out / 'sdxl'}: {size / 1e6:.2f} MB")
