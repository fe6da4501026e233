"""Peak memory of a training step, found without a weight: the real step runs on tensors that have
shapes but no data.

Counted op by op is every storage that is alive: weights, what the backward pass keeps, and passing
values; and from shapes alone what is trained, its gradient, average and optimizer's state. Not
counted are what kernels take inside, the allocator's rounding, a card's context (0.5–1 GiB), Python
and its libraries, and pictures being encoded before the first step. On a processor the C library's
heap keeps freed pieces: measured peaks are 1.5 to 2 times as large, within 5 % of this where the
pieces are given back (LOG.md).
"""

import weakref
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from onmodel.events import Events
from onmodel.families.protocol import FamilySpec, Outline
from onmodel.train.adapters import attached
from onmodel.train.networks import make_network, trained_layers, trained_shapes
from onmodel.train.objective import denoising_loss
from onmodel.train.optimizers import Shape, state_bytes
from onmodel.train.options import Options

_SMALL = 2**28  # parameters; the memory of a smaller base is nobody's worry


@dataclass(frozen=True)
class Forecast:
    """Forecast of a training run. `memory`: side in pixels → peak bytes of a step, (all activations
    kept, blocks computed twice); empty for a small base. `file_bytes`: size of a checkpoint's
    tensors."""

    layers: int
    parameters: int
    file_bytes: int
    batch: int
    memory: Mapping[int, tuple[int, int]]


def forecast(
    outline: Outline,
    options: Options,
    sides: Collection[int],
    dtype: torch.dtype,
    events: Events,
) -> Forecast:
    """The forecast of a run on pictures of these sides with a base in `dtype`. Raises InputError
    for targets that are not there.
    """
    layers = _shapes(outline.spec, options)
    parameters = sum(prod(shape) for shapes in layers.values() for shape in shapes.values())
    written = parameters + sum(
        prod(shapes.get("magnitude", (0,))) for shapes in layers.values()
    )  # under two names
    memory: dict[int, tuple[int, int]] = {}
    if outline.parameters(outline.spec.backbone) >= _SMALL:
        native = outline.spec.resolution.native
        sides = sorted({native // 2, native * 3 // 4, native, *sides})
        with events.task("plan memory", total=2 * len(sides)) as task:
            for side in sides:
                peaks = []
                for checkpointing in (False, True):
                    peaks.append(peak_bytes(outline, options, dtype, side, checkpointing))
                    task.advance()
                memory[side] = (peaks[0], peaks[1])
    width = 2 if options.save_precision == "bf16" else 4
    return Forecast(len(layers), parameters, written * width, options.batch, memory)


def peak_bytes(
    outline: Outline, options: Options, dtype: torch.dtype, side: int, checkpointing: bool
) -> int:
    """Peak bytes of a step on square pictures of `side` pixels, with the whole base in memory.

    The step runs on a short backbone where the family can extrapolate from that to the whole one.
    Where blocks are trained differently, each counts like the largest.
    """
    step = outline.whole(
        lambda blocks: _step_bytes(outline, options, dtype, side, checkpointing, blocks)
    )
    others = dtype.itemsize * sum(
        outline.parameters(name) for name in outline.components if name != outline.spec.backbone
    )
    shapes = [
        shape for layer in _shapes(outline.spec, options).values() for shape in layer.values()
    ]
    return step + others + run_bytes(options, shapes)


def run_bytes(options: Options, shapes: Collection[Shape]) -> int:
    """What a run keeps beside the base: trained tensors, their gradient and average, and the
    optimizer's state."""
    copies = 3 if options.ema else 2
    return 4 * copies * sum(map(prod, shapes)) + state_bytes(options, list(shapes))


def _shapes(spec: FamilySpec, options: Options) -> dict[str, dict[str, Shape]]:
    """Layer → role → shape of what is trained."""
    rank_alphas = trained_layers(spec, options)
    return {
        row.name: trained_shapes(row, options, rank_alphas[row.name][0])
        for row in spec.linears
        if row.name in rank_alphas
    }


def _step_bytes(
    outline: Outline,
    options: Options,
    dtype: torch.dtype,
    side: int,
    checkpointing: bool,
    blocks: int,
) -> int:
    """Peak bytes of a step with a transformer of so many blocks: its weights and the step's own,
    not the run's."""
    with FakeTensorMode(allow_non_fake_inputs=True), _Alive() as alive:
        family = outline.shadow(blocks, dtype)
        spec = family.spec
        backbone: Any = family.backbone
        wanted: dict[str, tuple[int, float]] = {}
        rank_alphas = trained_layers(outline.spec, options)
        for row in outline.spec.linears:
            if row.name in rank_alphas:
                rank_alpha = rank_alphas[row.name]
                wanted[row.in_any_block] = max(rank_alpha, wanted.get(row.in_any_block, rank_alpha))
        rank_alphas = {
            row.name: wanted[row.in_any_block] for row in spec.linears if row.in_any_block in wanted
        }
        network = make_network(family, options, rank_alphas, 0, torch.device("cpu"))
        latents = torch.empty(
            options.batch, spec.latent_channels, side // spec.downscale, side // spec.downscale
        )
        texts = [outline.longest_text(dtype)] * options.batch
        products = torch.float32 if options.precision == "fp32" else torch.bfloat16
        if checkpointing:
            backbone.enable_gradient_checkpointing()
        with attached(family, network, products), family.training():
            alive.peak = alive.now
            t_b = torch.empty(options.batch)
            with network.low_precision(products):
                losses = denoising_loss(family, latents, torch.empty_like(latents), t_b, texts)
                losses.mean().backward()
        return alive.peak - 2 * network.flat.nbytes


class _Alive(TorchDispatchMode):
    """Bytes of the storages that ops made and that are still alive: `now`, and the `peak` so
    far."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, object] | None = None,
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
