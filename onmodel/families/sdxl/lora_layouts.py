"""Names of SDXL's tensors: the single files that ComfyUI, A1111 and sd-scripts read ↔ the diffusers
classes.

A single file counts the parts of the U-Net through: `input_blocks.0` … , `middle_block`,
`output_blocks.0` … (https://github.com/Stability-AI/generative-models). These are the blocks of a
LoRA: those of the input first, then the middle, then those of the output; SDXL has 9 + 1 + 9. The
U-Net has three levels of so many residual `layers` each, and the two inner ones attend to text.
"""

import re
from collections.abc import Iterable, Iterator

from onmodel.families.lora_names import LoraNames

LEVELS = 3
_MOST_LAYERS = 4  # of a level
_MOST_DEPTH = 10  # transformer blocks in a row
_MOST_TEXT_LAYERS = 32
# How ComfyUI's models call the layers of the text encoders, before their name in transformers.
TEXT_PREFIX = {
    "text_encoder": "clip_l.transformer.text_model.",
    "text_encoder_2": "clip_g.transformer.text_model.",
}
# What stands before the same in the classes of transformers.
TEXT_PATH = {"text_encoder": "", "text_encoder_2": "text_model."}
_FLAT = ("lora_unet_", "lycoris_", "lycoris_unet_")
LORA_NAMES = (
    LoraNames(
        component=None,
        starts=("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb."),
        common=None,  # all programs read kohya's keys, and no other ones
        kohya="lora_unet_",
        own=("diffusion_model.", "model.diffusion_model.", "base_model.model.", ""),
        diffusers=("unet.", "base_model.model.unet.", "base_model.model.", ""),
        flat=_FLAT,
        flat_diffusers=_FLAT,
        kernels=(
            (".in_layers.2", 3),
            (".out_layers.3", 3),
            (".skip_connection", 1),
            (".op", 3),
            (".conv", 3),
        ),
    ),
    LoraNames(
        component="text_encoder",
        starts=(TEXT_PREFIX["text_encoder"],),
        common=None,
        kohya="lora_te1_text_model_",
        inside=TEXT_PREFIX["text_encoder"],
        own=("", "text_encoders."),
        diffusers=(
            "text_encoder.",
            "text_encoder.text_model.",
            "base_model.model.text_encoder.text_model.",
        ),
        flat=("lora_",),
        flat_diffusers=("lora_te1_text_model_", "lora_te1_", "lycoris_te1_text_model_"),
    ),
    LoraNames(
        component="text_encoder_2",
        starts=(TEXT_PREFIX["text_encoder_2"],),
        common=None,
        kohya="lora_te2_text_model_",
        inside=TEXT_PREFIX["text_encoder_2"],
        own=("", "text_encoders."),
        diffusers=("text_encoder_2.", "base_model.model.text_encoder_2."),
        flat=("lora_",),
        flat_diffusers=("lora_te2_", "lycoris_te2_"),
    ),
)

_OUTER = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESIDUAL = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_PART = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_BLOCK = re.compile(r"(input_blocks|output_blocks)[._](\d{1,3})[._]")
_DIFFUSERS_BLOCK = re.compile(r"(down|up)_blocks[._](\d{1,3})[._](resnets|attentions)[._](\d{1,3})")


def blocks_of_layers(layers: int) -> int:
    """How many blocks a U-Net has: the input and the output count its convolution and the two
    places where the sides are halved, too."""
    return 2 * LEVELS * (layers + 1) + 1


def layers_of_blocks(blocks: int) -> int:
    """The reverse, for a number of blocks that a U-Net can have."""
    return (blocks - 1) // (2 * LEVELS) - 1


