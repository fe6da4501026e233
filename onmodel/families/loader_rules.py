"""What other programs load of a LoRA file, as each family's `loaders.py` says it."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from onmodel.families.protocol import Linear

Loader = Literal["ComfyUI", "diffusers", "sd-scripts", "Forge Neo"]  # programs that read LoRA files


@dataclass(frozen=True, slots=True)
class LoaderStop:
    """An error with which a loader stops, and the keys that cause it."""

    error: str
    reason: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LoaderRules:
    """What other programs load of a family's LoRA files.

    `stems`: how keys of a layer begin that a program reads, from the layer, its stem in kohya's
    layout and in the common one; `diffusers_ending`: what follows in keys that diffusers reads;
    `diffusers_stops`: the errors with which it refuses a file of such keys; `left_out`: components
    that it leaves out.
    """

    stems: Callable[[Loader, Linear, str, str], Collection[str]]
    diffusers_ending: re.Pattern[str]
    diffusers_stops: Callable[[Collection[str]], list[LoaderStop]]
    left_out: frozenset[str] = frozenset()
