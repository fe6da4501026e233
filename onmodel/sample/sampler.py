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
from onmodel.families.protocol import EmptyText, Family, SamplerName, Schedule, Text
from onmodel.prompt_syntax import plain
from onmodel.randomness import normal
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
    family: Family,
    jobs: Sequence[Job],
    *,
    steps: int,
    guidance: float,
    shift: float,
    batch: int,
    sampler: SamplerName = "euler",
    schedule: Schedule = "flow",
) -> Iterator[tuple[Job, Image.Image]]:
    """Make the pictures in the order of the jobs; jobs of equal size share a batch. Memory grows
    with `batch` alone.

    `guidance` 1 leaves the negative prompt out and costs half. Raises InputError for a size that
    the base cannot do.
    """
    rules = family.spec.resolution
    for job in jobs:
        sides = (job.width, job.height)
        if any(side % rules.step or not rules.step <= side <= rules.largest for side in sides):
            remedy = f"sides are multiples of {rules.step} px, at most {rules.largest}"
            raise InputError("size", f"{job.width}×{job.height}", remedy)
    for text in dict.fromkeys(text for job in jobs for text in (job.prompt, job.negative)):
        for loss in family.text_losses(plain(text)):
            logger.warning("%s, in the prompt: %.60s", loss, text)
    for start in range(0, len(jobs), window := batch * WINDOW):
        part = jobs[start : start + window]
        done: dict[int, Image.Image] = {}
        for indices in _batches(part, batch):
            chosen = [part[i] for i in indices]
            latents = sample(family, chosen, steps, guidance, shift, sampler, schedule)
            pictures = _pictures(family.decode_latents(latents))
            done.update(zip(indices, pictures, strict=True))
        for i, job in enumerate(part):
            yield job, done[i]


@torch.inference_mode()
def sample(
    family: Family,
    jobs: Sequence[Job],
    steps: int,
    guidance: float,
    shift: float,
    sampler: SamplerName = "euler",
    schedule: Schedule = "flow",
) -> Tensor:
    """Latents [B, C, h, w] of jobs of one size. Guided prediction: uncond + guidance · (cond −
    uncond)."""
    texts = [job.encode(family, job.prompt) for job in jobs]
    guided = guidance != 1.0
    if guided:
        texts += [job.encode(family, job.negative) for job in jobs]
    rules = family.sampling_rules
    sigmas = rules.schedule(steps, shift, schedule)
    x_bchw = rules.start(torch.cat([noise(family, job) for job in jobs]), sigmas)
    with family.sampling(texts) as predict:

        def predict_guided(x_bchw: Tensor, sigma: Tensor) -> Tensor:
            if not guided:
                return predict(x_bchw, sigma)
            cond, uncond = predict(torch.cat([x_bchw, x_bchw]), sigma).chunk(2)
            return uncond + guidance * (cond - uncond)

        def draw(step: int) -> Tensor:
            return torch.cat([noise(family, job, f"noise of step {step}") for job in jobs])

        return SOLVERS[sampler](rules, predict_guided, x_bchw, sigmas, draw)


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
