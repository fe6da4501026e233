"""Memory of work that is not done: the real code runs on tensors that have shapes but no data.

Counted op by op is every storage that is alive. Not counted is what kernels take inside and what an
allocator keeps.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from onmodel.families.modes import Modes
from onmodel.families.protocol import Outline


class Alive(TorchDispatchMode):
    """Bytes of the storages that ops made and that are still alive: `now`, and the `peak` so
    far. The meta device stands for memory that is not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def start(self) -> int:
        """Forget the peak so far; returns the bytes of now."""
        self.peak = self.now
        return self.now

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device.type != "meta":
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


def backbone_bytes(outline: Outline, dtype: torch.dtype, modes: Modes) -> int:
    """Bytes of the backbone's weights on the device. Of the swapped blocks two are there: the one
    that computes and the next."""
    spec = outline.spec
    rows = [row for row in spec.linears if row.block is not None]
    block = sum(row.out_features * row.in_features for row in rows) // spec.blocks
    here = spec.blocks - max(min(modes.swap_blocks, spec.blocks) - 2, 0)
    size = 1 if modes.quantize else dtype.itemsize
    whole = outline.weight_bytes(spec.backbone, dtype)
    return whole - block * (spec.blocks * dtype.itemsize - here * size)


@contextmanager
def counting() -> Iterator[Alive]:
    """Within the context tensors have no data, and what is alive of them is counted."""
    with FakeTensorMode(allow_non_fake_inputs=True), Alive() as alive:
        yield alive


def filled(model: Any, dtype: torch.dtype) -> Any:
    """A model on the meta device with weights on the processor, which are uninitialised."""
    weights = {
        name: torch.empty(tensor.shape, dtype=dtype) for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(weights, assign=True)
    return model.requires_grad_(False)
