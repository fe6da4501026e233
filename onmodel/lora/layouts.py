"""The names that LoRA files give a layer, in a table built from the model's own layers.

A kohya name cannot be turned back by guessing dots (`output_proj` has an underscore of its own), so
every known spelling of every layer is written down first and then looked up.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

from onmodel.families.lora_names import LoraNames
from onmodel.families.protocol import FamilySpec, Linear
from onmodel.families.registry import lora_names
from onmodel.lora.factors import LayerShape

Layout = Literal["common", "kohya"]

# A header's words about the base that a LoRA was made for: how many blocks it has, the size of
# their inputs, and its identity (`registry.base_sha256`).
BLOCKS_KEY, WIDTH_KEY, BASE_KEY = "onmodel.blocks", "onmodel.width", "onmodel.base_sha256"

# What stands after a layer's name. PEFT puts an adapter's name, `default` or any other, before
# `.weight` or at the end.
_NAMED = r"(?:\.(?!weight$)[^.]+)?"
_ENDING = re.compile(
    rf"\.(?:(?P<down>lora_A{_NAMED}\.weight|lora_down{_NAMED}\.weight|lora\.down\.weight)"
    rf"|(?P<up>lora_B{_NAMED}\.weight|lora_up{_NAMED}\.weight|lora\.up\.weight)"
    rf"|(?P<diff>diff|w_norm)"
    rf"|lora_(?P<magnitude_vector>magnitude_vector){_NAMED}(?:\.weight)?"
    rf"|(?P<same>alpha|dora_scale|hada_w[12]_[ab]|lokr_w[12](?:_[ab])?){_NAMED})$"
)
# Parts of keys that mark an adapter which is no plain product of two matrices; DoRA is read where
# it is asked for.
REFUSED = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "oft_": "OFT",
    "boft": "OFT",
    ".b1.weight": "GLoRA",
    ".on_input": "IA3",
}
_OF_ENCODER = re.compile(
    r"(?:lora_|lycoris_)?(?:te\d?|text_encoders?|text_encoder_?\d|qwen3?\w*?|cond_stage_model"
    r"|bundle_emb)[._]"
)
# Names of modules that torch puts around others: compiled, checkpointed, and on several cards.
_WRAPPERS = re.compile(
    r"(?<![^._])(?:_orig_mod|_checkpoint_wrapped_module)[._]|(?:^|(?<=_orig_mod[._]))module[._]"
)


def name_table(spec: FamilySpec) -> dict[str, Linear]:
    """Every spelling of every layer → the layer."""
    return _table(spec.lora_linears, spec.lora_names)


@lru_cache(maxsize=4)
def _table(linears: tuple[Linear, ...], names: tuple[LoraNames, ...]) -> dict[str, Linear]:
    by_component = {one.component: one for one in names}
    table: dict[str, Linear] = {}
    for linear in linears:
        prefixes = by_component[linear.component]
        flat, flat_diffusers = (name.replace(".", "_") for name in (linear.name, linear.diffusers))
        spellings = [
            *(prefix + linear.name for prefix in prefixes.own),
            *(prefix + linear.diffusers for prefix in prefixes.diffusers),
            *(prefix + flat for prefix in prefixes.flat),
            *(prefix + flat_diffusers for prefix in prefixes.flat_diffusers),
        ]
        for name in spellings:
            assert table.setdefault(name, linear) is linear, f"{name} names two layers"
    return table


def is_difference(key: str) -> bool:
    """Whether a tensor is the difference of a whole weight or bias, as ComfyUI and LyCORIS keep
    them of norms and biases, or a weight to set; none is a product. Those of weights are read."""
    return key.endswith((".diff", ".diff_b", ".set_weight", ".w_norm", ".b_norm"))


def is_of_encoder(key: str) -> bool:
    """Whether a tensor's name begins as those of text encoders and embeddings do, whatever
    follows; layers that are read are found in `name_table`."""
    return _OF_ENCODER.match(key) is not None


def split_key(key: str) -> tuple[str, str | None]:
    """The layer's part of a key and the role of its tensor; the whole key and None when it has no
    known role."""
    match = _ENDING.search(key)
    if match is None:
        return key, None
    role = match.lastgroup
    return key[: match.start()], match["same"] if role == "same" else role


def layer_of(stem: str, table: Mapping[str, Linear]) -> Linear | None:
    """The layer that a stem names, also where torch put other modules around it."""
    return table.get(stem) or table.get(_WRAPPERS.sub("", stem))


def parse_key(key: str, table: dict[str, Linear]) -> tuple[Linear, str] | None:
    """The layer and the role of one tensor of a LoRA file, or None when the key is not known."""
    stem, role = split_key(key)
    linear = layer_of(stem, table)
    return None if linear is None or role is None else (linear, role)


def written_keys(name: str, layout: Layout) -> tuple[str, str, str | None]:
    """The keys of down, up and alpha for a layer. Where the common layout is not kohya's it has no
    alpha: it is folded into up."""
    stem = written_stem(name, layout)
    if has_alpha(name, layout):
        return f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"
    return f"{stem}.lora_A.weight", f"{stem}.lora_B.weight", None


def written_stem(name: str, layout: Layout) -> str:
    """How keys of a layer begin."""
    names = _written(name)
    if layout == "common" and names.common is not None:
        return names.common + name
    return names.kohya + name.removeprefix(names.inside).replace(".", "_")


def kernel_of(name: str) -> int:
    """The side of the kernel of a convolution; 0 of another layer."""
    return _written(name).kernel(name)


def factor_shapes(
    name: str, layer: LayerShape
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The shapes that down, up and a whole difference of a layer have in a file: those of a
    convolution have four dimensions."""
    if not (side := kernel_of(name)):
        return (layer.rank, layer.in_), (layer.out, layer.rank), layer.size
    kernel = (layer.in_ // side**2, side, side)
    return (layer.rank, *kernel), (layer.out, layer.rank, 1, 1), (layer.out, *kernel)


def has_alpha(name: str, layout: Layout) -> bool:
    """Whether a layer has an alpha tensor in a layout."""
    return layout == "kohya" or _written(name).common is None


def _written(name: str) -> LoraNames:
    """The names of the component that has a layer of this name."""
    return next(names for names in lora_names() if name.startswith(names.starts))
