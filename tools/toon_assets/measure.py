"""Measures the shipped assets as loaded from disk on unseen toons; writes work/measured.json and
out/grid.png."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import AnimaTextConditioner, AutoencoderKLQwenImage, CosmosTransformer3DModel
from PIL import Image, ImageDraw
from torch import Tensor

from onmodel.toon.attributes import BACKGWA, VOCABULARY, Toon, visible
from onmodel.toon.captions import COLORED, sentence, tags
from onmodel.toon.datasets import STANDIN_SETS, WARM_YELLOW, deal
from onmodel.toon.draw import draw

from . import corruption, detector, identity, observers, pictures, sample, text
from .common import SEED, Settings, log, write_json

BUCKETS = ((96, 96), (80, 112), (112, 80))


@dataclass(frozen=True)
class Shipped:
    """The toon base as a user gets it: bfloat16 weights from out/base, computed in float32."""

    model: SimpleNamespace  # transformer, conditioner
    side: text.TextSide
    vae: AutoencoderKLQwenImage

    @staticmethod
    def load(settings: Settings) -> Shipped:
        folder = settings.out / "base"
        transformer = (
            CosmosTransformer3DModel.from_pretrained(folder / "transformer").float().eval()
        )
        conditioner = (
            AnimaTextConditioner.from_pretrained(folder / "text_conditioner").float().eval()
        )
        vae = AutoencoderKLQwenImage.from_pretrained(folder / "vae").float().eval()
        return Shipped(
            SimpleNamespace(transformer=transformer, conditioner=conditioner),
            text.TextSide(folder),
            vae,
        )

    def _statistics(self) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, std = (
            torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std)
        )
        return mean, std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        mean, std = self._statistics()
        parts = []
        for start in range(0, len(latents), 10):
            y = self.vae.decode(latents[start : start + 10].unsqueeze(2) * std + mean).sample[
                :, :, 0
            ]
            parts.append(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        return np.concatenate(parts)

    def render(
        self, prompts: list[str], width: int = 96, height: int = 96, seed: int = 0, **options: float
    ) -> np.ndarray:
        """uint8 [N,H,W,3]; the noise of picture i depends on seed and i alone."""
        return sample.render(
            self.model,
            self.side,
            self.decode,
            prompts,
            width,
            height,
            seed,
            precise=True,
            **options,
        )


def reconstruct(shipped: Shipped, images: np.ndarray) -> np.ndarray:
    """PSNR in dB of every picture through the VAE, posterior mode, 8-bit input."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        y = torch.cat(
            [
                shipped.vae.decode(shipped.vae.encode(part.unsqueeze(2)).latent_dist.mode()).sample[
                    :, :, 0
                ]
                for part in x.split(10)
            ]
        )
    mse = (y - x).square().mean((1, 2, 3)).clamp(min=1e-10)
    return (10 * torch.log10(4 / mse)).numpy()


def judge(probabilities: np.ndarray, name: str) -> str:
    """The attribute's value that the tagger sees: the likeliest tag, or the untagged value if none
    passes one half."""
    index = {tag: i for i, tag in enumerate(observers.OUTPUTS)}
    if name in COLORED.values():
        thing = next(key for key, value in COLORED.items() if value == name)
        worn = [tag for tag in VOCABULARY[thing].values() if tag]
        score = {
            value: max(probabilities[index[f"{word} {tag}"]] for tag in worn)
            for value, word in VOCABULARY[name].items()
        }
    else:
        score = {
            value: probabilities[index[tag]] if tag else 0.5
            for value, tag in VOCABULARY[name].items()
        }
    return max(score, key=lambda value: score[value])


def obedience(probabilities: np.ndarray, toons: list[Toon]) -> dict[str, float]:
    """Attribute → share of pictures whose visible value the tagger reads as asked."""
    right: dict[str, list[bool]] = {
        name: [] for name, tags in VOCABULARY.items() if any(tags.values())
    }
    for row, toon in zip(probabilities, toons, strict=True):
        for name in visible(toon) & right.keys():
            right[name].append(judge(row, name) == getattr(toon, name))
    return {name: float(np.mean(values)) for name, values in right.items() if values}


def _by_bucket(toons: list[Toon]) -> dict[tuple[int, int], list[int]]:
    """Three pictures in five square, one portrait, one landscape."""
    kinds = [BUCKETS[(0, 0, 0, 1, 2)[i % 5]] for i in range(len(toons))]
    return {size: [i for i, kind in enumerate(kinds) if kind == size] for size in BUCKETS}


