"""How a training computes: which ways of saving memory, as asked for and as its budget needs, and
in which number format."""

from dataclasses import replace
from functools import cache

import torch

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.modes import Modes, candidates, choose
from onmodel.families.protocol import Family, Outline
from onmodel.families.registry import outline_of
from onmodel.train.checkpointing import free_memory
from onmodel.train.memory import peak_bytes
from onmodel.train.options import Options

SHARE = 0.85  # of a card's free memory; the rest is for what a forecast does not count


def training_modes(family: Family, options: Options, side: int, events: Events) -> Modes:
    """The modes of a run on pictures of at most `side`² pixels.

    The budget is `memory`; with "auto" what is free on the card. On a processor "auto" has none:
    there checkpointing alone is chosen, by what a picture keeps. Raises InputError when nothing
    fits into a budget that was given.
    """
    asked = Modes(
        vae_tiles=options.vae_tiles is True,
        checkpointing=options.gradient_checkpointing is True,
        swap_blocks=options.swap_blocks if isinstance(options.swap_blocks, int) else 0,
        quantize=options.quantize,
    )
    budget = options.memory_bytes
    if budget is None:
        if family.device.type != "cuda":
            return asked
        budget = int(SHARE * free_memory(family.device))

    # Elsewhere the host's memory is the device's own; other networks need their layers' weights.
    swaps = options.swap_blocks == "auto" and options.network == "lora"
    swaps = swaps and family.device.type == "cuda"

    def pinned(modes: Modes) -> Modes:
        """What was set stays."""
        return replace(
            modes,
            vae_tiles=modes.vae_tiles if options.vae_tiles == "auto" else asked.vae_tiles,
            checkpointing=modes.checkpointing and options.gradient_checkpointing is not False,
            swap_blocks=modes.swap_blocks if swaps else asked.swap_blocks,
        )

    outline = outline_of(family)
    found = list(dict.fromkeys(map(pinned, candidates(outline.spec.blocks, asked))))
    peaks = Peaks(outline, options, family.dtype, side)
    chosen = choose(budget, peaks.of, found)
    if chosen is None:
        least = peaks.of(found[-1])
        if options.memory != "auto":
            what = f"this training takes at least {least / 1e9:.1f} GB"
            remedy = 'lower batch or resolution, or set quantize = "int8"'
            raise InputError("memory", options.memory, f"{what}; {remedy}")
        chosen = found[-1]
    if chosen != asked:
        said = f"{budget / 1e9:.1f} GB of memory: {described(chosen)}"
        events.note(f"{said}; the forecast is {peaks.of(chosen) / 1e9:.1f} GB")
    return chosen


def described(modes: Modes) -> str:
    """The modes that are on, in words."""
    words = [
        "pictures coded in strips" if modes.vae_tiles else "",
        "gradient checkpointing" if modes.checkpointing else "",
        f"{modes.swap_blocks} blocks swapped" if modes.swap_blocks else "",
        f"weights in {modes.quantize}" if modes.quantize else "",
    ]
    return ", ".join(filter(None, words)) or "everything in memory"


class Peaks:
    """Forecast peaks of a training step by its modes: that of `train.memory`, less the encoders,
    which are freed, and less what is swapped or quantised."""

    def __init__(self, outline: Outline, options: Options, dtype: torch.dtype, side: int) -> None:
        spec = outline.spec
        numbers = sum(
            row.out_features * row.in_features for row in spec.linears if row.block is not None
        )
        self._block, self._blocks, self._dtype = numbers // spec.blocks, spec.blocks, dtype
        self._encoders = dtype.itemsize * sum(
            outline.parameters(name) for name in outline.components if name != spec.backbone
        )
        self._step = cache(
            lambda checkpointing: peak_bytes(outline, options, dtype, side, checkpointing)
        )

    def of(self, modes: Modes) -> int:
        size = self._block * (1 if modes.quantize else self._dtype.itemsize)
        # Of the swapped blocks two are on the device, the one that computes and the next.
        here = self._blocks - max(modes.swap_blocks - 2, 0)
        plain = self._block * self._dtype.itemsize * self._blocks
        step: int = self._step(modes.checkpointing)
        return step - self._encoders - plain + size * here


def quantization_facts(family: Family, options: Options, events: Events) -> dict[str, object]:
    """What a run records of quantised weights; it is said too. Nothing without them."""
    if options.quantize is None:
        return {}
    assert family.backbone is not None  # it is read now
    error = family.quantization_error
    events.note(
        f"the base's weights are in {options.quantize}: their relative error is {error:.2%}"
    )
    return {"quantization_error": round(error, 6)}


def product_dtype(options: Options, device: torch.device) -> torch.dtype:
    """What large products are computed in. Without bf16 in hardware a CPU is slower in it."""
    fast = torch.cpu.get_capabilities()
    native = device.type != "cpu" or fast.get("avx512_bf16", False) or fast.get("amx_bf16", False)
    if options.precision == "bf16" or (options.precision == "auto" and native):
        return torch.bfloat16
    return torch.float32
