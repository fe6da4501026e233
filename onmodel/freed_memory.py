"""Memory that was freed: given back to the system, which torch and the C library do late, or kept
for the steps of a training, which need the same pieces again and again."""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

# Of glibc's malloc.h: freed memory at the end of the heap that is given back, and pieces that do
# not come from the heap. _LARGE is the most that every glibc takes, and what it finds by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGE = 32 * 2**20


def return_freed_memory() -> None:
    """Give freed memory back, of the card and of the process. glibc alone has a call for the
    latter; elsewhere the allocator decides."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def share_memory_among_threads() -> None:
    """Let all threads take memory from one pool, before the first of them starts. glibc gives each
    its own, and what one thread freed then does not serve the others."""
    if mallopt := _mallopt():
        mallopt(_ARENA_MAX, 1)


@contextmanager
def kept_freed_memory() -> Iterator[None]:
    """Within the context glibc keeps up to 2 GiB of freed memory at the end of its heap. Each step
    would have it mapped anew, page by page, otherwise."""
    mallopt = _mallopt()
    if mallopt is None:
        yield
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        mallopt(_TRIM_THRESHOLD, 2 * _LARGE)


def _mallopt() -> Callable[[int, int], int] | None:
    """glibc's call that sets an option of its allocator, mallopt(3)."""
    found = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return cast("Callable[[int, int], int] | None", found)
