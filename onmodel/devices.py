"""The devices of torch by its own names: "cpu", "cuda", "cuda:1", "mps", "xpu". ROCm's cards are
"cuda" to torch.

Everything that asks torch about a card asks here. Only the processor was tested by us.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onmodel.errors import InputError

if TYPE_CHECKING:
    import torch

KINDS = ("cpu", "cuda", "mps", "xpu")
STREAMED = ("cuda", "xpu")  # cards that copy from pinned memory while they compute
_NAME = re.compile(rf"cpu|(?:{'|'.join(KINDS[1:])})(?::(?:0|[1-9][0-9]?))?")
_CHOICES = '"auto", "cpu", "cuda", "cuda:1", "mps" or "xpu"'


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device as `doctor` prints it. `memory` are its bytes."""

    device: "torch.device"
    title: str
    memory: int
    bfloat16: bool


def check_name(name: str) -> None:
    """Raise ValueError unless `name` is "auto" or one of KINDS with or without a number. Loads no
    torch."""
    if name != "auto" and not _NAME.fullmatch(name):
        raise ValueError(f"write {_CHOICES}")


def find_device(name: str, field: str) -> "torch.device":
    """The device of a name; "auto" is torch's accelerator, or the processor where there is none.

    Raises InputError naming `field` when this torch cannot use the device.
    """
    import torch

    card = accelerator()
    if name == "auto":
        return card or torch.device("cpu")
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if card is None or device.type != card.type:
        there = "no card" if card is None else card.type
        raise InputError(field, name, f'torch {torch.__version__} finds {there}; use "auto"')
    count = torch.accelerator.device_count()
    if (device.index or 0) >= count:
        raise InputError(field, name, f"there are {count}, numbered from 0")
    return device


def accelerator() -> "torch.device | None":
    """The kind of card that torch can use now; None without one or with one of no kind in
    KINDS."""
    import torch

    card = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return card if card is not None and card.type in KINDS else None


def default_dtype(device: "torch.device") -> "torch.dtype":
    """bfloat16 on a card that computes in it, else float32. Never float16, whose
    largest number is 65,504."""
    import torch

    return torch.bfloat16 if device.type != "cpu" and has_bfloat16(device) else torch.float32


def has_bfloat16(device: "torch.device") -> bool:
    """Whether the device computes in bfloat16 without emulating it."""
    import torch

    match device.type:
        case "cpu":
            able = torch.cpu.get_capabilities()
            return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
        case "cuda":
            if (
                not torch.cuda.is_available()
            ):  # a plan for another machine; cards since 2020 have it
                return True
            with torch.cuda.device(device):
                return torch.cuda.is_bf16_supported(including_emulation=False)
        case "xpu":
            return torch.xpu.is_bf16_supported(including_emulation=False)
        case _:
            try:  # macOS 14 and newer
                return bool((torch.ones(1, device=device, dtype=torch.bfloat16) * 2).item() == 2)
            except (RuntimeError, TypeError):
                return False


def free_memory(device: "torch.device") -> int:
    """Bytes of memory on a device that this process can still allocate."""
    import psutil
    import torch

    match device.type:
        case "cuda" | "xpu":
            torch.accelerator.empty_cache()
            free, total = torch.accelerator.get_memory_info(device)
            if device.type == "cuda":  # `limit_memory`
                share = torch.cuda.get_per_process_memory_fraction(device)
                free = min(free, int(share * total) - torch.cuda.memory_reserved(device))
            return free
        case "mps":
            torch.mps.empty_cache()
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        case _:
            return int(psutil.virtual_memory().available)


def used_memory(device: "torch.device") -> int:
    """Bytes that this process holds: the most on a card so far, or its memory now."""
    import psutil
    import torch

    match device.type:
        case "cuda" | "xpu":
            return torch.accelerator.max_memory_allocated(device)
        case "mps":
            return torch.mps.driver_allocated_memory()
        case _:
            return int(psutil.Process().memory_info().rss)


def limit_memory(share: float) -> None:
    """Let this process allocate at most a share of the card's memory, so that others find theirs.
    Only torch's own CUDA allocator can be limited."""
    import torch

    if torch.cuda.is_available() and share < 1:
        torch.cuda.set_per_process_memory_fraction(share)


def select(device: "torch.device") -> None:
    """Make a card this thread's own. Its calls without a device go there."""
    import torch

    if device.type in STREAMED:
        torch.accelerator.set_device_index(device.index or 0)


def facts_of(device: "torch.device") -> DeviceFacts:
    """What doctor prints of a device."""
    import platform

    import psutil
    import torch

    match device.type:
        case "cuda" | "xpu":
            module = torch.cuda if device.type == "cuda" else torch.xpu
            found = module.get_device_properties(device)
            title, memory = str(found.name), int(found.total_memory)
        case "mps":
            title, memory = "Apple GPU", torch.mps.recommended_max_memory()
        case _:
            title, memory = platform.processor() or "processor", psutil.virtual_memory().total
    return DeviceFacts(device, title, memory, has_bfloat16(device))
