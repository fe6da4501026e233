"""Memory that was freed, given back to the system: torch and the C library keep it otherwise."""

import ctypes
import gc
import sys

_ARENA_MAX = -8  # mallopt(3)


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
    if sys.platform == "linux":
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:
            set_option(_ARENA_MAX, 1)
