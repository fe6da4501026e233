"""Memory of sampling, found without a weight: the real prediction runs on tensors that have shapes
but no data (families/counting.py)."""

import torch

from onmodel.families.counting import counting
from onmodel.families.protocol import Outline
from onmodel.sample.pictures import DrawnBatch


def sampling_bytes(outline: Outline, batch: DrawnBatch, dtype: torch.dtype) -> int:
    """Peak bytes of a sampling step or of decoding the batch, whichever is more, without
    weights."""
    step = outline.whole(lambda blocks: _short_step(outline, batch, dtype, blocks))
    decoded = outline.decoding_bytes(batch.pictures, batch.width, batch.height, dtype)
    return max(step, decoded)


def _short_step(outline: Outline, batch: DrawnBatch, dtype: torch.dtype, blocks: int) -> int:
    """The step of a transformer of so many blocks."""
    with counting() as alive, torch.no_grad():
        family = outline.shadow(blocks, dtype)
        spec = family.spec
        rows = batch.pictures * (1 + batch.guided)
        weights = alive.start()
        with family.sampling([outline.longest_text(dtype)] * rows) as predict:
            sides = (batch.height // spec.downscale, batch.width // spec.downscale)
            x_bchw = torch.empty(rows, spec.latent_channels, *sides)
            predict(x_bchw, torch.empty(()))
        return alive.peak - weights
