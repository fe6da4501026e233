"""What other programs load of a LoRA file, by the names of its tensors.

diffusers was run (0.42.1, tests/release/test_loaders.py). The others are their own loaders as read:
ComfyUI `comfy/lora.py` and `comfy/weight_adapter/` at commit 17358c8, Forge Neo
`modules_forge/packages/comfy/lora.py`, sd-scripts `networks/lora_*.py` at 063ef10. The table in
docs/reference/lora-formats.md says the same.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from onmodel.families.protocol import Linear
from onmodel.lora.layouts import split_key, written_stem

Loader = Literal["ComfyUI", "diffusers", "sd-scripts", "Forge Neo"]
LOADERS: tuple[Loader, ...] = ("ComfyUI", "diffusers", "sd-scripts", "Forge Neo")
# What follows a layer's name in keys that a loader reads.
_COMFY_ENDING = re.compile(
    r"\.(lora_[AB]\.(default\.)?weight|lora_(down|up)\.weight|lora\.(down|up)\.weight|alpha"
    r"|dora_scale|diff|w_norm|hada_w[12]_[ab]|lokr_w[12](_[ab])?)$"
)
_ENDINGS: Mapping[Loader, re.Pattern[str]] = {
    "ComfyUI": _COMFY_ENDING,
    "Forge Neo": _COMFY_ENDING,
    "diffusers": re.compile(
        r"\.(lora_[AB]\.weight|lora\.(down|up)\.weight|lora_magnitude_vector)$"
    ),
    "sd-scripts": re.compile(
        r"\.(lora_(down|up)\.weight|alpha|hada_w[12]_[ab]|lokr_w[12](_[ab])?)$"
    ),
}


@dataclass(frozen=True)
class Stop:
    """An error with which a loader stops, and the keys that cause it."""

    error: str
    reason: str
    keys: tuple[str, ...]


def loaded_layers(loader: Loader, layers: Mapping[str, Linear]) -> set[str]:
    """The layers, by name, that a loader finds under these keys (key → layer); where it does not
    stop."""
    found = {key: row for key, row in layers.items() if _finds(loader, key, row)}
    # DoRA has its lengths twice, since each of two programs reads one of them.
    lost = {
        row.name
        for key, row in layers.items()
        if key not in found and not key.endswith((".dora_scale", ".lora_magnitude_vector"))
    }
    return {row.name for row in found.values()} - lost


def diffusers_stops(keys: Collection[str]) -> list[Stop]:
    """The errors with which diffusers refuses a file of these keys; none when it loads it or a part
    of it. It stops with the first."""
    dotted = [key for key in keys if key.startswith(("diffusion_model.", "transformer."))]
    rows = (
        ("a ValueError", "have no lora in their names", [key for key in keys if "lora" not in key]),
        (
            "an IndexError",
            "are called lora_down and lora_up, not lora_A and lora_B",
            [key for key in dotted if re.search(r"\.lora_(down|up)\.", key)],
        ),
        (
            "a NoMatchingPeftModuleError",
            "name layers that it does not have",
            [key for key in dotted if re.match(r"transformer\.(core|blocks|net)\.", key)],
        ),
    )
    return [Stop(kind, reason, tuple(found)) for kind, reason, found in rows if found]


def _finds(loader: Loader, key: str, row: Linear) -> bool:
    return _ENDINGS[loader].search(key) is not None and split_key(key)[0] in _stems(loader, row)


def _stems(loader: Loader, row: Linear) -> set[str]:
    """How keys of a layer begin that a loader reads."""
    kohya, common = written_stem(row.name, "kohya"), written_stem(row.name, "common")
    if loader == "sd-scripts":
        return {kohya}
    if loader == "diffusers":
        known = {f"{row.component or 'transformer'}.{row.diffusers}", common}
        return set() if row.component == "text_encoder" else known
    encoder = row.name.partition(".transformer.")[0]
    if loader == "Forge Neo" and row.component == "text_encoder":
        return {kohya, f"{encoder}.model.{row.diffusers}"}
    if loader == "Forge Neo" and row.component == "text_conditioner":
        return {kohya.replace("lora_unet_", "lora_te_", 1)}
    if row.component == "text_encoder":
        return {kohya, common, common.replace(f"{encoder}.", "text_encoders.", 1)}
    return {kohya, common}