def count_blocks(keys: Iterable[str]) -> int:
    """The number of blocks in names of tensors or layers: that of the smallest U-Net that has them
    all."""
    layers = 1
    for key in keys:
        if match := _BLOCK.search(key):
            layers = max(layers, int(match[2]) // LEVELS)
        elif match := _DIFFUSERS_BLOCK.search(key):
            # the output has one residual layer more at each level
            layers = max(layers, int(match[4]) + (match[1] == "down"))
    return blocks_of_layers(min(layers, _MOST_LAYERS))


def lora_blocks(keys: Iterable[str], said: int) -> int:
    """The number of blocks of the base of a LoRA with these keys, whose header says `said` or 0:
    SDXL's where it says none, since diffusers' names depend on it."""
    known = [blocks_of_layers(layers) for layers in range(1, _MOST_LAYERS + 1)]
    return max(said if said in known else blocks_of_layers(2), count_blocks(keys))


def unet_name(name: str, layers: int) -> str:
    """`down_blocks.1.attentions.0.proj_in.weight` → `input_blocks.4.1.proj_in.weight`; modules and
    tensors alike. Raises KeyError for a name that no U-Net of SDXL has."""
    if name.startswith("mid_block."):
        _, kind, number, inside = name.split(".", 3)
        return f"middle_block.{_MIDDLE[f'{kind}.{number}']}.{_inner(kind, inside)}"
    if match := _PART.match(name):
        side, level, kind, place = match[1], int(match[2]), match[3], int(match[4])
        rest = name[match.end() + 1 :]
        first = level * (layers + 1)
        if side == "down":
            if kind == "downsamplers":
                return f"input_blocks.{1 + first + layers}.0.op{rest.removeprefix('conv')}"
            stem = f"input_blocks.{1 + first + place}"
        elif kind == "upsamplers":
            return f"output_blocks.{first + layers}.2.{rest}"
        else:
            stem = f"output_blocks.{first + place}"
        return f"{stem}.{0 if kind == 'resnets' else 1}.{_inner(kind, rest)}"
    for old, new in _OUTER.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    raise KeyError(name)


def _inner(kind: str, rest: str) -> str:
    head, dot, tail = rest.partition(".")
    return (_RESIDUAL[head] if kind == "resnets" else head) + dot + tail


def block_of(own_name: str, blocks: int) -> int | None:
    """The block of a layer of the U-Net, from its name in a single file; None outside of them and
    for the convolution of the input, which is no place to adapt."""
    inputs = (blocks - 1) // 2
    part, _, rest = own_name.partition(".")
    number = rest.partition(".")[0]
    match part:
        case "input_blocks":
            return int(number)
        case "middle_block":
            return inputs
        case "output_blocks":
            return inputs + 1 + int(number)
        case _:
            return None


_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TRANSFORMER_LINEARS = (
    *(f"attn1.{name}" for name in _ATTENTION),
    *(f"attn2.{name}" for name in _ATTENTION),
    "ff.net.0.proj",
    "ff.net.2",
)


def linear_names(blocks: int) -> list[tuple[str, str]]:
    """(own, diffusers) of every linear layer that a U-Net with that many blocks may have."""
    layers = layers_of_blocks(blocks)
    names = [name for name in _OUTER if "embedding" in name]
    for stem in _stems(layers):
        if "resnets" in stem:
            names.append(f"{stem}.time_emb_proj")
            continue
        names += [f"{stem}.proj_in", f"{stem}.proj_out"]
        for depth in range(_MOST_DEPTH):
            names += [f"{stem}.transformer_blocks.{depth}.{one}" for one in TRANSFORMER_LINEARS]
    return [(unet_name(name, layers), name) for name in names]


def convolution_names(blocks: int) -> list[tuple[str, str]]:
    """(own, diffusers) of every convolution inside the blocks of a U-Net with that many, which
    sd-scripts and LyCORIS adapt as LoCon."""
    layers = layers_of_blocks(blocks)
    names = []
    for stem in _stems(layers):
        if "resnets" in stem:
            names += [f"{stem}.{one}" for one in ("conv1", "conv2", "conv_shortcut")]
    for level in range(LEVELS - 1):
        names += [
            f"down_blocks.{level}.downsamplers.0.conv",
            f"up_blocks.{level}.upsamplers.0.conv",
        ]
    return [(unet_name(name, layers), name) for name in names]


def _stems(layers: int) -> Iterator[str]:
    """Every place of a residual layer and of a transformer, in diffusers' names and in the order in
    which they compute."""
    for level in range(LEVELS):
        for layer in range(layers):
            yield f"down_blocks.{level}.resnets.{layer}"
            if level:
                yield f"down_blocks.{level}.attentions.{layer}"
    yield from ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")
    for level in range(LEVELS):
        for layer in range(layers + 1):
            yield f"up_blocks.{level}.resnets.{layer}"
            if level < LEVELS - 1:
                yield f"up_blocks.{level}.attentions.{layer}"


_TEXT_LINEARS = (
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.q_proj",
    "self_attn.out_proj",
    "mlp.fc1",
    "mlp.fc2",
)


def text_linear_names() -> list[tuple[str, str, str]]:
    """(component, own, path of the module) of every linear layer of text encoders that are at most
    so large. Only the class of the second one has a `text_model`."""
    found = []
    for component, own in TEXT_PREFIX.items():
        path = TEXT_PATH[component]
        for layer in range(_MOST_TEXT_LAYERS):
            stem = f"encoder.layers.{layer}."
            found += [(component, own + stem + one, path + stem + one) for one in _TEXT_LINEARS]
    return found


_VAE_RESIDUAL = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def vae_name(name: str, levels: int) -> str:
    """A diffusers name of `AutoencoderKL` → that in a single file. `levels`: how many it has."""
    side, _, rest = name.partition(".")
    if match := re.match(r"mid_block\.attentions\.0\.(.+)\.(weight|bias)$", rest):
        return f"{side}.mid.attn_1.{_VAE_ATTENTION[match[1]]}.{match[2]}"
    if match := re.match(r"mid_block\.resnets\.(\d)\.(.+)", rest):
        return f"{side}.mid.block_{int(match[1]) + 1}.{_vae_residual(match[2])}"
    if match := re.match(r"(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.(.+)", rest):
        level = int(match[2]) if match[1] == "down" else levels - 1 - int(match[2])
        return f"{side}.{match[1]}.{level}.block.{match[3]}.{_vae_residual(match[4])}"
    if match := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.(.+)", rest):
        return f"{side}.down.{match[1]}.downsample.{match[2]}"
    if match := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.(.+)", rest):
        return f"{side}.up.{levels - 1 - int(match[1])}.upsample.{match[2]}"
    return name.replace("conv_norm_out", "norm_out")


def _vae_residual(rest: str) -> str:
    head, dot, tail = rest.partition(".")
    return _VAE_RESIDUAL.get(head, head) + dot + tail


# OpenCLIP's names of the second text encoder, from those of transformers.
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
}
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def open_clip_name(name: str) -> str:
    """A name of `CLIPTextModelWithProjection` → OpenCLIP's. The three projections that go into its
    attention are one tensor there, `attn.in_proj_weight` or `_bias`: this gives its name for each.
    """
    if name == "text_projection.weight":
        return "text_projection"
    name = name.removeprefix("text_model.")
    if match := re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$", name):
        stem = f"transformer.resblocks.{match[1]}"
        if match[2] in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            return f"{stem}.attn.in_proj_{match[3]}"
        return f"{stem}.{_OPEN_CLIP_LAYER[match[2]]}.{match[3]}"
    for old, new in _OPEN_CLIP.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    raise KeyError(name)
