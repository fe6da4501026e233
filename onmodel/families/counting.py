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


class Alive(TorchDispatchMode):
    """Bytes of the storages that ops made and that are still alive: `now`, and the `peak` so
    far."""

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


@contextmanager
def counting() -> Iterator[Alive]:
    """Within the context tensors have no data, and what is alive of them is counted."""
    with FakeTensorMode(allow_non_fake_inputs=True), Alive() as alive:
        yield alive
