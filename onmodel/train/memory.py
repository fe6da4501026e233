"""Peak memory of a training step, found without a weight: the real step runs on tensors that have shapes but no data.

Counted op by op is every storage that is alive: weights, factors, their gradient and AdamW's moments, what the backward
pass keeps, and passing values. Not counted are what kernels take inside, the allocator's rounding, a card's context
(0.5–1 GiB), Python and its libraries, and pictures being encoded before the first step. On a processor the C library's
heap keeps freed pieces: measured peaks are 1.5 to 2 times as large, within 5 % of this where the pieces are given back
(docs/LOG.md).
"""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from onmodel.models.anima.outline import Outline
from onmodel.models.family import Family, Linear, Text
from onmodel.models.lora import Factors
from onmodel.progress import Progress
from onmodel.train.adapters import Adapters, attached
from onmodel.train.objective import velocity_loss
from onmodel.train.options import Options

SIDES = (512, 768, 1024)
_SMALL = 2**28  # parameters; the memory of a smaller base is nobody's worry
_MOMENTS = 2  # AdamW's, float32 like the factors


@dataclass(frozen=True)
class Forecast:
    """What a training run takes. `memory`: side in pixels → peak bytes of a step, (all activations kept, blocks
    computed twice); empty for a small base. `file_bytes` is a checkpoint's tensors.
    """

    layers: int
    parameters: int
    file_bytes: int
    batch: int
    memory: Mapping[int, tuple[int, int]]


def forecast(outline: Outline, options: Options, dtype: torch.dtype, progress: Progress) -> Forecast:
    """The forecast of a run with a base in `dtype`. Raises InputError for an unknown preset of targets."""
    targets = outline.spec.targets(options.targets)
    parameters = sum(options.rank * (row.in_features + row.out_features) for row in targets)
    memory: dict[int, tuple[int, int]] = {}
    if outline.parameters("transformer") >= _SMALL:
        sides = sorted({*SIDES, *options.resolutions})
        with progress.task("plan memory", total=2 * len(sides)) as task:
            for side in sides:
                peaks = []
                for checkpointing in (False, True):
                    peaks.append(peak_bytes(outline, options, dtype, side, checkpointing))
                    task.advance()
                memory[side] = (peaks[0], peaks[1])
    return Forecast(len(targets), parameters, parameters * torch.float32.itemsize, options.batch, memory)


def peak_bytes(outline: Outline, options: Options, dtype: torch.dtype, side: int, checkpointing: bool) -> int:
    """Peak bytes of a step on square pictures of `side` pixels, with the whole base in memory.

    Blocks are alike, so a block more costs what the second costs: two short transformers are run, not a whole one.
    """
    one, two = (_transformer_peak(outline, options, dtype, side, checkpointing, blocks) for blocks in (1, 2))
    others = sum(outline.parameters(role) for role in outline.models if role != "transformer") * dtype.itemsize
    return two + (outline.spec.blocks - 2) * (two - one) + others


def _transformer_peak(
    outline: Outline, options: Options, dtype: torch.dtype, side: int, checkpointing: bool, blocks: int
) -> int:
    """Peak bytes of a step with a transformer of so many blocks: its weights, the run's state, and the step's own."""
    with FakeTensorMode(), _Alive() as alive:
        denoiser = outline.shadow(blocks, dtype)
        spec = denoiser.spec
        adapters = Adapters(empty_factors(spec.targets(options.targets), options.rank), torch.device("cpu"))
        moments = [torch.empty_like(adapters.flat) for _ in range(_MOMENTS)]
        latents = torch.empty(options.batch, spec.latent_channels, side // spec.downscale, side // spec.downscale)
        width = denoiser.transformer.config.text_embed_dim
        texts = [Text(torch.empty(spec.text_rows, width, dtype=dtype), 0)] * options.batch  # as long as captions get
        products = torch.float32 if options.precision == "fp32" else torch.bfloat16
        if checkpointing:
            denoiser.transformer.enable_gradient_checkpointing()
        with attached(cast(Family, denoiser), adapters, products):
            alive.peak = alive.now
            t_b = torch.empty(options.batch)
            velocity_loss(cast(Family, denoiser), latents, torch.empty_like(latents), t_b, texts).mean().backward()
        del moments
        return alive.peak


def empty_factors(targets: Sequence[Linear], rank: int) -> dict[str, Factors]:
    """Uninitialised factors of one rank, alpha 1."""
    return {
        row.name: Factors(torch.empty(rank, row.in_features), torch.empty(row.out_features, rank), 1.0)
        for row in targets
    }


class _Alive(TorchDispatchMode):
    """Bytes of the storages that ops made and that are still alive: `now`, and the `peak` so far."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size