def generated(
    shipped: Shipped, toons: list[Toon], prompts: list[str], seed: int, **options: float
) -> list[np.ndarray]:
    """Pictures of the prompts in all three buckets, in order."""
    out: list[np.ndarray | None] = [None] * len(toons)
    for size, places in _by_bucket(toons).items():
        images = shipped.render([prompts[i] for i in places], *size, seed=seed, **options)
        for place, image in zip(places, images, strict=True):
            out[place] = image
    return out  # type: ignore[return-value]


def renders(toons: list[Toon]) -> list[np.ndarray]:
    """Real drawings in the same buckets."""
    sizes = {i: size for size, places in _by_bucket(toons).items() for i in places}
    return [np.asarray(draw(toon, *sizes[i])) for i, toon in enumerate(toons)]


def trigger_effect(
    shipped: Shipped, settings: Settings, tagger: observers.Tagger, count: int
) -> dict[str, float]:
    """What the untrained trigger word alone changes, with the same noise; a nonsense word beside it
    as the floor."""
    toons = sample.unseen_toons(count, 3)
    who = identity.IdentityModel(settings)
    references = who([np.asarray(draw(toon)) for toon in deal(STANDIN_SETS["reference"])])

    def arm(trigger: str | None) -> tuple[np.ndarray, float]:
        images = shipped.render(
            [", ".join(tags(toon, trigger=trigger)) for toon in toons], seed=900
        )
        mixed = 1 - who.differences(np.concatenate([who(images), references]))[:count, count:]
        return tagger(images), float(mixed.mean())

    plain, agreement = arm(None)
    named, named_agreement = arm(BACKGWA.trigger)
    other, other_agreement = arm("mupolika")
    return {
        "agreement_without": agreement,
        "agreement_with": named_agreement,
        "agreement_other_word": other_agreement,
        "tag_shift": float(np.abs(named - plain).mean()),
        "tag_shift_other_word": float(np.abs(other - plain).mean()),
        "obeyed_without": float(np.mean(list(obedience(plain, toons).values()))),
        "obeyed_with": float(np.mean(list(obedience(named, toons).values()))),
    }


def name_effect(shipped: Shipped, tagger: observers.Tagger, count: int) -> dict[str, float]:
    """Share of the design that is drawn as a name of the CAST has it, the prompt saying the name
    and nothing of it.

    The same prompts with a made-up name and with the design said instead are the floor and what the
    base can draw.
    """
    rng = np.random.default_rng([SEED, 107])
    who = [pictures.CAST[str(name)] for name in rng.choice(list(pictures.CAST), size=count)]
    situations = sample.unseen_toons(count, 6)
    toons = [
        toon.replace(**character.traits) for character, toon in zip(who, situations, strict=True)
    ]

    def arm(triggers: list[str | None], hidden: bool) -> float:
        prompts = [
            ", ".join(
                tags(toon, trigger=trigger, absorbed=character.fixed if hidden else frozenset())
            )
            for toon, trigger, character in zip(toons, triggers, who, strict=True)
        ]
        seen = obedience(tagger(shipped.render(prompts, seed=901)), toons)
        return float(np.mean([share for key, share in seen.items() if key in who[0].traits]))

    return {
        "name_alone": arm([character.trigger for character in who], True),
        "name_other": arm([text.nonsense_name(rng) for _ in who], True),
        "name_described": arm([None] * count, False),
    }


