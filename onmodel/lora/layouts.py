"""The names that LoRA files give a layer, in a table built from the model's own layers.

A kohya name cannot be turned back by guessing dots (`output_proj` has an underscore of its own), so
every known spelling of every layer is written down first and then looked up.
"""

from functools import lru_cache
from typing import Literal

from onmodel.families.protocol import FamilySpec, Linear, LoraNames
from onmodel.lora.factors import Component

Layout = Literal["common", "kohya"]

BLOCKS_KEY = (
    "onmodel.blocks"  # a header's word: how many blocks the base has that a LoRA was made for
)

# What stands after a layer's name → what the tensor is.
ROLES = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".alpha": "alpha",
    ".dora_scale": "dora_scale",
    ".lora_magnitude_vector": "magnitude_vector",
    ".lora_magnitude_vector.weight": "magnitude_vector",
    ".hada_w1_a": "hada_w1_a",
    ".hada_w1_b": "hada_w1_b",
    ".hada_w2_a": "hada_w2_a",
    ".hada_w2_b": "hada_w2_b",
    ".lokr_w1": "lokr_w1",
    ".lokr_w1_a": "lokr_w1_a",
    ".lokr_w1_b": "lokr_w1_b",
    ".lokr_w2": "lokr_w2",
    ".lokr_w2_a": "lokr_w2_a",
    ".lokr_w2_b": "lokr_w2_b",
}
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


def parse_key(key: str, table: dict[str, Linear]) -> tuple[Linear, str] | None:
    """The layer and the role of one tensor of a LoRA file, or None when the key is not known."""
    for ending, role in ROLES.items():
        if key.endswith(ending) and (linear := table.get(key.removesuffix(ending))) is not None:
            return linear, role
    return None


def written_keys(name: str, layout: Layout) -> tuple[str, str, str | None]:
    """The keys of down, up and alpha for a layer. The common layout has no alpha: it is folded into
    up."""
    if layout == "kohya":
        flat = "lora_unet_" + name.replace(".", "_")
        return f"{flat}.lora_down.weight", f"{flat}.lora_up.weight", f"{flat}.alpha"
    return f"diffusion_model.{name}.lora_A.weight", f"diffusion_model.{name}.lora_B.weight", None
