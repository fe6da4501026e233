"""Memory that was freed, given back to the system: torch and the C library keep it otherwise."""

import ctypes
import gc
import sys


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
