"""Memory of a training, found without a weight: the real step runs on tensors that have shapes but
no data (families/counting.py).

What is trained, its gradient, average and optimizer's state follow from shapes alone.
"""

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import torch

from onmodel.families.counting import counting
from onmodel.families.modes import Modes
from onmodel.families.protocol import FamilySpec, Outline
from onmodel.train.adapters import attached
from onmodel.train.checkpointing import compute_twice
from onmodel.train.networks import (
    all_shapes,
    make_network,
    step_components,
    text_rates,
    trained_layers,
)
from onmodel.train.objective import denoising_loss
from onmodel.train.optimizers import frees_gradient, state_bytes
from onmodel.train.options import Options

LONGEST = 512  # tokens of a caption


@dataclass(frozen=True)
class StepBytes:
    """Bytes of a step beside the base's weights and what the run keeps: `copies` of the trained
    layers' weights in another dtype, and `activations`, which are all else."""

    copies: int
    activations: int


def run_bytes(spec: FamilySpec, options: Options) -> int:
    """What a run keeps beside the base: trained tensors, their average, the optimizer's state, and
    the gradient where it is not freed after each step. Raises InputError for targets that are not
    there."""
    shapes = [shape for roles in all_shapes(spec, options).values() for shape in roles.values()]
    copies = 1 + bool(options.ema) + (not frees_gradient(options))
    return 4 * copies * sum(map(prod, shapes)) + state_bytes(options, shapes)


def step_bytes(
    outline: Outline,
    options: Options,
    dtype: torch.dtype,
    products: torch.dtype,
    side: int,
    modes: Modes,
) -> StepBytes:
    """Peak of a step on square pictures of `side` pixels: the base in `dtype`, large products in
    `products`.

    The step runs on a short backbone where the family can extrapolate from that to the whole one.
    Where blocks are trained differently, each counts like the largest. What encodes text and is
    computed in the step is whole.
    """

    @cache
    def of_blocks(blocks: int) -> StepBytes:
        return _short_step(outline, options, dtype, products, side, modes, blocks)

    return StepBytes(
        outline.whole(lambda blocks: of_blocks(blocks).copies),
        max(outline.whole(lambda blocks: of_blocks(blocks).activations), _made(outline, options)),
    )


def _made(outline: Outline, options: Options) -> int:
    """Bytes at the end of a backward pass that makes the gradient anew: what is trained in bfloat16
    (2 a number), the gradient of it (2), and the gradient itself (4). The first blocks of a short
    transformer show less than that of a whole one."""
    if not frees_gradient(options):
        return 0
    return 8 * sum(
        prod(shape)
        for roles in all_shapes(outline.spec, options).values()
        for shape in roles.values()
    )


def _short_step(
    outline: Outline,
    options: Options,
    dtype: torch.dtype,
    products: torch.dtype,
    side: int,
    modes: Modes,
    blocks: int,
) -> StepBytes:
    """The step of a transformer of so many blocks."""
    with counting() as alive:
        family = outline.shadow(blocks, dtype, step_components(outline.spec, options))
        spec = family.spec
        backbone: Any = family.backbone
        rank_alphas = _rank_alphas(outline.spec, spec, options)
        network = make_network(family, options, rank_alphas, 0, torch.device("cpu"))
        if frees_gradient(options):
            network.free_gradient()
        if modes.checkpointing:
            compute_twice(backbone, "meta" if modes.offload else None)
        before = alive.now
        with attached(family, network, products), family.training():
            copies = alive.start() - before
            sides = (side // spec.downscale, side // spec.downscale)
            latents = torch.empty(options.batch, spec.latent_channels, *sides)
            trained = text_rates(outline.spec, options)
            texts = [outline.text(LONGEST, dtype, trained)] * options.batch
            t_b = torch.empty(options.batch)
            with network.low_precision(products):
                losses = denoising_loss(family, latents, torch.empty_like(latents), t_b, texts)
                losses.mean().backward()
        return StepBytes(copies, alive.peak - before - copies)


def _rank_alphas(
    whole: FamilySpec, short: FamilySpec, options: Options
) -> dict[str, tuple[int, float]]:
    """Rank and alpha of the layers of a short transformer: the largest of any block."""
    wanted: dict[str, tuple[int, float]] = {}
    rank_alphas = trained_layers(whole, options)
    for row in whole.lora_linears:
        if row.name in rank_alphas:
            rank_alpha = rank_alphas[row.name]
            wanted[row.in_any_block] = max(rank_alpha, wanted.get(row.in_any_block, rank_alpha))
    return {
        row.name: wanted[row.in_any_block]
        for row in short.lora_linears
        if row.in_any_block in wanted
    }
