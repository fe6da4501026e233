"""Ways to compute with less memory, and the choice of those that a budget needs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

Quantize = Literal["int8", "fp8"]


@dataclass(frozen=True, slots=True)
class Modes:
    """How a base computes. `vae_tiles`: large pictures are coded in strips of rows.
    `checkpointing`: blocks are computed twice in training. `offload`: meanwhile their inputs lie in
    the host's memory. `swap_blocks`: so many blocks lie in the host's memory and come to the device
    when they compute. `quantize`: number format of the blocks' weights."""

    vae_tiles: bool = False
    checkpointing: bool = False
    offload: bool = False
    swap_blocks: int = 0
    quantize: Quantize | None = None


def candidates(blocks: int, first: Modes) -> Iterator[Modes]:
    """`first`, and what takes less memory, the least cost of time first: tiles, checkpointing,
    offloaded inputs, one swapped block more, up to `blocks`. Nothing is quantised that `first` does
    not."""
    yield first
    modes = replace(first, vae_tiles=True)
    if modes != first:
        yield modes
    if not modes.checkpointing:
        modes = replace(modes, checkpointing=True)
        yield modes
    if not modes.offload:
        modes = replace(modes, offload=True)
        yield modes
    for count in range(modes.swap_blocks + 1, blocks + 1):
        yield replace(modes, swap_blocks=count)


def choose(
    budget_bytes: int, peak_of: Callable[[Modes], int], modes: Iterable[Modes]
) -> Modes | None:
    """The first of `modes` whose peak fits into the budget; None where none does."""
    return next((one for one in modes if peak_of(one) <= budget_bytes), None)


def described(modes: Modes) -> str:
    """The modes that are on, in words, with what each costs."""
    words = [
        "pictures coded in strips" if modes.vae_tiles else "",
        "gradient checkpointing (blocks are computed twice)" if modes.checkpointing else "",
        "the blocks' inputs in the host's memory (copied twice)" if modes.offload else "",
        f"{modes.swap_blocks} blocks swapped (copied in each pass)" if modes.swap_blocks else "",
        f"weights in {modes.quantize} (rounded)" if modes.quantize else "",
    ]
    return ", ".join(filter(None, words))