def draw_examples(shipped: Shipped, path: Path) -> None:
    """A grid of 15 prompts of unseen toons in three shapes, each with the words it was asked
    with."""
    toons = sample.unseen_toons(15, 5)
    prompts = [
        sentence(toon) if i % 4 == 3 else ", ".join(tags(toon)) for i, toon in enumerate(toons)
    ]
    images = generated(shipped, toons, prompts, seed=700)
    cell, words = 232, 96
    sheet = Image.new("RGB", (5 * cell, 3 * (cell + words)), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for i, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        x, y = (i % 5) * cell, (i // 5) * (cell + words)
        picture = Image.fromarray(image).resize(
            (image.shape[1] * 2, image.shape[0] * 2), Image.Resampling.NEAREST
        )
        sheet.paste(
            picture, (x + (cell - picture.width) // 2, y + 4 + (cell - 4 - picture.height) // 2)
        )
        pen.multiline_text(
            (x + 6, y + cell + 2), textwrap.fill(prompt, 38)[:280], fill=(40, 40, 40), spacing=2
        )
    sheet.save(path, optimize=True)


def broken(shipped: Shipped, settings: Settings, count: int = 24) -> dict[str, float]:
    """Share called corrupted of what a broken base draws, which no training showed: the cause → the
    share.

    Its matrices are noised by a share of their own deviation, or it is sampled with too few steps
    or too much guidance.
    """
    classifier = corruption.Classifier(settings)
    prompts = [", ".join(tags(toon)) for toon in sample.unseen_toons(count, 33)]
    transformer = shipped.model.transformer
    healthy = {name: value.clone() for name, value in transformer.state_dict().items()}

    def told(noise: float = 0.0, **options: float) -> float:
        generator = torch.Generator().manual_seed(5)
        transformer.load_state_dict(
            {
                name: (
                    value + noise * value.std() * torch.randn(value.shape, generator=generator)
                    if value.ndim == 2
                    else value
                )
                for name, value in healthy.items()
            }
        )
        return float((classifier(shipped.render(prompts, seed=77, **options)) > 0.5).mean())

    shares = {
        "unharmed": told(),
        "2 steps": told(steps=2),
        "guidance 12": told(guidance=12.0),
        "guidance 25": told(guidance=25.0),
        **{f"weights noised by {noise}": told(noise) for noise in (0.2, 0.4, 0.6)},
    }
    transformer.load_state_dict(healthy)
    return shares


def soiled_precision(
    tagger: observers.Tagger, images: list[np.ndarray], toons: list[Toon]
) -> dict[str, float]:
    """Mean average precision under 30 % of three colours, and with grain of 16 levels of 255."""
    rng = np.random.default_rng([SEED, 18])
    veils = {"warm yellow": WARM_YELLOW, "blue": (60, 90, 255), "near black": (20, 20, 20)}
    soiled = {
        f"30 % {name}": [image + 0.3 * (np.array(color) - image) for image in images]
        for name, color in veils.items()
    }
    soiled["grain of 16 levels"] = [image + rng.normal(0, 16, image.shape) for image in images]
    return {
        name: observers.mean_average_precision(
            tagger([x.clip(0, 255).astype(np.uint8) for x in xs]), toons
        )[0]
        for name, xs in soiled.items()
    }


def measure_eyes(
    shipped: Shipped,
    settings: Settings,
    images: list[np.ndarray],
    toons: list[Toon],
    count: int = 150,
) -> dict[str, dict]:
    """The detector and the corruption classifier, on renders and on the first `count` pictures of
    the base."""
    made = (images[:count], toons[:count])
    return {
        "detector": detector.measure(settings, made),
        "corruption": corruption.measure(settings, made) | {"broken": broken(shipped, settings)},
    }


def measure(settings: Settings) -> None:
    """All numbers of the README, from the files that are shipped."""
    count = max(int(500 * min(settings.minutes_scale, 1)), 20)
    shipped, tagger = Shipped.load(settings), observers.Tagger(settings)
    toons = sample.unseen_toons(count, 2)
    real = renders(toons)
    square = np.stack([np.asarray(draw(toon)) for toon in toons])
    quality = reconstruct(shipped, square)
    styles = {
        style: float(
            np.mean(
                [q for q, toon in zip(quality, toons, strict=True) if toon.style == style] or [0]
            )
        )
        for style in VOCABULARY["style"]
    }
    seen = tagger(real)
    precision, each = observers.mean_average_precision(seen, toons)
    log(settings, "measure", f"PSNR {quality.mean():.2f} dB, mAP {precision:.4f}")
    prompts = [sentence(toon) if i % 2 else ", ".join(tags(toon)) for i, toon in enumerate(toons)]
    images = generated(shipped, toons, prompts, seed=500)
    drawn = tagger(images)
    result = {
        "count": count,
        "sampler": {"steps": sample.STEPS, "guidance": sample.GUIDANCE, "shift": sample.SHIFT},
        "vae_psnr": float(quality.mean()),
        "vae_psnr_by_style": styles,
        "tagger_map": precision,
        "tagger_soiled": soiled_precision(tagger, real, toons),
        "tags_measured": len(each),
        "tagger_weakest": dict(sorted(each.items(), key=lambda kv: kv[1])[:8]),
        "obeyed": obedience(drawn, toons),
        "ceiling": obedience(seen, toons),
        "obeyed_tags": obedience(drawn[::2], toons[::2]),
        "obeyed_sentences": obedience(drawn[1::2], toons[1::2]),
        "trigger": trigger_effect(shipped, settings, tagger, max(count // 5, 10)),
        "names": name_effect(shipped, tagger, max(count // 5, 10)),
        "identity": json.loads((settings.out / "identity" / "metrics.json").read_text()),
        "standin": identity.standin_check(settings),
        **measure_eyes(shipped, settings, images, toons),
    }
    write_json(settings.work / "measured.json", result)
    draw_examples(shipped, settings.out / "grid.png")
    log(
        settings,
        "measure",
        json.dumps({k: result[k] for k in ("obeyed", "ceiling", "trigger", "names", "standin")}),
    )
