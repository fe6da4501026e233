"""Memory of sampling, found without a weight: the real prediction runs on tensors that have shapes
but no data (families/counting.py)."""

from dataclasses import dataclass

import torch

from onmodel.families.counting import counting
from onmodel.families.protocol import Outline
from onmodel.sample.sampling import DrawnBatch

# T5 tokens. The suites' longest prompt has 63, most have 23 to 30; a token of the published base
# costs 0.2 MiB of keys and values for each picture of a batch.
_PROMPT = 96


@dataclass(frozen=True)
class SamplingBytes:
    """Peak bytes of a sampling `step`, and of `decoding` the batch, without weights."""

    step: int
    decoding: int


def sampling_bytes(
    outline: Outline, batch: DrawnBatch, tiles: bool, dtype: torch.dtype
) -> SamplingBytes:
    """What generating a batch takes."""
    step = outline.whole(lambda blocks: _short_step(outline, batch, dtype, blocks))
    decoding = outline.decoding_bytes(batch.pictures, batch.width, batch.height, dtype, tiles)
    return SamplingBytes(step, decoding)


def _short_step(outline: Outline, batch: DrawnBatch, dtype: torch.dtype, blocks: int) -> int:
    """The step of a transformer of so many blocks."""
    with counting() as alive, torch.no_grad():
        family = outline.shadow(blocks, dtype)
        spec = family.spec
        rows = batch.pictures * (1 + batch.guided)
        weights = alive.start()
        with family.sampling([outline.text(_PROMPT, dtype)] * rows) as predict:
            sides = (batch.height // spec.downscale, batch.width // spec.downscale)
            x_bchw = torch.empty(rows, spec.latent_channels, *sides)
            predict(x_bchw, torch.empty(()))
        return alive.peak - weights
