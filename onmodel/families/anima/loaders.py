"""What other programs load of a LoRA of Anima. diffusers was run (0.42.1,
tests/release/test_loaders.py)."""

import re
from collections.abc import Collection

from onmodel.families.loader_rules import Loader, LoaderRules, LoaderStop
from onmodel.families.protocol import Linear


def _stems(loader: Loader, row: Linear, kohya: str, common: str) -> set[str]:
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


def _diffusers_stops(keys: Collection[str]) -> list[LoaderStop]:
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
    return [LoaderStop(kind, reason, tuple(found)) for kind, reason, found in rows if found]


RULES = LoaderRules(
    _stems,
    re.compile(r"\.(lora_[AB]\.weight|lora\.(down|up)\.weight|lora_magnitude_vector)$"),
    _diffusers_stops,
    left_out=frozenset({"text_encoder"}),
)
