"""How a training computes: which ways of saving memory, as asked for and as its budget needs, and
in which number format."""

from dataclasses import replace
from functools import cache, partial

import torch

from onmodel.devices import free_memory
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.counting import backbone_bytes
from onmodel.families.modes import Modes, candidates, choose, described
from onmodel.families.protocol import Family, Outline
from onmodel.families.registry import outline_of
from onmodel.train.memory import StepBytes, run_bytes, step_bytes
from onmodel.train.networks import step_components, trained_layers
from onmodel.train.options import Options
from onmodel.train.precision import product_dtype

SHARE = 0.85  # of a card's free memory; the rest is for what a forecast does not count


def training_modes(family: Family, options: Options, side: int, events: Events) -> Modes:
    """The modes of a run on pictures of at most `side`² pixels; with a note where they were chosen.

    Raises InputError when nothing fits into a budget that was given.
    """
    device = family.device.type
    asks = device == "cuda" and options.memory_bytes is None
    free = free_memory(family.device) if asks else None
    peaks = Peaks(outline_of(family), options, family.dtype, product_dtype(options, device), side)
    chosen = planned_modes(peaks, options, device, free)
    asked = asked_modes(options, device)
    if chosen != replace(asked, swap_blocks=min(asked.swap_blocks, peaks.blocks)):
        events.note(
            f"to save memory: {described(chosen)}; {peaks.of(chosen) / 1e9:.1f} GB forecast"
        )
    return chosen


def asked_modes(options: Options, device: str) -> Modes:
    """What the settings turn on. Inputs are offloaded from a card alone: elsewhere the host's
    memory is the device's own."""
    offload = options.gradient_checkpointing == "offload"
    return Modes(
        vae_tiles=options.vae_tiles is True,
        checkpointing=offload or options.gradient_checkpointing is True,
        offload=offload and device == "cuda",
        swap_blocks=options.swap_blocks if isinstance(options.swap_blocks, int) else 0,
        quantize=options.quantize,
    )


def planned_modes(peaks: "Peaks", options: Options, device: str, free: int | None) -> Modes:
    """The modes of a run. The budget is `memory`; with "auto" what is `free` on the card, in bytes.
    On a processor "auto" has none: there checkpointing alone is chosen, by what a picture keeps.

    Raises InputError when nothing fits into a budget that was given.
    """
    asked, budget = asked_modes(options, device), options.memory_bytes
    asked = replace(asked, swap_blocks=min(asked.swap_blocks, peaks.blocks))
    if budget is None:
        if device != "cuda" or free is None:
            return asked
        budget = int(SHARE * free)

    # Elsewhere the host's memory is the device's own; other networks need their layers' weights.
    swaps = options.swap_blocks == "auto" and options.network == "lora" and device == "cuda"

    offloads = options.gradient_checkpointing == "auto" and device == "cuda"

    def pinned(modes: Modes) -> Modes:
        """What was set stays."""
        return replace(
            modes,
            vae_tiles=modes.vae_tiles if options.vae_tiles == "auto" else asked.vae_tiles,
            checkpointing=modes.checkpointing and options.gradient_checkpointing is not False,
            offload=modes.offload if offloads else asked.offload,
            swap_blocks=modes.swap_blocks if swaps else asked.swap_blocks,
        )

    def peak_of(modes: Modes) -> int:
        """Swapped blocks save nothing where the host's memory is the device's own."""
        return peaks.of(modes if device == "cuda" else replace(modes, swap_blocks=0))

    found = list(dict.fromkeys(map(pinned, candidates(peaks.blocks, asked))))
    chosen = choose(budget, peak_of, found)
    if chosen is None and options.memory != "auto":
        what = f"this training takes at least {peak_of(found[-1]) / 1e9:.1f} GB"
        raise InputError("memory", options.memory, f"{what}; {_remedies(options)}")
    return chosen or found[-1]


def _remedies(options: Options) -> str:
    """What can still be changed when nothing fits."""
    found = ["lower batch or resolution"]
    if options.gradient_checkpointing is False:
        found.insert(0, "leave out gradient_checkpointing")
    if options.train_text_encoder:
        found.append("leave out train_text_encoder")
    if options.network == "lora" and options.quantize is None:
        found.append('set quantize = "int8"')
    return ", or ".join(found)


class Peaks:
    """Forecast peaks of a training step by its modes, without encoders that are freed: products are
    taken in `products`, the base has `dtype`."""

    def __init__(
        self,
        outline: Outline,
        options: Options,
        dtype: torch.dtype,
        products: torch.dtype,
        side: int,
    ) -> None:
        spec = outline.spec
        self.blocks = spec.blocks
        self._run = run_bytes(spec, options)
        self.weights = cache(partial(backbone_bytes, outline, dtype))
        self.text = {
            name: outline.weight_bytes(name, dtype) for name in step_components(spec, options)
        }
        trained = trained_layers(spec, options) if dtype is not products else ()
        self._text_copies = products.itemsize * sum(
            row.out_features * row.in_features for row in spec.text_linears if row.name in trained
        )
        self._step = cache(partial(step_bytes, outline, options, dtype, products, side))

    def step(self, modes: Modes) -> StepBytes:
        """What a step takes beside the base's weights and the run's state."""
        return self._step(Modes(checkpointing=modes.checkpointing, offload=modes.offload))

    def copies(self, modes: Modes) -> int:
        """Bytes of trained layers' weights in another dtype. Held layers keep none; layers that
        encode text are not held."""
        held = self.blocks if modes.quantize else min(modes.swap_blocks, self.blocks)
        own = self.step(modes).copies - self._text_copies
        return own * (self.blocks - held) // self.blocks + self._text_copies

    def of(self, modes: Modes) -> int:
        step = self.step(modes).activations
        text = sum(self.text.values())
        return self.weights(modes) + text + self._run + self.copies(modes) + step


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
