"""The names that LoRA files give a layer, in a table built from the model's own layers.

A kohya name cannot be turned back by guessing dots (`output_proj` has an underscore of its own), so
every known spelling of every layer is written down first and then looked up.
"""

import re
from functools import lru_cache
from typing import Literal

from onmodel.families.protocol import FamilySpec, Linear, LoraNames
from onmodel.lora.factors import Component

Layout = Literal["common", "kohya"]

BLOCKS_KEY = (
    "onmodel.blocks"  # a header's word: how many blocks the base has that a LoRA was made for
)

# What stands after a layer's name. PEFT puts an adapter's name, `default` or any other, before
# `.weight` or at the end.
_NAMED = r"(?:\.(?!weight$)[^.]+)?"
_ENDING = re.compile(
    rf"\.(?:(?P<down>lora_A{_NAMED}\.weight|lora_down{_NAMED}\.weight|lora\.down\.weight)"
    rf"|(?P<up>lora_B{_NAMED}\.weight|lora_up{_NAMED}\.weight|lora\.up\.weight)"
    rf"|lora_(?P<magnitude_vector>magnitude_vector){_NAMED}(?:\.weight)?"
    rf"|(?P<same>alpha|dora_scale|hada_w[12]_[ab]|lokr_w[12](?:_[ab])?){_NAMED})$"
)
# Parts of keys that mark an adapter which is no plain product of two matrices; DoRA is read where
# it is asked for.
REFUSED = {"dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "oft_": "OFT", "boft": "OFT"}


# How keys of a text encoder's layers begin, in kohya's, diffusers', PEFT's and ComfyUI's files.
_TEXT_ENCODER_PREFIXES = (
    "lora_te_",
    "lora_te1_",
    "lora_te2_",
    "text_encoder",
    "base_model.model.text_encoder",
)


def component_of(key: str) -> Component:
    """The component of the base that a tensor of a LoRA file changes, by its key."""
    if "llm_adapter" in key or key.startswith("text_conditioner."):
        return "text_conditioner"
    return "text_encoder" if key.startswith(_TEXT_ENCODER_PREFIXES) else "transformer"


def name_table(spec: FamilySpec) -> dict[str, Linear]:
    """Every spelling of every layer → the layer."""
    return _table(spec.linears, spec.lora_names)


@lru_cache(maxsize=4)
def _table(linears: tuple[Linear, ...], prefixes: LoraNames) -> dict[str, Linear]:
    table: dict[str, Linear] = {}
    for linear in linears:
        names = [prefix + linear.name for prefix in prefixes.own]
        names += [prefix + linear.diffusers for prefix in prefixes.diffusers]
        for prefix in prefixes.flat:
            names += [
                prefix + linear.name.replace(".", "_"),
                prefix + linear.diffusers.replace(".", "_"),
            ]
        for name in names:
            assert table.setdefault(name, linear) is linear, f"{name} names two layers"
    return table


def split_key(key: str) -> tuple[str, str | None]:
    """The layer's part of a key and the role of its tensor; the whole key and None when it has no
    known role."""
    match = _ENDING.search(key)
    if match is None:
        return key, None
    role = match.lastgroup
    return key[: match.start()], match["same"] if role == "same" else role


def parse_key(key: str, table: dict[str, Linear]) -> tuple[Linear, str] | None:
    """The layer and the role of one tensor of a LoRA file, or None when the key is not known."""
    stem, role = split_key(key)
    linear = table.get(stem)
    return None if linear is None or role is None else (linear, role)


def written_keys(name: str, layout: Layout) -> tuple[str, str, str | None]:
    """The keys of down, up and alpha for a layer. The common layout has no alpha: it is folded into
    up."""
    if layout == "kohya":
        flat = "lora_unet_" + name.replace(".", "_")
        return f"{flat}.lora_down.weight", f"{flat}.lora_up.weight", f"{flat}.alpha"
    return f"diffusion_model.{name}.lora_A.weight", f"diffusion_model.{name}.lora_B.weight", None
