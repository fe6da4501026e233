"""Measures the toon SDXL base as it is shipped, on unseen toons; writes its README.md and
grid.png."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import StableDiffusionXLPipeline

from onmodel.toon.captions import sentence, tags

from .. import measure as anima
from .. import observers, pictures, sample
from ..common import Settings, log, write_json
from . import base
from . import vae as vaes

TEXT = """# The toon SDXL base

A small, really trained model in SDXL's classes, made by `python tools/build_toon_assets.py` from
the renderer in `onmodel/toon`, with the pictures, captions and names of the Anima toon base. The
stand-in character is in no training picture. Every number was measured on the files in this folder,
loaded as they are (bfloat16 weights computed in float32), on {count} toons that no training step
saw.

![prompts and what the base draws](grid.png)

| folder | class | bytes |
|---|---|---|
{files}

`StableDiffusionXLPipeline.from_pretrained(folder)` loads it. Noise prediction (epsilon), SDXL's
noise schedule, latents of {channels} channels at 1/{factor} of the sides. Trained at 96×96, 80×112,
112×80 and a little at 64×64, {steps_trained:,} steps of 48 pictures ({hours:.1f} hours of one
processor core) after {vae_minutes:.0f} minutes for the VAE. The numbers below are of 20 Euler steps
at guidance 5 with an empty negative prompt.

The VAE gives back unseen pictures of 96×96 at {psnr:.2f} dB PSNR.

## Does the base obey?
Share of pictures whose visible attribute the tagger reads as asked, half tag prompts, half
sentences, all three sizes; beside it the same reading of real renders.

| attribute | base | real renders | tags | sentences |
|---|---|---|---|---|
{obeyed}

With one of the 200 made-up names that it has learnt alone in the prompt, {name_alone:.3f} of the
design's visible attributes are drawn as it has them; with another made-up name {name_other:.3f},
with the design described {name_described:.3f}.
"""


class Shipped:
    """The toon SDXL base as a user gets it, from out/sdxl."""

    def __init__(self, settings: Settings) -> None:
        self.pipeline = StableDiffusionXLPipeline.from_pretrained(
            settings.out / "sdxl", torch_dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)

    def render(
        self, prompts: list[str], width: int = 96, height: int = 96, seed: int = 0
    ) -> np.ndarray:
        return base.render(self.pipeline, prompts, width, height, seed)


def measure(settings: Settings) -> None:
    """Writes work/sdxl_measured.json, out/sdxl/README.md and out/sdxl/grid.png."""
    count = max(int(300 * min(settings.minutes_scale, 1)), 20)
    shipped, tagger = Shipped(settings), observers.Tagger(settings)
    toons = sample.unseen_toons(count, 2)
    prompts = [sentence(toon) if i % 2 else ", ".join(tags(toon)) for i, toon in enumerate(toons)]
    seen = tagger(anima.renders(toons))
    drawn = tagger(anima.generated(shipped, toons, prompts, seed=500))
    unseen = pictures.held_out(settings.work / "pool", "square").images[:200]
    result = {
        "count": count,
        "vae_psnr": vaes.evaluate(shipped.pipeline.vae, unseen),
        "obeyed": anima.obedience(drawn, toons),
        "ceiling": anima.obedience(seen, toons),
        "obeyed_tags": anima.obedience(drawn[::2], toons[::2]),
        "obeyed_sentences": anima.obedience(drawn[1::2], toons[1::2]),
        "names": anima.name_effect(shipped, tagger, max(count // 5, 10)),
    }
    write_json(settings.work / "sdxl_measured.json", result)
    log(settings, "sdxl measure", str(result["obeyed"]))
    anima.draw_examples(shipped, settings.out / "sdxl" / "grid.png")
    write_readme(settings, result)


def write_readme(settings: Settings, result: dict) -> None:
    folder = settings.out / "sdxl"
    trained = torch.load(settings.work / "sdxl_base.pt", weights_only=False)
    coded = torch.load(settings.work / "sdxl_vae.pt", weights_only=False)
    files = []
    for name, made in sorted(Shipped(settings).pipeline.components.items()):
        if (folder / name).is_dir():
            size = sum(path.stat().st_size for path in (folder / name).iterdir())
            files.append(f"| `{name}` | {type(made).__name__} | {size:,} |")
    columns = ("obeyed", "ceiling", "obeyed_tags", "obeyed_sentences")
    rows = []
    for name in result["obeyed"]:
        shares = (f"{result[column].get(name, float('nan')):.3f}" for column in columns)
        rows.append(f"| {name} | {' | '.join(shares)} |")
    words = TEXT.format(
        count=result["count"],
        files="\n".join(files),
        channels=vaes.CHANNELS,
        factor=vaes.FACTOR,
        steps_trained=trained["step"],
        hours=trained["clock"]["cpu"] / 3600,
        vae_minutes=coded["clock"]["cpu"] / 60,
        psnr=result["vae_psnr"],
        obeyed="\n".join(rows),
        **result["names"],
    )
    (folder / "README.md").write_text(words)
