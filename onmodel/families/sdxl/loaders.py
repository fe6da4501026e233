"""What other programs load of a LoRA of SDXL. diffusers was run (0.42.1,
tests/families/test_sdxl_lora.py)."""

import re
from collections.abc import Collection

from onmodel.families.loader_rules import Loader, LoaderRules, LoaderStop
from onmodel.families.protocol import Linear

_PRODUCT = re.compile(r"\.(lora_(down|up)\.weight|alpha|dora_scale)$")


def _stems(loader: Loader, row: Linear, kohya: str, common: str) -> set[str]:
    if loader == "diffusers":
        return {kohya, f"{row.component or 'unet'}.{row.diffusers}"}
    if loader == "sd-scripts":
        return {kohya}
    if row.component is None:
        return {
            kohya,
            f"lora_unet_{row.diffusers.replace('.', '_')}",
            f"diffusion_model.{row.name}",
        }
    return {kohya, f"text_encoders.{row.name}"}


def _diffusers_stops(keys: Collection[str]) -> list[LoaderStop]:
    flat = [key for key in keys if key.startswith(("lora_unet_", "lora_te1_", "lora_te2_"))]
    rows = (
        ("have no lora in their names", [key for key in keys if "lora" not in key]),
        (
            "are no lora_down, lora_up or alpha",
            [key for key in flat if not _PRODUCT.search(key)],
        ),
    )
    return [LoaderStop("a ValueError", reason, tuple(found)) for reason, found in rows if found]


RULES = LoaderRules(
    _stems,
    re.compile(
        r"\.(lora_[AB]\.weight|lora\.(down|up)\.weight|lora_(down|up)\.weight|alpha"
        r"|lora_magnitude_vector|dora_scale)$"
    ),
    _diffusers_stops,
)
