"""What other programs load of a LoRA file, by the names of its tensors.

diffusers was run. The others are their own loaders as read: ComfyUI `comfy/lora.py` and
`comfy/weight_adapter/` at commit 17358c8, Forge Neo `modules_forge/packages/comfy/lora.py`,
sd-scripts `networks/lora_*.py` at 063ef10. The table in docs/reference/lora-formats.md says the
same; what depends on the base is in its family's `loaders.py`.
"""

import re
from collections.abc import Mapping

from onmodel.families.loader_rules import Loader, LoaderRules
from onmodel.families.protocol import Linear
from onmodel.lora.layouts import split_key, written_stem

LOADERS: tuple[Loader, ...] = ("ComfyUI", "diffusers", "sd-scripts", "Forge Neo")
# What follows a layer's name in keys that a loader reads.
_COMFY_ENDING = re.compile(
    r"\.(lora_[AB]\.(default\.)?weight|lora_(down|up)\.weight|lora\.(down|up)\.weight|alpha"
    r"|dora_scale|diff|w_norm|hada_w[12]_[ab]|lokr_w[12](_[ab])?)$"
)
_ENDINGS: Mapping[Loader, re.Pattern[str]] = {
    "ComfyUI": _COMFY_ENDING,
    "Forge Neo": _COMFY_ENDING,
    "sd-scripts": re.compile(
        r"\.(lora_(down|up)\.weight|alpha|hada_w[12]_[ab]|lokr_w[12](_[ab])?)$"
    ),
}


def loaded_layers(loader: Loader, layers: Mapping[str, Linear], rules: LoaderRules) -> set[str]:
    """The layers, by name, that a loader finds under these keys (key → layer); where it does not
    stop."""
    found = {key: row for key, row in layers.items() if _finds(loader, key, row, rules)}
    # DoRA has its lengths twice, since each of two programs reads one of them.
    lost = {
        row.name
        for key, row in layers.items()
        if key not in found and not key.endswith((".dora_scale", ".lora_magnitude_vector"))
    }
    return {row.name for row in found.values()} - lost


def _finds(loader: Loader, key: str, row: Linear, rules: LoaderRules) -> bool:
    ending = rules.diffusers_ending if loader == "diffusers" else _ENDINGS[loader]
    kohya, common = written_stem(row.name, "kohya"), written_stem(row.name, "common")
    known = rules.stems(loader, row, kohya, common)
    return ending.search(key) is not None and split_key(key)[0] in known
