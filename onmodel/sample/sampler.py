"""Pictures from prompts: a solver's steps through the family's noise levels, with classifier-free
guidance.

Noise depends on the seed and the size alone, so every arm of a comparison starts from the same
noise.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from onmodel.errors import InputError
from onmodel.families.protocol import Family, Text
from onmodel.families.settings import EmptyText
from onmodel.prompt_syntax import plain
from onmodel.randomness import normal
from onmodel.sample.sampling import Sampling
from onmodel.sample.solvers import SOLVERS

logger = logging.getLogger(__name__)

# Jobs of unequal size wait for partners of their size within a window of so many batches; this
# bounds the memory.
WINDOW = 8


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to make; sizes in pixels."""

    prompt: str
    negative: str
    seed: int
    width: int
    height: int
    empty_text: EmptyText = "diffusers"

    def encode(self, family: Family, prompt: str) -> Text:
        """One of its two prompts as text."""
        (text,) = family.encode_prompts([prompt], self.empty_text)
        return text


def generate(
    family: Family, jobs: Sequence[Job], sampling: Sampling
) -> Iterator[tuple[Job, Image.Image]]:
    """Make the pictures in the order of the jobs; jobs of equal size share a batch. Memory grows
    with the batch alone. The sizes are those of the jobs. Raises InputError for a size that the
    base cannot do."""
    rules = family.spec.resolution
    for job in jobs:
        sides = (job.width, job.height)
        if any(side % rules.step or not rules.step <= side <= rules.largest for side in sides):
            remedy = f"sides are multiples of {rules.step} px, at most {rules.largest}"
            raise InputError("size", f"{job.width}×{job.height}", remedy)
    for text in dict.fromkeys(text for job in jobs for text in (job.prompt, job.negative)):
        for loss in family.text_losses(plain(text)):
            logger.warning("%s, in the prompt: %.60s", loss, text)
    for start in range(0, len(jobs), window := sampling.batch * WINDOW):
        part = jobs[start : start + window]
        done: dict[int, Image.Image] = {}
        for indices in _batches(part, sampling.batch):
            chosen = [part[i] for i in indices]
            latents = sample(family, chosen, sampling)
            pictures = _pictures(family.decode_latents(latents))
            done.update(zip(indices, pictures, strict=True))
        for i, job in enumerate(part):
            yield job, done[i]


@torch.inference_mode()
def sample(family: Family, jobs: Sequence[Job], sampling: Sampling) -> Tensor:
    """Latents [B, C, h, w] of jobs of one size."""
    texts = [job.encode(family, job.prompt) for job in jobs]
    if sampling.guided:
        texts += [job.encode(family, job.negative) for job in jobs]
    rules = family.sampling_rules
    sigmas = rules.schedule(sampling.steps, sampling.shift, sampling.schedule)
    x_bchw = rules.start(torch.cat([noise(family, job) for job in jobs]), sigmas)
    with family.sampling(texts) as predict:

        def predict_guided(x_bchw: Tensor, sigma: Tensor) -> Tensor:
            if not sampling.guided:
                return predict(x_bchw, sigma)
            cond, uncond = predict(torch.cat([x_bchw, x_bchw]), sigma).chunk(2)
            return guide(cond, uncond, sampling.guidance, sampling.guidance_rescale)

        def draw(step: int) -> Tensor:
            return torch.cat([noise(family, job, f"noise of step {step}") for job in jobs])

        return SOLVERS[sampling.sampler](rules, predict_guided, x_bchw, sigmas, draw)


def guide(cond_bchw: Tensor, uncond_bchw: Tensor, scale: float, rescale: float) -> Tensor:
    """Classifier-free guidance: uncond + scale · (cond − uncond). `rescale` is the share of it that
    is brought back to the deviation of `cond` (CFG rescale, Lin et al. 2024, section 3.4)."""
    guided = uncond_bchw + scale * (cond_bchw - uncond_bchw)
    if not rescale:
        return guided
    whole = (1, 2, 3)
    factor = cond_bchw.std(whole, keepdim=True) / guided.std(whole, keepdim=True)
    return torch.lerp(guided, guided * factor, rescale)


def noise(family: Family, job: Job, purpose: str = "noise") -> Tensor:
    """Noise [1, C, h, w] of a job: a function of its seed, its size and the purpose, which is the
    start or a step."""
    scale = family.spec.downscale
    shape = (1, family.spec.latent_channels, job.height // scale, job.width // scale)
    return torch.from_numpy(normal(shape, job.seed, purpose))


def _batches(jobs: Sequence[Job], batch: int) -> list[list[int]]:
    """Indices of jobs, grouped by size, at most `batch` in a group."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for i, job in enumerate(jobs):
        sizes.setdefault((job.width, job.height), []).append(i)
    return [group[i : i + batch] for group in sizes.values() for i in range(0, len(group), batch)]


def _pictures(images_bchw: Tensor) -> list[Image.Image]:
    pixels = (images_bchw / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).cpu().numpy()]
